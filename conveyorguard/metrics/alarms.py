"""When to ring: an operating point chosen on validation, and what it would have meant recording by recording.

The score of a window is the calibrated probability of a state worth an alarm (`schema.alarm` or worse). An alarm begins
where the score reaches `on` and ends where it falls below `off` (hysteresis), both stamped at the end of the window:
only then is it known; it also ends where no window follows for longer than one lasts. A recording is a fault recording
when it has a window in such a state. Before the onset of its fault, when it is normal again, and in a recording that
never reaches such a state, whatever rings is a false alarm; between, what rings in no such state is merely early.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import chi2

from conveyorguard.metrics.bootstrap import LEVEL, resample

HYSTERESIS = 0.5  # off = this share of on
UNDECIDED = 0.5  # the highest threshold where validation has no window in which an alarm would be false
SURE = 1e-4  # a probability nearer to 0 or 1 than this is no surer
STEP = 0.25  # log-odds between the thresholds that are tried


@dataclass(frozen=True)
class OperatingPoint:
    """Scores at which an alarm begins and ends."""

    on: float
    off: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


def choose_operating_point(table: pd.DataFrame) -> OperatingPoint | None:
    """A threshold that misses no fault recording of the table; None where there is none to choose by.

    Of those thresholds it is one under which the fewest windows ring before there is any fault, and of these, one in
    the middle, in log-odds: from the highest down to where more would ring. Either end is a score that some recording
    just reached, and the next one may just not. Where no window is without a fault, nothing says what a lower threshold
    costs: it is the highest that misses none, UNDECIDED at the most.

    Args:
        table: validation windows: session, start, end, seconds_since_onset, y_true, y_true_alarm (bool), score.
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
    false = np.array([np.count_nonzero(ringing(table, point) & healthy) for point in points])
    first = int(false.argmin())  # the highest of those with the fewest
    more = np.flatnonzero(false[first:] > false[first])
    last = first + int(more[0]) - 1 if len(more) else len(steps) - 1
    return _with_hysteresis(min(highest, float(expit((steps[first] + steps[last]) / 2))))


def without_fault(table: pd.DataFrame) -> np.ndarray:
    """Windows (n,) in which an alarm is false: those before the onset of a fault, those after it that share no second
    with one that is not normal, and all of recordings that never reach a state worth an alarm."""
    reaches = table.groupby("session")["y_true_alarm"].transform("any").to_numpy()
    before = ~table["y_true_alarm"].to_numpy() & ~(table["seconds_since_onset"].to_numpy() > 0)
    return ~reaches | before | _normal_throughout(table)


def _normal_throughout(table: pd.DataFrame) -> np.ndarray:
    """Windows (n,) that are normal and overlap with no window of their recording that is not."""
    rows = table.reset_index(drop=True).sort_values(["session", "start"])
    worn, session = rows["y_true"] > 0, rows["session"]
    until = rows["end"].where(worn).groupby(session).ffill()  # of the last one before that is not normal
    since = rows["start"].where(worn).groupby(session).bfill()
    apart = ~worn & ~(until >= rows["start"]) & ~(since <= rows["end"])
    return apart.sort_index().to_numpy()


def silent(before: np.ndarray | int, start: np.ndarray | int, end: np.ndarray | int) -> np.ndarray | bool:
    """Whether between the `end` of the window before and the `start` of this one there is no second for longer than it
    lasts."""
    return start - before - 1 > end - start + 1


def _with_hysteresis(on: float) -> OperatingPoint:
    return OperatingPoint(on, HYSTERESIS * on)


def ringing(table: pd.DataFrame, point: OperatingPoint) -> np.ndarray:
    """Windows (n,) at which an alarm is on. table: session, start, end and score, in the order of time within a
    session."""
    score = table["score"].to_numpy()
    decided = (score >= point.on) | (score < point.off) | _afresh(table)  # a score between the two begins no alarm
    last = np.maximum.accumulate(np.where(decided, np.arange(len(score)), 0))
    return score[last] >= point.on


def _afresh(table: pd.DataFrame) -> np.ndarray:
    """Windows (n,) that no alarm of the window before goes on at: the first of their recording, or after a silence."""
    session, start, end = (table[name].to_numpy() for name in ("session", "start", "end"))
    found = np.ones(len(table), bool)
    found[1:] = (session[1:] != session[:-1]) | silent(end[:-1], start[1:], end[1:])
    return found


