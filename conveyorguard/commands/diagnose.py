"""Say which modality a run relies on, where it errs, and whether fusion pays off."""

from __future__ import annotations

from conveyorguard.commands.words.parser import VerbParser

PARSER = VerbParser(
    "diagnose RUN [RUN...] [data.root=PATH] [curve=4,8,16] [out=FOLDER]",
    """\
Say which modality a run relies on, where it errs, and whether fusion pays off. It measures the gap to the runs of one
modality; what is lost when a modality is missing; missing values, dead sensors, a failing camera and noise; results by
device, near changes of state and without the start of the recording; delay and lead of every fault. It recommends
sensors alone, a cascade or fusion, and prints the rule.

The further runs are the same model with one modality, and a run of trees, or a multirun that holds them; without any,
those beside RUN are used. curve= trains RUN and the trees again on 4, 8, ... devices and reuses finished runs.
Writes diagnose.html and diagnose_*.csv into RUN, or FOLDER. Needs the recordings.""",
    """\
diagnose multirun/2026-01-31/10-00-00/4
diagnose RUN SENSOR_RUN IMAGE_RUN TREES_RUN
diagnose RUN curve=4,8,16 data.root=PATH       where the recordings have moved""",
    paths="+",
    settings=["out", "curve"],
)


def main(arguments: list[str]) -> None:
    """Diagnose a run, print the summary and write its page."""
    from conveyorguard.commands.learning_curve import counts_of, learning_curve
    from conveyorguard.commands.words.keys import merge_words
    from conveyorguard.data.views import bridge_gaps
    from conveyorguard.evaluation.advice import SINGLE
    from conveyorguard.evaluation.diagnose import diagnose
    from conveyorguard.reporting.diagnose_page import terminal_summary, write_diagnosis
    from conveyorguard.runs.data import load_store
    from conveyorguard.runs.saved import SavedRun

    words = PARSER.parse_words(arguments)
    counts = counts_of(words.settings["curve"]) if "curve" in words.settings else []
    run = SavedRun(words.path)
    folder = words.out or words.path
    store = bridge_gaps(load_store(merge_words(run, words.overrides)), run.window.max_gap)
    diagnosis = diagnose(words.path, words.paths[1:], store)
    page = write_diagnosis(diagnosis, folder)
    if counts:  # trainings, any of which may fail: the diagnosis without them is on the disk
        fusing = {label: arm for label, arm in diagnosis.arms.items() if label not in SINGLE.values()}
        diagnosis.tables["curve"] = learning_curve(fusing, counts, folder / "curve", words.overrides)
        page = write_diagnosis(diagnosis, folder)
    print(terminal_summary(diagnosis))
    print(page)
