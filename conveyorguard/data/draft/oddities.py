"""What a person should know about a table's recordings before training on them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Session, Unreadable
from conveyorguard.data.table.reader import sessions
from conveyorguard.data.table.resample import GAP
from conveyorguard.errors import DataError
from conveyorguard.system.progress import track

LOOKED_AT = 40  # recordings read; of more, evenly spread ones
FEW = 3  # recordings; a state in fewer cannot be trained on, chosen by and tested


def look(root: Path, schema: Schema, reader: dict[str, Any], odd: list[str]) -> list[Session]:
    """Read some recordings as a training would, and add what is odd about them.

    Raises:
        DataError: none of them can be read.
    """
    items = list(sessions(root, schema, **reader))
    odd += [f"{item.name}: {item.message}" for item in items if isinstance(item, Unreadable)]
    there = [item for item in items if isinstance(item, Recording)]
    found, lost, notes = [], dict[str, list[str]](), Counter[str]()
    chosen = there[:: max(len(there) // LOOKED_AT, 1)][:LOOKED_AT]
    for item in track(chosen, "checking", len(chosen)):
        try:
            session = item.read()
        except DataError as error:
            odd.append(f"{item.name}: {error}")
            continue
        found.append(session)
        notes.update(session.notes)
        for defect in session.dropped:
            lost.setdefault(defect.reason, []).append(f"{defect.where}: {defect.message}")
    odd += [f"{len(rows)} rows left out, {reason}: {rows[0]}" for reason, rows in lost.items()]
    odd += [f"{note}: {count} recordings" for note, count in notes.items()]
    if not found:
        raise DataError("\n".join([f"{root}: no recording can be read", *odd]))
    _count(odd, found, len(there), schema)
    return found


def _count(odd: list[str], found: list[Session], recordings: int, schema: Schema) -> None:
    """What is odd about the recordings together."""
    if recordings < 4:
        odd.append(f"{recordings} recordings: training needs 4 labelled ones, some to train, to choose and to test")
    for group in ("sensors", "environment"):
        for i, key in enumerate(getattr(schema, "channels" if group == "sensors" else group)):
            each = [getattr(s, group)[:, i] for s in found]
            dead = sum(np.ptp(v[np.isfinite(v)]) == 0 if np.isfinite(v).any() else True for v in each)
            missing = 1 - np.isfinite(np.concatenate(each)).mean()
            if dead:
                odd.append(f"'{key}' is constant or empty in {dead} of {len(found)} recordings")
            if missing:
                odd.append(
                    f"'{key}': {100 * missing:.2g} % of the values are missing; they are filled in from their "
                    "neighbours"
                )
    gaps = sum(int((np.diff(s.time) > GAP).sum()) for s in found)
    if gaps:
        odd.append(f"{gaps} gaps in time; a window never spans one")
    short = sum(len(s.time) < 30 for s in found)
    if short:
        odd.append(f"{short} recordings have fewer than 30 rows, less than a window of the default size")
    labelled = [s.state for s in found if s.state is not None]
    if len(labelled) < len(found):
        odd.append(f"{len(found) - len(labelled)} of {len(found)} recordings have no states: they are not trained on")
    for k, state in enumerate(schema.states):
        count = sum(bool((s == k).any()) for s in labelled)
        if labelled and count < FEW:
            odd.append(f"state '{state.name}' is in {count} of {len(labelled)} recordings only")
    devices = {s.device for s in found}
    if len(devices) == 1:
        odd.append(
            "one device only: how well a model does on another cannot be tested; name columns.device or "
            "reader.device_pattern if there are several"
        )
    elif len(devices) >= 3:
        odd.append(
            f"{len(devices)} devices: split=kfold split.n_folds={min(len(devices), 5)} tests on devices never "
            "trained on"
        )
