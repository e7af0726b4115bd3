"""Apply a run to recordings, or watch a folder of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conveyorguard.commands.arguments import data_of, new_folder, one_path, take_options

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main(arguments: list[str]) -> None:
    """predict RUN data.root=NEW [data=NAME ...] [out=DIRECTORY] [--watch]

    Apply a trained run to recordings, labelled or not: the state of every second and window with calibrated
    probabilities, alarms at the run's operating point, and what in each recording is unlike the training (values
    outside its range, missing channels, dead sensors). The data are read as those of the training, those of a simulated
    training as AI Hub archives; data=NAME reads them as another data set with the same channels. Recordings are taken
    one after another, so their number is not limited by memory.

    Writes predictions.parquet (a row a window), seconds.parquet, alarms.csv, recordings.csv and predictions.html into
    `out`, by default a new directory in outputs/.

    --watch follows a folder into which a collector writes, frame by frame (AI Hub files) or line by line (csv): each
    alarm is printed and appended to alarms.csv when the last second of its window is there. Stop it with Ctrl-C; the
    same command goes on where it was, however it ended. It writes into `out`, by default outputs/watch/<folder>-<run>.
    """
    from conveyorguard.commands.predict_recordings import predict_all, terminal_summary
    from conveyorguard.config.saved import plain_values
    from conveyorguard.inference.loaded_run import LoadedRun

    folder, words = one_path([a for a in arguments if a != "--watch"], "predict RUN data.root=NEW [--watch]")
    options, overrides = take_options(words, "out")
    out = Path(options["out"]) if "out" in options else None
    loaded = LoadedRun(folder)
    config = data_of(loaded.run, overrides)
    data = plain_values(config)["data"]
    if "--watch" in arguments:
        from conveyorguard.inference.watch import watch

        watch(loaded, data, out or _watch_folder(config, folder))
        return
    out = out or new_folder("predict")
    totals, page = predict_all(loaded, data, out)
    print(terminal_summary(loaded, totals, out))
    print(page)


def _watch_folder(config: DictConfig, run: Path) -> Path:
    """Where a watch writes: the same place each time, so that it goes on where it was."""
    return Path("outputs") / "watch" / f"{Path(config.data.root).resolve().name}-{run.resolve().name}"
