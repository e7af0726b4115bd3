"""Digests of what was measured in a session, by which it is recognised under another name and without its labels."""

from __future__ import annotations

import hashlib

import numpy as np

from conveyorguard.data.store import Store


def session_digests(store: Store) -> dict[str, str]:
    """Return a digest of the times and sensor values of each session, by name.

    Name, device, labels and environment are left out, so that they may change. Without sensors, the statistics of the
    camera's frames take their place.
    """
    values = store.sensors if store.schema.channels else store.thermal_statistics
    digests = {}
    for name, first, rows in store.sessions[["name", "first", "rows"]].itertuples(index=False):
        part = slice(first, first + rows)
        digest = hashlib.sha256(np.ascontiguousarray(store.tick[part]).data)
        digest.update(np.ascontiguousarray(values[part]).data)
        digests[str(name)] = digest.hexdigest()[:32]
    return digests
