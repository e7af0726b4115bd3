"""A table of a few rows, to be spoiled, and what holds of whatever is read of it."""

from pathlib import Path

import numpy as np

from conveyorguard.data.reduce import reduce_session
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording
from conveyorguard.data.table.reader import sessions
from conveyorguard.errors import ConveyorGuardError

SCHEMA = Schema.from_config(
    {
        "columns": {"time": "time", "state": "state"},
        "channels": {"heat": {"unit": "degC"}, "amps": {"unit": "A"}},
        "states": [{"name": "fine"}, {"name": "worn"}],
    }
)
SOUND = b"time,heat,amps,state\n" + b"".join(
    b"%d,%d.5,1.25,%s\n" % (t, 20 + t, b"fine" if t < 6 else b"worn") for t in range(12)
)
CELLS = [
    "",
    "nan",
    "inf",
    "-inf",
    "1e999",
    "1,5",
    "1.234,5",
    "0x10",
    "1_0",
    "hot",
    '"',
    '"a\nb"',
    "\t",
    "１",
    "2024-02-30",
    "99:99:99",
    "-1",
    "1e300",
    "99999999999999999999",
    "fine",
    "\x00",
    "\ufeff",
    "é",
]


def read(folder: Path):
    """Everything a folder gives: sessions read, or the named error."""
    try:
        items = list(sessions(folder, SCHEMA))
        return [item.read() for item in items if isinstance(item, Recording)]
    except ConveyorGuardError as error:
        assert "rec" in str(error) or str(folder) in str(error) or "data." in str(error), (
            f"an error without its place: {error}"
        )
        assert len(str(error)) > 20
        return error


def check(outcome):
    if isinstance(outcome, ConveyorGuardError):
        return
    for session in outcome:
        n = len(session.time)
        assert session.sensors.shape == (n, 2) and (np.diff(session.time) >= 0).all() and n > 0
        assert session.state is None or set(session.state.tolist()) <= {0, 1}
        for row in session.dropped:
            assert "rec" in row.where and "found" in row.message
        columns = reduce_session(session, SCHEMA).columns
        if columns is not None:
            values = columns["sensors"]
            assert not np.isinf(values).any(), "what is stored is a number"
            assert all((np.diff(known.astype(int)) >= 0).all() for known in np.isfinite(values).T), "then held"
