"""The verbs of `python -m conveyorguard`: modules with a PARSER, which holds the help, and a `main`.

A verb imports what it needs when it is called, so that help does not wait for torch.
"""

from __future__ import annotations

from types import ModuleType

from conveyorguard.commands import (
    best,
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

MODULES = (simulate, schema, prepare, eda, best, compare, ensemble, reproduce, predict, export, check, diagnose, report)
VERBS: dict[str, ModuleType] = {module.PARSER.prog: module for module in MODULES}
