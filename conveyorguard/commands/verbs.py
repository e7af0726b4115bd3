"""The verbs of `python -m conveyorguard`: functions of the words after the verb; their docstrings are what `--help`
prints.

A verb imports what it needs when it is called, so that help does not wait for torch.
"""

from __future__ import annotations

from collections.abc import Callable

from conveyorguard.commands import (
    check,
    compare,
    diagnose,
    eda,
    ensemble,
    export,
    predict,
    prepare,
    report,
    reproduce,
    schema,
    simulate,
)

VERBS: dict[str, Callable[[list[str]], None]] = {
    "simulate": simulate.main,
    "prepare": prepare.main,
    "eda": eda.main,
    "schema": schema.main,
    "compare": compare.main,
    "ensemble": ensemble.main,
    "reproduce": reproduce.main,
    "predict": predict.main,
    "export": export.main,
    "check": check.main,
    "diagnose": diagnose.main,
    "report": report.main,
}
