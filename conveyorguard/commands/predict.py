"""Apply a run to recordings, or watch a folder of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from conveyorguard.commands.words.defaults import data_config, new_folder
from conveyorguard.commands.words.parser import VerbParser

if TYPE_CHECKING:
    from omegaconf import DictConfig

PARSER = VerbParser(
    "predict RUN data.root=NEW [KEY=VALUE ...] [out=FOLDER] [--watch] [disk=20GB]",
    """\
Predict states and alarms of recordings, labelled or not. For every second and window: the state, calibrated
probabilities, alarms at the run's operating point, and what is unlike the training data (values outside its range,
missing channels, dead sensors). The files are read as those of the training were; data=NAME reads them as another data
set with the same channels. One session is in memory at a time, so their number is not limited. RUN may be an ensemble,
whose members are loaded from where they were. alarms.KEY=VALUE, such as alarms.miss_rate=0.05, chooses the alarm
threshold anew on the run's validation predictions, without training; alarms.json says how.

Writes predictions.parquet (a row per window), seconds.parquet, alarms.csv, recordings.csv and predictions.html into
FOLDER, by default a new one in outputs/; with --watch outputs/watch/<folder>-<run>, where each day starts a new
windows.csv and the oldest are removed above disk=20GB.""",
    """\
predict RUN data.root=NEW
predict RUN --config-dir conf data=plant data.root=NEW
predict RUN data.root=NEW alarms.max_false_per_week=5
predict RUN data.root=FOLDER --watch           while a collector writes into it""",
    paths="1",
    settings=["out", "disk"],
)
PARSER.add_argument(
    "--watch",
    action="store_true",
    help="follow the folder, print each alarm; Ctrl-C stops, the same command resumes",
)


def main(arguments: list[str]) -> None:
    """Predict recordings, or watch a folder; print the summary and the page's path."""
    from conveyorguard.commands.batch_prediction import predict_all, terminal_summary, write_alarms
    from conveyorguard.commands.words.alarms import alarms_with, without_alarms
    from conveyorguard.config.saved import plain_values
    from conveyorguard.inference.loaded_ensemble import load_any

    words = PARSER.parse_words(arguments)
    if "disk" in words.settings and not words.options.watch:
        PARSER.error("disk= is the cap on the files of --watch; add --watch, or leave it out")
    loaded = load_any(words.path)
    words, alarm_words = without_alarms(words)
    config = data_config(loaded.run, words)
    data = plain_values(config)["data"]
    if alarm_words:
        loaded.choose_alarms(alarms_with(loaded.run.alarm_settings, alarm_words), alarm_words)
    if words.options.watch:
        from conveyorguard.inference.journal import DISK
        from conveyorguard.inference.watch import watch
        from conveyorguard.reporting.alarm_sentences import threshold_choice

        folder = words.out or _watch_folder(config, words.path)
        if loaded.overrides:
            if loaded.point:
                print(f"alarms: threshold {loaded.point.on:.3f}. {threshold_choice(loaded.alarms)}")
            write_alarms(loaded, folder)
        watch(loaded, data, folder, words.settings.get("disk", DISK))
        return
    out = words.out or new_folder("predict")
    totals, page = predict_all(loaded, data, out)
    print(terminal_summary(loaded, totals, out))
    print(page)


def _watch_folder(config: DictConfig, run: Path) -> Path:
    """Return where a watch writes: the same folder each time, so that it goes on where it was."""
    return Path("outputs") / "watch" / f"{Path(config.data.root).resolve().name}-{run.resolve().name}"
