"""What other thresholds would mean: false alarms a week, guaranteed lead, misses and cost over the threshold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import chi2

from conveyorguard.metrics.alarm_settings import HOURS_PER_WEEK, AlarmSettings
from conveyorguard.metrics.alarm_threshold import EDGE, with_hysteresis
from conveyorguard.metrics.alarms import (
    FaultWindows,
    OperatingPoint,
    alarms_of,
    begins,
    exposure,
    ringing,
    without_fault,
)
from conveyorguard.metrics.intervals import LEVEL

POINTS = 31  # thresholds of a curve, evenly spaced in log-odds


def alarm_curve(
    table: pd.DataFrame,
    point: OperatingPoint,
    settings: AlarmSettings,
    stride: float,
    period: float = 1.0,
    lookback: float = 0.0,
) -> list[dict[str, Any]]:
    """Evaluate thresholds, the chosen one among them, from low to high.

    Args:
        table: Windows, as for `summarise`.
        point: The chosen operating point.
        settings: Miss rate and costs.
        stride: Of the windows [s].
        period: Of a row of the data [s].
        lookback: As for `fault_sessions`.

    Returns:
        A point for each threshold: on, chosen, missed, false_per_week (None without time without a fault),
        lead_seconds (see `guaranteed_lead`; None without a fault session) and cost_per_month (None if one of its
        parts is unknown).
    """
    table = table.sort_values(["session", "start"], ignore_index=True)
    healthy = without_fault(table)
    hours = float(exposure(table, stride, period)[healthy].sum())
    fault_windows = FaultWindows.of(table, lookback)
    curve: list[dict[str, Any]] = []
    mask = np.zeros(0, bool)
    chosen = [(point, True)]
    others = [(with_hysteresis(float(on)), False) for on in expit(np.linspace(-EDGE, EDGE, POINTS))]
    for operating_point, is_chosen in sorted(chosen + others, key=lambda pair: pair[0].on):
        on = ringing(table, operating_point, period)
        if curve and np.array_equal(on, mask):
            entry = dict(curve[-1])  # the same windows ring
        else:
            false = int((begins(table, on, period) & healthy).sum())
            faults = fault_windows.announced(alarms_of(table, on, period))
            per_week = false * HOURS_PER_WEEK / hours if hours else None
            entry = {
                "missed": int(faults["missed"].sum()),
                "false_per_week": per_week,
                "lead_seconds": guaranteed_lead(faults, settings.miss_rate),
                "cost_per_month": expected_cost(faults, per_week, settings),
            }
        mask = on
        curve.append({**entry, "on": operating_point.on, "chosen": is_chosen})
    return curve


def guaranteed_lead(faults: pd.DataFrame, miss_rate: float) -> float | None:
    """Return the lead [s] that a next fault has with a probability of 1 - miss_rate; None without a fault session.

    It is the k-th smallest of n leads, k = floor(miss_rate * (n + 1)), a missed fault having none: 0. With too few
    sessions for that it is the smallest, which is no guarantee.

    Args:
        faults: Result of `fault_sessions`.
        miss_rate: Share of faults that may be missed.
    """
    if not len(faults):
        return None
    leads = np.sort(faults["lead"].astype(float).fillna(0.0))
    return float(leads[max(math.floor(round(miss_rate * (len(leads) + 1), 9)), 1) - 1])


def expected_cost(faults: pd.DataFrame, false_per_week: float | None, settings: AlarmSettings) -> float | None:
    """Return the expected cost a month; None if misses or false alarms could not be counted.

    Args:
        faults: Result of `fault_sessions`; a delay that is unknown counts as the mean of the others.
        false_per_week: False alarms in a week without a fault; None if unknown.
        settings: Costs.
    """
    if not len(faults) or false_per_week is None:
        return None
    delays = faults["delay"].astype(float).dropna()
    return settings.cost_per_month(
        float(faults["missed"].mean()), false_per_week, float(delays.mean()) / 3600 if len(delays) else 0.0
    )


def hours_to_claim(per_week: float, false_alarms: int = 0) -> float:
    """Return the time without a fault [h] after which a rate below this could be claimed (95 % Poisson bound).

    Args:
        per_week: False alarms a week.
        false_alarms: How many may come in that time.
    """
    return float(chi2.ppf(LEVEL, 2 * (false_alarms + 1)) / 2 / per_week * HOURS_PER_WEEK)