def episodes(table: pd.DataFrame, point: OperatingPoint) -> pd.DataFrame:
    """Alarms, one a row: session, device, begin and end (s, of the recording), peak score, windows, true.

    Args:
        table: session, device, start, end, score and y_true_alarm of windows. true: the device was in a state worth an
            alarm at some window of the episode.
    """
    rows = table.sort_values(["session", "start"], ignore_index=True)
    on = pd.Series(ringing(rows, point), index=rows.index)
    number = ((on != on.shift()) | _afresh(rows)).cumsum()
    found = (
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
    return found.reset_index(drop=True)


def fault_sessions(table: pd.DataFrame, alarms: pd.DataFrame) -> pd.DataFrame:
    """Each fault recording: session, device, missed, alarm_at, lead (s from the alarm to the recording's end) and delay
    (s from the onset of the fault to the alarm; NaN where the recording begins in it). The alarm is the first true one,
    from the onset on: what has rung since before the onset could not tell of this fault any earlier."""
    found = []
    for name in sorted(table[table["y_true_alarm"]]["session"].unique()):
        rows = table[table["session"] == name]
        own = alarms[(alarms["session"] == name) & alarms["true"]]
        row: dict[str, Any] = {
            "session": name,
            "device": rows["device"].iloc[0],
            "missed": not len(own),
            "alarm_at": np.nan,
            "lead": np.nan,
            "delay": np.nan,
        }
        if len(own):
            since = rows[rows["end"] >= own["begin"].min()].sort_values("end")
            faulty = since[~(since["seconds_since_onset"] < 0)]
            at = (faulty if len(faulty) else since).iloc[0]  # a table may have its onset after the state itself
            since_onset = float(at["seconds_since_onset"])
            row |= {
                "alarm_at": int(at["end"]),
                "lead": float(at["seconds_to_end"]),
                "delay": since_onset if at["end"] - since_onset > rows["start"].min() else np.nan,
            }
        found.append(row)
    return pd.DataFrame(found, columns=["session", "device", "missed", "alarm_at", "lead", "delay"])


def summarise(table: pd.DataFrame, point: OperatingPoint, stride: int) -> dict[str, Any]:
    """What the operating point means on these windows.

    False alarms are episodes that begin without a fault (`without_fault`); their exposure is the time of such windows,
    each standing for the seconds up to the next, no more than its own. The bound is the exact Poisson one: with few
    hours even no false alarm leaves many a day possible. The share of missed recordings has an interval as other shares
    have, of devices and their recordings, or the exact one where these are too few, or of all and none.

    Args:
        table: as of `choose_operating_point`, with device and seconds_to_end. stride: of the windows, s.
    """
    alarms = episodes(table, point)
    faults = fault_sessions(table, alarms)
    healthy = without_fault(table)
    lasts = (table["end"] - table["start"] + 1).clip(upper=stride)
    hours = float(lasts[healthy].sum()) / 3600
    quiet = table.loc[healthy, ["session", "end"]].rename(columns={"end": "begin"})
    begun = alarms.merge(quiet.assign(healthy=True), on=["session", "begin"], how="left")
    false = int(begun["healthy"].notna().sum())
    early = int((begun["healthy"].isna() & ~begun["true"].astype(bool)).sum())
    highest = float(chi2.ppf(LEVEL, 2 * (false + 1)) / 2 / hours) if hours else None
    missed = int(faults["missed"].sum()) if len(faults) else 0
    told = faults[~faults["missed"]] if len(faults) else faults

    def spread(column: str) -> dict[str, float] | None:
        known = told[column].dropna()
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


def missed_share_interval(faults: pd.DataFrame, table: pd.DataFrame) -> list[float] | None:
    """Of the share of fault recordings that are missed, of all devices and recordings of the table; None where there is
    none.

    Args:
        faults: as of `fault_sessions`. table: session and device of all that is resampled.
    """
    if not len(faults):
        return None
    drawn = resample(table["session"].to_numpy(str), table["device"].to_numpy(str))
    concerned = np.isin(drawn.sessions, faults["session"].to_numpy(str))
    missed = np.isin(drawn.sessions, faults.loc[faults["missed"].astype(bool), "session"].to_numpy(str))
    of = drawn.weights @ concerned
    replicates = np.divide(drawn.weights @ missed, of, out=np.full(len(of), np.nan), where=of > 0)
    found = drawn.share(float(faults["missed"].mean()), concerned, replicates)
    return [found.low, found.high]


def with_scores(predictions: pd.DataFrame, p: np.ndarray, alarm: int) -> pd.DataFrame:
    """Windows with their score from (calibrated) probabilities p (n, K), and whether they are in a state worth an
    alarm."""
    return predictions.assign(score=p[:, alarm:].sum(axis=1), y_true_alarm=predictions["y_true"].to_numpy() >= alarm)
