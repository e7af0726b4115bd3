"""The exported file in ONNX Runtime: whether it agrees with the run's own model, and how fast it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from conveyorguard.errors import RunError

TOLERANCE = 1e-4  # of a probability, against the run's own model
REPEATS = 200  # of the latency's measurement


def check_agreement(path: Path, feed: dict[str, np.ndarray], p: np.ndarray, calibrated: np.ndarray) -> dict[str, Any]:
    """Hold the file against the run's own model, all windows at once and one alone.

    Args:
        feed: inputs of n windows. p, calibrated: the model's probabilities, (n, K).

    Raises:
        RunError: they differ; the file is removed.
    """
    session = _session(path)
    exported, exported_calibrated = session.run(["probabilities", "calibrated"], feed)
    alone = session.run(["probabilities"], {name: values[:1] for name, values in feed.items()})[0]
    pairs = [(exported, p), (alone, p[:1]), (exported_calibrated, calibrated)]
    difference = float(np.max([np.abs(given - expected).max() for given, expected in pairs]))
    if not difference <= TOLERANCE:
        path.unlink()
        raise RunError(
            f"ONNX Runtime gives probabilities that differ by up to {difference:.2g} on {len(p)} windows, more than "
            f"{TOLERANCE:g}; the file is not kept"
        )
    return {"windows": len(p), "largest_difference": difference, "tolerance": TOLERANCE}


def measure_latency(path: Path, feed: dict[str, np.ndarray], own: Callable[[], Any]) -> dict[str, float]:
    """Median time of one window [ms] on one core: ONNX Runtime, and the run's own model from the store."""
    session, threads = _session(path, 1), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return {
            "onnxruntime": _median_ms(lambda: session.run(None, feed), REPEATS),
            "own": _median_ms(own, REPEATS // 10),
        }
    finally:
        torch.set_num_threads(threads)


def _session(path: Path, threads: int = 0) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _median_ms(call: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats + 3):
        began = time.perf_counter()
        call()
        times.append(1e3 * (time.perf_counter() - began))
    return round(float(np.median(times[3:])), 4)
