"""Run an exported file in ONNX Runtime, to compare it with the run's own model and to time it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conveyorguard.errors import RunError

TOLERANCE = 1e-4  # largest difference of a probability from the run's own model
REPEATS = 200  # measurements of the latency


def check_agreement(path: Path, feed: dict[str, np.ndarray], p: np.ndarray, calibrated: np.ndarray) -> dict[str, Any]:
    """Compare the file with the run's own model, on all windows at once and on one alone.

    Args:
        path: the exported file.
        feed: inputs of n windows by name.
        p: the model's probabilities as trained, (n, K).
        calibrated: the model's calibrated probabilities, (n, K).

    Returns:
        windows (their number), largest_difference and tolerance of a probability.

    Raises:
        RunError: they differ by more than the tolerance; the file is removed.
    """
    session = _session(path)
    exported, exported_calibrated = session.run(["probabilities", "calibrated"], feed)
    single = session.run(["probabilities"], {name: values[:1] for name, values in feed.items()})[0]
    pairs = [(exported, p), (single, p[:1]), (exported_calibrated, calibrated)]
    difference = float(np.max([np.abs(actual - expected).max() for actual, expected in pairs]))
    if not difference <= TOLERANCE:
        path.unlink()
        raise RunError(
            f"{path}: in ONNX Runtime its probabilities differ from the run's own model by up to {difference:.2g} on "
            f"{len(p)} windows, more than {TOLERANCE:g}; the file is not kept. Predict with the run instead"
        )
    return {"windows": len(p), "largest_difference": difference, "tolerance": TOLERANCE}


def measure_latency(path: Path, feed: dict[str, np.ndarray], predict_own: Callable[[], Any]) -> dict[str, float]:
    """Return the median time of one window on one core [ms], of ONNX Runtime and of the run's own model.

    Args:
        path: the exported file.
        feed: inputs of one window by name.
        predict_own: predicts that window with the run's own model, reading the store.
    """
    session, threads = _session(path, 1), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            "onnxruntime": _median_ms(lambda: session.run(None, feed), REPEATS),
            "own": _median_ms(predict_own, REPEATS // 10),
        }
    finally:
        torch.set_num_threads(threads)


def _session(path: Path, threads: int = 0) -> Any:
    """Open a file in ONNX Runtime on the CPU; 0 threads leaves their number to it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _median_ms(call: Callable[[], Any], repeats: int) -> float:
    """Return the median time of a call [ms], after three calls that do not count."""
    times = []
    for _ in range(repeats + 3):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return round(float(np.median(times[3:])), 4)
