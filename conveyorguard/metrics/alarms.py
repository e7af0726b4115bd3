"""Alarms: evaluate an operating point session by session. `alarm_threshold` chooses it.

The score of a window is the calibrated probability of a state that warrants an alarm (`schema.alarm` or worse). An
alarm begins when the score reaches `on` and ends when it falls below `off` (hysteresis). Both times are the end of the
window, when its score is first known. An alarm also ends at a gap between windows that is longer than a window.

A fault session has a window in a state that warrants an alarm. An alarm is false if it begins before the onset of the
fault, after the device is back to normal, or in a session that never reaches such a state. Any other alarm that covers
no window in such a state is early.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from conveyorguard.metrics.intervals import rate_bound
from conveyorguard.metrics.resampling import resample

HYSTERESIS = 0.5  # off = this share of on


@dataclass(frozen=True)
class OperatingPoint:
    """The scores at which an alarm begins (`on`) and ends (`off`)."""

    on: float
    off: float

    def to_dict(self) -> dict[str, float]:
        """Return {on, off}, as in alarms.json."""
        return asdict(self)


def without_fault(table: pd.DataFrame) -> np.ndarray:
    """Return a mask (N,) of the windows in which an alarm is false.

    These are the windows before the onset of a fault, normal windows after it that overlap no worn window, and all
    windows of sessions that never reach a state that warrants an alarm.
    """
    reaches = table.groupby("session")["y_true_alarm"].transform("any").to_numpy()
    before = ~table["y_true_alarm"].to_numpy() & ~(table["seconds_since_onset"].to_numpy() > 0)
    return ~reaches | before | _normal_throughout(table)


def _normal_throughout(table: pd.DataFrame) -> np.ndarray:
    """Return a mask (N,) of the normal windows that overlap no worn window of their session."""
    rows = table.reset_index(drop=True).sort_values(["session", "start"])
    worn, session = rows["y_true"] > 0, rows["session"]
    until = rows["end"].where(worn).groupby(session).ffill()  # end of the last worn window so far
    since = rows["start"].where(worn).groupby(session).bfill()
    apart = ~worn & ~(until >= rows["start"]) & ~(since <= rows["end"])
    return apart.sort_index().to_numpy()


def follows_gap(
    before: np.ndarray | float, start: np.ndarray | float, end: np.ndarray | float, period: float = 1.0
) -> np.ndarray | bool:
    """Return whether the gap between the previous window's end and this window's start is longer than this window.

    Args:
        before: End of the previous window [s].
        start: Start of this window [s].
        end: End of this window [s]; starts and ends are inclusive.
        period: Of a row of the data [s].
    """
    return start - before - period > end - start + period


def exposure(table: pd.DataFrame, stride: float | None, period: float = 1.0) -> np.ndarray:
    """Return the time (N,) that each window counts for [h]: its stride, or its length if that is shorter.

    Args:
        table: Windows: start and end [s].
        stride: Of the windows [s]; None: they do not overlap.
        period: Of a row of the data [s].
    """
    length = (table["end"] - table["start"] + period).to_numpy(float)
    return (length if stride is None else np.minimum(length, stride)) / 3600


def ringing(table: pd.DataFrame, point: OperatingPoint, period: float = 1.0) -> np.ndarray:
    """Return a mask (N,) of the windows during which an alarm is on.

    Args:
        table: Windows: session, start, end and score, in the order of time within a session.
        point: Operating point.
        period: Of a row of the data [s].
    """
    score = table["score"].to_numpy()
    decided = (score >= point.on) | (score < point.off) | _starts_anew(table, period)  # others keep the previous
    last = np.maximum.accumulate(np.where(decided, np.arange(len(score)), 0))
    return score[last] >= point.on


def _starts_anew(table: pd.DataFrame, period: float) -> np.ndarray:
    """Return a mask (N,) of the windows into which no alarm continues: first of a session, or after a long gap."""
    session, start, end = (table[name].to_numpy() for name in ("session", "start", "end"))
    anew = np.ones(len(table), bool)
    anew[1:] = (session[1:] != session[:-1]) | follows_gap(end[:-1], start[1:], end[1:], period)
    return anew


def begins(table: pd.DataFrame, on: np.ndarray, period: float = 1.0) -> np.ndarray:
    """Return a mask (N,) of the windows at which an alarm begins.

    Args:
        table: Windows, as for `ringing`.
        on: Result of `ringing`.
        period: Of a row of the data [s].
    """
    return on & (~np.concatenate([[False], on[:-1]]) | _starts_anew(table, period))


def episodes(table: pd.DataFrame, point: OperatingPoint, period: float = 1.0) -> pd.DataFrame:
    """Return the alarms, one per row.

    Args:
        table: Windows: session, device, start, end, score and y_true_alarm.
        point: Operating point.
        period: Of a row of the data [s].

    Returns:
        session, device, begin and end [s since the session began], peak (highest score), windows (their number), true
        (whether the device was in a state that warrants an alarm at some window of the alarm).
    """
    rows = table.sort_values(["session", "start"], ignore_index=True)
    return alarms_of(rows, ringing(rows, point, period), period)


def alarms_of(rows: pd.DataFrame, on: np.ndarray, period: float = 1.0) -> pd.DataFrame:
    """Return the alarms of `episodes`.

    Args:
        rows: Windows, as for `episodes`, in the order of session and time, with the index 0, 1, ...
        on: Result of `ringing` for them.
        period: Of a row of the data [s].
    """
    begun = begins(rows, on, period)
    first = np.flatnonzero(begun)
    last = np.flatnonzero(on & ~np.append(on[1:] & ~begun[1:], False))
    length, end = last - first + 1, rows["end"].to_numpy()
    place = np.cumsum(length) - length  # of an alarm's first window among those during which one is on
    return (
        rows.loc[first, ["session", "device"]]
        .reset_index(drop=True)
        .assign(
            begin=end[first],
            end=end[last],
            peak=np.maximum.reduceat(rows["score"].to_numpy()[on], place),
            windows=length,
            true=np.logical_or.reduceat(rows["y_true_alarm"].to_numpy(bool)[on], place),
        )
    )


@dataclass(frozen=True)
class FaultWindows:
    """Windows of the F fault sessions, by which the alarms at several operating points are judged.

    Attributes:
        session: (F,) sorted names.
        device: (F,).
        owner: (n,) to which of the sessions a window belongs; windows in the order of session and end.
        first: (F,) place of each session's first window.
        end: (n,) [s].
        to_end: (n,) from the end of the window to the end of the session [s].
        worn: (n,) whether the window ends at or after the onset of wear, or has none.
        onset: (F,) moment of the alarm state [s since the session began]; NaN if the first window is in it.
    """

    session: np.ndarray
    device: np.ndarray
    owner: np.ndarray
    first: np.ndarray
    end: np.ndarray
    to_end: np.ndarray
    worn: np.ndarray
    onset: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame, lookback: float = 0.0) -> FaultWindows:
        """Select the windows of the fault sessions.

        Args:
            table: Windows, as for `summarise`.
            lookback: As for `fault_sessions`.
        """
        faulty = table["session"].isin(table.loc[table["y_true_alarm"], "session"].unique())
        rows = table[faulty].sort_values(["session", "end"])
        session, first, owner = np.unique(rows["session"].to_numpy(str), return_index=True, return_inverse=True)
        end, alarming = rows["end"].to_numpy(float), rows["y_true_alarm"].to_numpy(bool)
        begin = _first_in_each(alarming, first)
        return cls(
            session,
            rows["device"].to_numpy()[first],
            owner,
            first,
            end,
            rows["seconds_to_end"].to_numpy(float),
            ~(rows["seconds_since_onset"].to_numpy() < 0),
            np.where(begin > first, end[begin] - lookback, np.nan),
        )

    def announced(self, alarms: pd.DataFrame) -> pd.DataFrame:
        """Return `fault_sessions` of alarms."""
        begin = alarms[alarms["true"].astype(bool)].groupby("session")["begin"].min().reindex(self.session)
        since = self.end >= begin.to_numpy(float)[self.owner]  # never, where there is no true alarm
        at = _first_in_each(since & self.worn, self.first)
        at = np.where(at < 0, _first_in_each(since, self.first), at)  # an onset later than the state itself
        missed = at < 0
        alarm_at = np.where(missed, np.nan, self.end[at])
        return pd.DataFrame(
            {
                "session": self.session,
                "device": self.device,
                "missed": missed,
                "alarm_at": alarm_at,
                "lead": np.where(missed, np.nan, self.to_end[at]),
                "delay": np.maximum(alarm_at - self.onset, 0.0),
            }
        )


def _first_in_each(mask: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return the place of the first True of each session, (n,) to (F,); -1 where there is none.

    Args:
        mask: (n,), sessions one after another.
        first: (F,) where each begins.
    """
    if not len(mask):
        return np.zeros(0, np.int64)
    places = np.minimum.reduceat(np.where(mask, np.arange(len(mask)), len(mask)), first)
    return np.where(places < len(mask), places, -1)


