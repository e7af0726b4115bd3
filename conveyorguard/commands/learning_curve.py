"""Test figures of a run by the number of devices it is trained on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from conveyorguard.commands.train import train, unfinished
from conveyorguard.config.saved import merge_saved
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.metrics.resampling import Arm, resample
from conveyorguard.runs.derive import as_predictions
from conveyorguard.runs.provenance import config_hash
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import locked


def counts_of(text: str) -> list[int]:
    """Read `4,8,16` as sorted numbers of devices.

    Raises:
        ConfigError: the text is no list of whole numbers from 1.
    """
    parts = text.split(",")
    if not all(part.strip().isdigit() and int(part) for part in parts):
        raise ConfigError(f"curve={text}: expected numbers of devices; write for example curve=4,8,16")
    return sorted({int(part) for part in parts})


def learning_curve(
    runs: dict[str, SavedRun], counts: Iterable[int], folder: Path, overrides: list[str]
) -> pd.DataFrame:
    """Train the config of each run on fewer train devices and return the test score by number of devices.

    Validation and test stay as they are. A finished run of the same config in the folder is reused, and a network that
    was interrupted is resumed.

    Args:
        runs: by label.
        counts: numbers of train devices.
        folder: of the new run directories, <label>-<count>.
        overrides: of the runs' configs, such as data.root=PATH.

    Returns:
        A row per run: arm, devices, run, macro_f1 with its interval.
    """
    rows = []
    for label, run in runs.items():
        for count in counts:
            trained = train_on_devices(run, count, folder / f"{label.replace(' ', '_')}-{count:02d}", overrides)
            part = list(trained.metrics)[-1]
            windows = trained.predictions[trained.predictions["split"] == part]
            resampling = resample(windows["session"].to_numpy(), windows["device"].to_numpy())
            score = Arm([as_predictions(windows, trained.answer)], resampling).interval("macro_f1")
            rows.append(
                {
                    "arm": label,
                    "devices": count,
                    "run": trained.folder.name,
                    "macro_f1": score.value,
                    "macro_f1_low": score.low,
                    "macro_f1_high": score.high,
                }
            )
    return pd.DataFrame(rows)


def train_on_devices(run: SavedRun, count: int, folder: Path, overrides: list[str]) -> SavedRun:
    """Return the finished run on a number of train devices: that of the folder, else resumed, else trained.

    Anything else in the folder is removed.
    """
    saved = run.config.copy()
    OmegaConf.update(saved, "split.train_devices", None, force_add=True)  # older runs do not have the key
    cfg = merge_saved(saved, [*overrides, f"split.train_devices={count}"], run.provenance)
    cfg.threads = run.provenance["threads"]
    OmegaConf.set_struct(cfg, False)
    return trained(cfg, folder, [])


def trained(cfg: DictConfig, folder: Path, overrides: list[str], draw: bool = True) -> SavedRun:
    """Return the finished run of a config in a folder, else resume it, else train it.

    Anything else in the folder is removed.

    Args:
        overrides: of the config, for the command in the run's provenance.
        draw: the page and the model card.
    """
    if run := finished(folder, cfg):
        return run
    if not unfinished(cfg, folder):
        shutil.rmtree(folder, ignore_errors=True)
    with locked(folder):
        train(cfg, folder, overrides, draw)
    return SavedRun(folder)


def finished(folder: Path, cfg: DictConfig) -> SavedRun | None:
    """Return the run in a folder if it is finished and has this config."""
    try:
        run = SavedRun(folder)
    except RunError:
        return None
    config = run.config.copy()
    config.ckpt_path = None  # set in a run that was resumed
    same = config_hash(config) == config_hash(cfg)
    return run if same and run.provenance.get("status") == "complete" else None
