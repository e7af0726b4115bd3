"""Write the results of a fitted model into its run directory; save a model fitted from Python as a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf

from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.windows import Windows
from conveyorguard.evaluation.shortcuts import judged_shortcuts
from conveyorguard.inference.predict import latency_ms, predict
from conveyorguard.metrics.alarm_settings import AlarmSettings
from conveyorguard.reporting.model_card import write_card
from conveyorguard.reporting.report import write_report
from conveyorguard.runs.examples import choose_examples
from conveyorguard.runs.out_of_fold import is_out_of_fold, predicted_by_folds
from conveyorguard.runs.predictions import prediction_table
from conveyorguard.runs.writer import Run
from conveyorguard.system.files import write_parquet
from conveyorguard.training.module import WindowClassifier

if TYPE_CHECKING:
    from conveyorguard.training.fit_tabular import TabularClassifier


def write_results(
    run: Run,
    model: WindowClassifier | TabularClassifier,
    data: Windows,
    inputs: list[str],
    parts: Sequence[str],
) -> dict[str, Any]:
    """Predict parts of the split and write predictions, metrics, calibration, operating point, shortcut baselines,
    examples and importances.

    Where validation is out of fold, its predictions are those of the folds' runs.

    Args:
        run: the open run directory.
        model: fitted.
        data: the windows it was fitted on, with their split.
        inputs: of the model.
        parts: of the split to predict, in the order of the tables.

    Returns:
        The content of `metrics.json`.
    """
    out_of_fold = is_out_of_fold(data.split.settings)
    tables = [predicted_by_folds(data.split.settings, data)] if out_of_fold else []
    for part in parts[1:] if out_of_fold else parts:
        windows = data.judged(part)
        dataset = WindowDataset(data.store, windows, data.settings, inputs)
        probabilities = predict(model, dataset)
        tables.append(prediction_table(windows, part, probabilities))
    metrics = run.write_predictions(tables, data.store.schema, data.settings)
    write_parquet(run.folder / "shortcuts.parquet", judged_shortcuts(data, list(parts)))
    choose_examples(data, part, probabilities, run.folder / "examples.npz")
    if not isinstance(model, WindowClassifier):
        from conveyorguard.training.fit_tabular import importance  # slow to import

        importance(model, data).to_csv(run.folder / "importance.csv", index=False, float_format="%.6g")
    run.note(
        parameters=model.parameter_count,
        model_bytes=model.size_in_bytes,
        latency_ms=round(latency_ms(model, dataset), 3),
    )
    return metrics


def save_run(
    folder: str | Path, model: WindowClassifier | TabularClassifier, data: Windows, name: str = "recordings"
) -> dict[str, Any]:
    """Save a model that was fitted from Python as a run directory, as train.py leaves one.

    It holds the predictions of validation and test, metrics, card and page.

    Args:
        folder: the folder that the model was fitted in.
        model: returned by `fit` or `fit_tabular`.
        data: the windows it was fitted on.
        name: of the data set, shown on the pages.

    Returns:
        The content of `metrics.json`: `val` and `test` as trained, `now` as deployed.
    """
    folder = Path(folder)
    inputs = [name for name in model.inputs if name != "environment"]
    config = {
        "data": {"name": name, "root": None, "schema": data.store.schema.to_dict(), "limits": []},
        "window": data.settings.in_seconds(),
        "split": data.split.settings,
        "modality": "both" if len(inputs) > 1 else {"sensors": "sensor", "thermal": "image"}[inputs[0]],
        "inputs": inputs,
        "film": "environment" in model.inputs,
        "film_input": "environment",
        "objective": "val/macro_f1",
        "alarms": AlarmSettings().to_dict(),
        "test": True,
        "threads": torch.get_num_threads(),
        "ckpt_path": None,
        **{key: value for key, value in model.config.items() if key != "data"},
    }
    with Run(OmegaConf.create(config), folder, []) as run:
        on_gpu = isinstance(model, WindowClassifier) and model.device.type == "cuda"
        run.describe(data, [], torch.get_num_threads(), torch.cuda.get_device_name() if on_gpu else "cpu")
        metrics = write_results(run, model, data, model.inputs, ("val", "test"))
    write_card(folder)
    write_report(folder)
    return metrics
