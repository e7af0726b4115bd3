"""The command line of one stage or several: what is asked for, and the exit status."""

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
from conveyorguard.system.files import alone
from conveyorguard.system.progress import bar_over_all
from experiments.stages.study import SMALL, TITLES, Overrides, Stage, StagedStudy

SEARCH = "04_dl_tuning"  # the stage that `sweep.*` is for


def main(
    doc: str,
    stages: Mapping[str, Stage],
    titles: Mapping[str, str] = TITLES,
    name: str = "study",
    options: tuple[str, ...] = (),
) -> int:
    """Run stages as the command line asks: [overrides] [--fresh] [--small|--full] [out=DIR] [workers=N].

    Args:
        titles: of the pages that go together. name: of the folder in outputs/ that they lie in.
        options: keys beside `out` and `workers` that are the stage's own rather than of train.py.

    Returns:
        The exit status.
    """
    arguments = build_parser(doc).parse_intermixed_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that trainings are ended too
    try:
        study = study_of(arguments, stages, titles, name, options)
        with alone(study.out), bar_over_all() as study.progress:
            page = run_stages(study, stages)
    except ConveyorGuardError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    print(page if len(stages) == 1 else study.out / "index.html")
    return 0


def build_parser(doc: str) -> argparse.ArgumentParser:
    """What a stage takes; `doc` is its help."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "overrides",
        nargs="*",
        help="key=value as of train.py, out=DIR, and workers=N: trainings at a time, each with threads=CORES/N",
    )
    parser.add_argument("--fresh", action="store_true", help="train anew what is there")
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
) -> StagedStudy:
    """The study that the arguments ask for; see `main`.

    Raises:
        ConfigError: the settings cannot work, or are of a search that no stage makes.
    """
    keys = ("out", "workers", *options)
    given = {key: value for key, _, value in (line.partition("=") for line in arguments.overrides) if key in keys}
    overrides = [line for line in arguments.overrides if line.partition("=")[0] not in given]
    refuse_lost_search(overrides, stages)
    out, workers = given.pop("out", None), given.pop("workers", "1")
    if not (workers.isdecimal() and int(workers)):
        raise ConfigError(f"workers={workers}: how many trainings run at a time, 1 or more")
    command = shlex.join(["python", re.sub(".*(?=experiments/)", "", sys.argv[0]), *sys.argv[1:]])
    study = StagedStudy(
        Path(out or ""), arguments.size, arguments.fresh, int(workers), overrides, given, command, titles
    )
    if not out:
        folder = f"{name}-{study.config().data.name}"
        study.out = Path("outputs") / (f"{folder}-small" if arguments.size == "small" else folder)
    return study


def refuse_lost_search(overrides: Overrides, stages: Iterable[str]) -> None:
    """Refuse settings of a search that no stage makes."""
    lost = [line for line in overrides if line.startswith("sweep.")]
    if lost and SEARCH not in stages:
        raise ConfigError(
            f"{' '.join(lost)}: there is no search in {', '.join(stages)}; give it to {SEARCH} or the whole study"
        )


def run_stages(study: StagedStudy, stages: Mapping[str, Stage]) -> Path:
    """Run the stages one after the other, and count their work; returns the last one's page."""
    assert study.progress is not None
    study.progress.add_task("", total=sum(1 + units(study) for _, units in stages.values()), note="")
    for name, (run, _) in stages.items():
        began = time.monotonic()
        study.say(name)
        page = run(study)
        study.advance(1)
        study.tell(f"{name}: {time.monotonic() - began:.0f} s")
    return page