def fault_sessions(table: pd.DataFrame, alarms: pd.DataFrame, lookback: float = 0.0) -> pd.DataFrame:
    """Return the fault sessions with the alarm that announced each.

    The alarm is the first true one. If it began before the onset of wear, it counts from the first window that reaches
    it. Its delay counts from the onset of the alarm state itself, which is the end of the first window labelled with
    it; an alarm before that has a delay of 0.

    Args:
        table: Windows, as for `summarise`.
        alarms: Result of `episodes`.
        lookback: How long before the end of a window the moment lies whose state its label is [s].

    Returns:
        session, device, missed, alarm_at [s since the session began], lead (from the alarm to the end of the session
        [s]) and delay [s], NaN if the first window of the session is in the alarm state: its onset is unknown.
    """
    return FaultWindows.of(table, lookback).announced(alarms)


def summarise(
    table: pd.DataFrame, point: OperatingPoint, stride: float, period: float = 1.0, lookback: float = 0.0
) -> dict[str, Any]:
    """Evaluate the operating point on windows.

    False alarms are alarms that begin without a fault (`without_fault`), after the `exposure` of such windows. The
    bound on their rate is over devices (`rate_bound`): after few hours even zero false alarms allow a high rate. The
    shares of missed fault sessions and of alarms in a fault have intervals over devices (`share_over_devices`).

    Args:
        table: Windows: session, device, start, end, seconds_to_end, seconds_since_onset, y_true, y_true_alarm (bool)
            and score.
        point: Operating point.
        stride: Stride of the windows [s].
        period: Of a row of the data [s].
        lookback: As for `fault_sessions`.

    Returns:
        Counts, times [s, h], the bound and the rows of `fault_sessions`, as in alarms.json.
    """
    alarms = episodes(table, point, period)
    faults = fault_sessions(table, alarms, lookback)
    healthy = without_fault(table)
    lasting = np.where(healthy, exposure(table, stride, period), 0.0)
    hours = float(lasting.sum())
    quiet = table.loc[healthy, ["session", "end"]].rename(columns={"end": "begin"})
    begun = alarms.merge(quiet.assign(healthy=True), on=["session", "begin"], how="left")
    false = int(begun["healthy"].notna().sum())
    early = int((begun["healthy"].isna() & ~begun["true"].astype(bool)).sum())
    where = begun.loc[begun["healthy"].notna(), "session"]
    highest = false_alarm_bound(table, lasting, where)
    missed = int(faults["missed"].sum()) if len(faults) else 0
    detected = faults[~faults["missed"]] if len(faults) else faults

    def spread(column: str) -> dict[str, float] | None:
        known = detected[column].dropna()
        return (
            {k: float(known.quantile(q)) for k, q in (("least", 0), ("median", 0.5), ("most", 1))}
            if len(known)
            else None
        )

    return {
        "fault_sessions": len(faults),
        "missed": missed,
        "missed_share_interval": share_over_devices(faults, "missed", table),
        "lead_seconds": spread("lead"),
        "delay_seconds": spread("delay"),
        "alarms": len(alarms),
        "true_alarms": int(alarms["true"].sum()),
        "true_share_interval": share_over_devices(alarms, "true", table),
        "false_alarms": false,
        "early_alarms": early,
        "exposure_hours": hours,
        "false_alarms_per_hour_bound": highest,
        "sessions": faults.replace({np.nan: None}).to_dict("records"),
    }


