"""Clock times of rows: ISO 8601 in the zone of the files, where the files have dates."""

from __future__ import annotations

import numpy as np
import pandas as pd


def clock_times(sessions: pd.DataFrame, place: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """Return ISO 8601 texts (n,), None where the files of a session have no dates.

    Where the files name no zone, the text has no offset: it is the wall time that they hold.

    Args:
        sessions: of a store, with start (UTC) and zone.
        place: (n,) index of each row's session.
        seconds: (n,) time since the session began [s].
    """
    texts = np.full(len(place), None, dtype=object)
    starts = pd.to_datetime(sessions["start"], utc=True)
    if starts.isna().all():
        return texts
    for i in np.unique(place):
        if pd.isna(starts.iloc[i]):
            continue
        here = np.flatnonzero(place == i)
        times = starts.iloc[i] + pd.to_timedelta(np.round(np.asarray(seconds)[here] * 1e6), unit="us")
        zone = sessions["zone"].iloc[i]
        times = times.tz_convert(zone) if isinstance(zone, str) and zone else times.tz_localize(None)
        precise = bool((times.microsecond != 0).any())
        texts[here] = [time.isoformat(timespec="milliseconds" if precise else "seconds") for time in times]
    return texts
