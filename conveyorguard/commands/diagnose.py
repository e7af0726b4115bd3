"""Say what a run leans on, where it errs, and whether to fuse at all."""

from __future__ import annotations

from pathlib import Path

from conveyorguard.commands.arguments import take_options
from conveyorguard.errors import ConfigError


def main(arguments: list[str]) -> None:
    """diagnose RUN [RUN...] [data.root=PATH] [curve=4,8,16,22] [out=DIRECTORY]

    What a run leans on and whether to fuse at all: the gap to its arms of one modality, what is lost when a modality
    says nothing, a recommendation (sensor only, cascade, fuse) with its rule; missing values, dead sensors, a failing
    camera and noise, for all arms alike; results by device, near changes of state, second by second, without the
    recording's start; delay and lead of every fault. The further runs are its arms (the same model with one modality)
    and a run of trees, or a multirun that holds them; without any, those that lie beside RUN are taken. curve= trains
    RUN and the trees anew on so many devices, reusing what is there. Needs the data: data.root=PATH where they have
    moved. Writes diagnose.html and its tables, diagnose_*.csv, into RUN, or `out`.
    """
    from conveyorguard.commands.learning_curve import counts_of, learning_curve
    from conveyorguard.config.saved import merge_saved
    from conveyorguard.evaluation.advice import SINGLE
    from conveyorguard.evaluation.diagnose import diagnose
    from conveyorguard.reporting.diagnose_page import terminal_summary, write_diagnosis
    from conveyorguard.runs.data import load_store
    from conveyorguard.runs.saved import SavedRun

    paths = [Path(a) for a in arguments if "=" not in a]
    options, overrides = take_options([a for a in arguments if "=" in a], "out", "curve")
    if not paths:
        raise ConfigError(
            "usage: python -m conveyorguard diagnose RUN [RUN...] [data.root=PATH] [curve=4,8] [out=DIRECTORY]"
        )
    counts = counts_of(options["curve"]) if "curve" in options else []
    run = SavedRun(paths[0])
    folder = Path(options.get("out", paths[0]))
    store = load_store(merge_saved(run.config, overrides, run.provenance))
    diagnosis = diagnose(paths[0], paths[1:], store)
    page = write_diagnosis(diagnosis, folder)
    if counts:  # trainings, any of which may fail: the diagnosis without them is on the disk
        fusing = {label: arm for label, arm in diagnosis.arms.items() if label not in SINGLE.values()}
        diagnosis.tables["curve"] = learning_curve(fusing, counts, folder / "curve", overrides)
        page = write_diagnosis(diagnosis, folder)
    print(terminal_summary(diagnosis))
    print(page)