def false_alarm_bound(table: pd.DataFrame, hours: np.ndarray, where: pd.Series) -> float | None:
    """Return the upper bound of the false alarms an hour over devices (`rate_bound`); None without exposure.

    Args:
        table: Windows: session and device.
        hours: (N,) exposure of each window [h].
        where: Session of each false alarm.
    """
    groups = resample(table["session"].to_numpy(str), table["device"].to_numpy(str))

    def counted(sessions: pd.Series, weights: np.ndarray | None = None) -> np.ndarray:
        owner = groups.owner[np.searchsorted(groups.sessions, sessions.to_numpy(str))]
        return np.bincount(owner, weights, groups.groups)

    bound = rate_bound(counted(where), counted(table["session"], hours))
    return bound if np.isfinite(bound) else None


def share_over_devices(rows: pd.DataFrame, column: str, table: pd.DataFrame) -> list[float] | None:
    """Return the 95 % interval over devices of the share of rows in which a column is true; None where there is none.

    Args:
        rows: One row per fault session or alarm, with its session.
        column: A boolean column of it, such as missed.
        table: session and device of all sessions.
    """
    if not len(rows):
        return None
    groups = resample(table["session"].to_numpy(str), table["device"].to_numpy(str))
    owner = groups.owner[np.searchsorted(groups.sessions, rows["session"].to_numpy(str))]
    counts = [np.bincount(owner, weights, groups.groups) for weights in (rows[column].astype(float), None)]
    interval = groups.share(*counts)
    if not interval.known:
        return None
    return [interval.low, interval.high]


def with_scores(predictions: pd.DataFrame, p: np.ndarray, alarm: int) -> pd.DataFrame:
    """Add the columns score and y_true_alarm to windows.

    Args:
        predictions: Windows with y_true.
        p: Calibrated probabilities (N, K).
        alarm: Index of the first state that warrants an alarm.
    """
    score = p[:, alarm:].sum(axis=1).clip(0, 1)  # a sum of rounded probabilities may exceed 1, which has no log-odds
    return predictions.assign(score=score, y_true_alarm=predictions["y_true"].to_numpy() >= alarm)
