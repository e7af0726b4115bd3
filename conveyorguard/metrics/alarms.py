"""Alarms: choose an operating point on validation, and evaluate it session by session.

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
from scipy.special import expit, logit

from conveyorguard.metrics.intervals import rate_bound
from conveyorguard.metrics.resampling import resample

HYSTERESIS = 0.5  # off = this share of on
UNDECIDED = 0.5  # upper limit of the threshold if validation has no window in which an alarm would be false
SURE = 1e-4  # probabilities are clipped to [SURE, 1 - SURE] before their log-odds are taken
STEP = 0.25  # distance of the candidate thresholds in log-odds


@dataclass(frozen=True)
class OperatingPoint:
    """The scores at which an alarm begins (`on`) and ends (`off`)."""

    on: float
    off: float

    def to_dict(self) -> dict[str, float]:
        """Return {on, off}, as in alarms.json."""
        return asdict(self)


def choose_operating_point(table: pd.DataFrame, period: float = 1.0) -> OperatingPoint | None:
    """Choose the operating point on validation; None without a fault session.

    Among thresholds that miss no fault session, take those with the fewest false alarm windows; return the midpoint, in
    log-odds, of the highest contiguous range of them. A threshold at either end was just reached by some session, and
    the next session may just miss it. Without fault-free windows the cost of a lower threshold is unknown: return the
    highest that misses no fault session, at most UNDECIDED.

    Args:
        table: Validation windows: session, start, end, seconds_since_onset, y_true, y_true_alarm (bool), score.
        period: Of a row of the data [s].
    """
    table = table.sort_values(["session", "start"])
    worst = table[table["y_true_alarm"]].groupby("session")["score"].max()
    if not len(worst):
        return None
    highest = float(worst.min())
    healthy = without_fault(table)
    if not healthy.any():
        return _with_hysteresis(min(highest, UNDECIDED))
    top = logit(np.clip(highest, SURE, 1 - SURE))
    steps = top - STEP * np.arange(max(1, int(np.ceil((top - logit(SURE)) / STEP))))
    points = [_with_hysteresis(min(highest, float(expit(step)))) for step in steps]
    false = np.array([np.count_nonzero(ringing(table, point, period) & healthy) for point in points])
    first = int(false.argmin())  # the highest threshold with the fewest
    more = np.flatnonzero(false[first:] > false[first])
    last = first + int(more[0]) - 1 if len(more) else len(steps) - 1
    return _with_hysteresis(min(highest, float(expit((steps[first] + steps[last]) / 2))))


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


def silent(
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


def _with_hysteresis(on: float) -> OperatingPoint:
    return OperatingPoint(on, HYSTERESIS * on)


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
    anew[1:] = (session[1:] != session[:-1]) | silent(end[:-1], start[1:], end[1:], period)
    return anew


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
    on = pd.Series(ringing(rows, point, period), index=rows.index)
    number = ((on != on.shift()) | _starts_anew(rows, period)).cumsum()
    alarms = (
        rows[on]
        .groupby(number[on], sort=False)
        .agg(
            session=("session", "first"),
            device=("device", "first"),
            begin=("end", "first"),
            end=("end", "last"),
            peak=("score", "max"),
            windows=("score", "size"),
            true=("y_true_alarm", "any"),
        )
    )
    return alarms.reset_index(drop=True)


def fault_sessions(table: pd.DataFrame, alarms: pd.DataFrame) -> pd.DataFrame:
    """Return the fault sessions with the alarm that announced each.

    The alarm is the first true one. If it began before the onset, it counts from the first window that reaches the
    onset, so that its delay is not negative.

    Args:
        table: Windows, as for `summarise`.
        alarms: Result of `episodes`.

    Returns:
        session, device, missed, alarm_at [s since the session began], lead (from the alarm to the end of the session
        [s]) and delay (from the onset to the alarm [s]; NaN if the session begins with the fault).
    """
    sessions = []
    for name in sorted(table[table["y_true_alarm"]]["session"].unique()):
        rows = table[table["session"] == name]
        true = alarms[(alarms["session"] == name) & alarms["true"]]
        row: dict[str, Any] = {
            "session": name,
            "device": rows["device"].iloc[0],
            "missed": not len(true),
            "alarm_at": np.nan,
            "lead": np.nan,
            "delay": np.nan,
        }
        if len(true):
            since = rows[rows["end"] >= true["begin"].min()].sort_values("end")
            faulty = since[~(since["seconds_since_onset"] < 0)]
            at = (faulty if len(faulty) else since).iloc[0]  # a table may give an onset later than the state itself
            since_onset = float(at["seconds_since_onset"])
            row |= {
                "alarm_at": float(at["end"]),
                "lead": float(at["seconds_to_end"]),
                "delay": since_onset if at["end"] - since_onset > rows["start"].min() else np.nan,
            }
        sessions.append(row)
    return pd.DataFrame(sessions, columns=["session", "device", "missed", "alarm_at", "lead", "delay"])


def summarise(table: pd.DataFrame, point: OperatingPoint, stride: float, period: float = 1.0) -> dict[str, Any]:
    """Evaluate the operating point on windows.

    False alarms are alarms that begin without a fault (`without_fault`). Their exposure is the total time of such
    windows, each counted with its stride, or its length if that is shorter. The bound on their rate is over devices
    (`rate_bound`): after few hours even zero false alarms allow a high rate. The share of missed fault sessions has the
    interval of `missed_share_interval`.

    Args:
        table: Windows, as for `choose_operating_point`, with device and seconds_to_end.
        point: Operating point.
        stride: Stride of the windows [s].
        period: Of a row of the data [s].

    Returns:
        Counts, times [s, h], the bound and the rows of `fault_sessions`, as in alarms.json.
    """
    alarms = episodes(table, point, period)
    faults = fault_sessions(table, alarms)
    healthy = without_fault(table)
    lasts = (table["end"] - table["start"] + period).clip(upper=stride)
    hours = float(lasts[healthy].sum()) / 3600
    quiet = table.loc[healthy, ["session", "end"]].rename(columns={"end": "begin"})
    begun = alarms.merge(quiet.assign(healthy=True), on=["session", "begin"], how="left")
    false = int(begun["healthy"].notna().sum())
    early = int((begun["healthy"].isna() & ~begun["true"].astype(bool)).sum())
    where = begun.loc[begun["healthy"].notna(), "session"]
    highest = false_alarm_bound(table, lasts.where(healthy, 0) / 3600, where)
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
        "missed_share_interval": missed_share_interval(faults, table),
        "lead_seconds": spread("lead"),
        "delay_seconds": spread("delay"),
        "false_alarms": false,
        "early_alarms": early,
        "exposure_hours": hours,
        "false_alarms_per_hour_bound": highest,
        "sessions": faults.replace({np.nan: None}).to_dict("records"),
    }


def false_alarm_bound(table: pd.DataFrame, hours: pd.Series, where: pd.Series) -> float | None:
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

    bound = rate_bound(counted(where), counted(table["session"], hours.to_numpy()))
    return bound if np.isfinite(bound) else None


def missed_share_interval(faults: pd.DataFrame, table: pd.DataFrame) -> list[float] | None:
    """Return the 95 % interval of the share of missed fault sessions over devices; None where there is none.

    Args:
        faults: Result of `fault_sessions`.
        table: session and device of all sessions.
    """
    if not len(faults):
        return None
    groups = resample(table["session"].to_numpy(str), table["device"].to_numpy(str))
    owner = groups.owner[np.searchsorted(groups.sessions, faults["session"].to_numpy(str))]
    counts = [np.bincount(owner, weights, groups.groups) for weights in (faults["missed"].astype(float), None)]
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
    return predictions.assign(score=p[:, alarm:].sum(axis=1), y_true_alarm=predictions["y_true"].to_numpy() >= alarm)
