"""The command line shared by all stages: arguments, progress, exit status."""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from conveyorguard.errors import ConfigError, ConveyorGuardError
from conveyorguard.system.files import locked
from conveyorguard.system.progress import bar_over_all
from experiments.stages.study import QUESTION, SMALL, TITLES, Overrides, Stage, StagedStudy

SEARCH = "04_dl_tuning"  # the stage that the overrides `sweep.*` apply to


def main(
    doc: str,
    stages: Mapping[str, Stage],
    titles: Mapping[str, str] = TITLES,
    name: str = "study",
    options: tuple[str, ...] = (),
    question: Iterable[str] = QUESTION,
) -> int:
    """Run stages by the command line: [overrides] [--fresh] [--small|--full] [out=DIR] [workers=N].

    Args:
        doc: help text.
        stages: the stages to run, by name, in this order.
        titles: titles of all pages of the site, by file stem.
        name: start of the default folder's name in outputs/.
        options: keys that belong to the stage instead of train.py, beside `out` and `workers`.
        question: overrides of what the models are asked.

    Returns:
        The exit status.
    """
    arguments = build_parser(doc).parse_intermixed_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, so that the trainings are ended too
    try:
        study = study_of(arguments, stages, titles, name, options, question)
        with locked(study.out), bar_over_all() as study.progress:
            page = run_stages(study, stages)
    except ConveyorGuardError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted. The same command continues from here.", file=sys.stderr)
        return 130
    print(page if len(stages) == 1 else study.out / "index.html")
    return 0


def build_parser(doc: str) -> argparse.ArgumentParser:
    """Return the argument parser of a stage with the help text `doc`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "overrides",
        nargs="*",
        help="key=value as for train.py; out=DIR; workers=N trainings at a time (set threads=CORES/N with it)",
    )
    parser.add_argument("--fresh", action="store_true", help="train again what has already been trained")
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--small",
        dest="size",
        action="store_const",
        const="small",
        default="small",
        help=f"{SMALL['data.sessions']} sessions, {SMALL['trainer.max_epochs']} epochs (the default)",
    )
    sizes.add_argument("--full", dest="size", action="store_const", const="full", help="all sessions, all epochs")
    return parser


def study_of(
    arguments: argparse.Namespace,
    stages: Iterable[str],
    titles: Mapping[str, str],
    name: str,
    options: tuple[str, ...],
    question: Iterable[str] = QUESTION,
) -> StagedStudy:
    """Return the study that the arguments describe; see `main`.

    Raises:
        ConfigError: the settings are invalid, or configure a search that none of the stages runs.
    """
    keys = ("out", "workers", *options)
    words = {key: value for key, _, value in (line.partition("=") for line in arguments.overrides) if key in keys}
    overrides = [line for line in arguments.overrides if line.partition("=")[0] not in words]
    refuse_lost_search(overrides, stages)
    out, workers = words.pop("out", None), words.pop("workers", "1")
    if not (workers.isdecimal() and int(workers)):
        raise ConfigError(f"workers={workers} is not a number of trainings. Give a whole number of 1 or more.")
    command = shlex.join(["python", re.sub(".*(?=experiments/)", "", sys.argv[0]), *sys.argv[1:]])
    study = StagedStudy(
        Path(out or ""),
        arguments.size,
        arguments.fresh,
        int(workers),
        overrides,
        words,
        command,
        titles,
        question=[*question],
    )
    if not out:
        folder = f"{name}-{study.config().data.name}"
        study.out = Path("outputs") / (f"{folder}-small" if arguments.size == "small" else folder)
    return study


def refuse_lost_search(overrides: Overrides, stages: Iterable[str]) -> None:
    """Raise ConfigError for `sweep.*` overrides if none of the stages runs a search."""
    lost = [line for line in overrides if line.startswith("sweep.")]
    if lost and SEARCH not in stages:
        raise ConfigError(
            f"{' '.join(lost)}: {', '.join(stages)} runs no search. Give it to {SEARCH} or to the whole study."
        )


def run_stages(study: StagedStudy, stages: Mapping[str, Stage]) -> Path:
    """Run the stages in order, show their progress, and return the page of the last one."""
    assert study.progress is not None
    study.progress.add_task("", total=sum(1 + units(study) for _, units in stages.values()), note="")
    for name, (run, _) in stages.items():
        start_time = time.monotonic()
        study.say(name)
        page = run(study)
        study.advance(1)
        study.tell(f"{name}: {time.monotonic() - start_time:.0f} s")
    return page
