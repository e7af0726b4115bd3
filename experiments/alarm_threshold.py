"""How a mislabelled validation session in ten moves the alarm threshold, judged on new sessions.

OMP_NUM_THREADS=1 python experiments/alarm_threshold.py

Sessions are simulated as scores of windows of 30 s without overlap, an hour each. Three in four stay healthy; their
log-odds are an autoregressive process around a level of the session, with a bump every 40 h on average. The others wear
after half an hour and reach the alarm state after 40 min. Of the validation sessions one in ten, drawn at random, has
the labels of the other kind. Thresholds are chosen on the same sessions with and without that, and judged on new,
correctly labelled ones. Each row is a mean over REPLICATES validation sets. It takes two minutes on one core and writes
experiments/alarm_threshold.csv.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from conveyorguard.metrics.alarm_threshold import choose_operating_point
from conveyorguard.metrics.alarms import begins, ringing

SEED = 0
REPLICATES = 100
FAULTS = (4, 8, 12, 20, 40)  # fault sessions of validation; three times as many are healthy
WINDOWS, LENGTH = 120, 30  # of a session; [s]
WORN, ALARM = 60, 80  # windows at which the states begin
TEST_HOURS, TEST_FAULTS = 2000, 500
TABLE = Path(__file__).with_suffix(".csv")


def scores(rng: np.random.Generator, faulty: np.ndarray) -> np.ndarray:
    """Return scores of sessions, (S, WINDOWS).

    Args:
        rng: Random numbers.
        faulty: (S,) whether a session reaches the alarm state.
    """
    count = len(faulty)
    noise = rng.normal(size=(count, WINDOWS))
    for t in range(1, WINDOWS):
        noise[:, t] = 0.8 * noise[:, t - 1] + 0.6 * noise[:, t]
    level = np.full((count, WINDOWS), -4.0) + rng.normal(0, 0.7, (count, 1))
    bump = rng.random((count, WINDOWS)) < 1 / 40 / WINDOWS
    for delay in range(3):
        level[:, delay:] += 5.0 * bump[:, : WINDOWS - delay]
    height = rng.normal(6.5, 1.5, (count, 1))
    ramp = np.clip((np.arange(WINDOWS) - WORN) / (ALARM - WORN), 0, 1)
    return expit(level + noise + np.where(faulty[:, None], height * ramp, 0.0))


def windows(score: np.ndarray, labelled_faulty: np.ndarray) -> pd.DataFrame:
    """Return the windows of sessions with labels.

    Args:
        score: (S, WINDOWS).
        labelled_faulty: (S,) whether the labels reach the alarm state.
    """
    count = len(score)
    place = np.tile(np.arange(WINDOWS), count)
    faulty = np.repeat(labelled_faulty, WINDOWS)
    state = np.where(faulty, (place >= WORN) + 1 * (place >= ALARM), 0)
    return pd.DataFrame(
        {
            "session": np.repeat([f"s{i:04}" for i in range(count)], WINDOWS),
            "start": LENGTH * place,
            "end": LENGTH * (place + 1) - 1,
            "seconds_since_onset": np.where(faulty, LENGTH * (place - WORN) + LENGTH - 1.0, np.nan),
            "y_true": state,
            "y_true_alarm": state == 2,
            "score": score.ravel(),
        }
    )


def simulate(faults: tuple[int, ...] = FAULTS, replicates: int = REPLICATES, hours: int = TEST_HOURS) -> pd.DataFrame:
    """Return the table: a row for each number of fault sessions.

    Args:
        faults: Numbers of fault sessions of validation.
        replicates: Validation sets of each.
        hours: Without a fault, in which false alarms are counted [h].
    """
    rng = np.random.default_rng(SEED)
    healthy = windows(scores(rng, np.zeros(hours, bool)), np.zeros(hours, bool))
    peaks = scores(rng, np.ones(TEST_FAULTS, bool))[:, ALARM:].max(axis=1)
    rows = []
    for count in faults:
        faulty = np.arange(4 * count) < count
        results = []
        for _ in range(replicates):
            score = scores(rng, faulty)
            wrong = rng.permutation(4 * count) < round(4 * count / 10)
            result = {}
            for name, labels in (("clean", faulty), ("mislabelled", faulty ^ wrong)):
                choice = choose_operating_point(windows(score, labels), stride=LENGTH)
                assert choice is not None
                on = ringing(healthy, choice.point)
                result |= {
                    f"{name}: threshold": choice.point.on,
                    f"{name}: false alarms in 100 h": 100 * int(begins(healthy, on).sum()) / hours,
                    f"{name}: faults missed": float((peaks < choice.point.on).mean()),
                }
            results.append(result)
        mean = pd.DataFrame(results).mean()
        bound = 2 * mean["clean: false alarms in 100 h"] + 1
        rows.append({"fault sessions": count, "sessions": 4 * count, **mean, "bound in 100 h": bound})
    return pd.DataFrame(rows)


def main() -> None:
    """Simulate, print the table and write it."""
    table = simulate()
    table.to_csv(TABLE, index=False, float_format="%.3f")
    print(table.to_string(index=False, float_format="%.3f"))


if __name__ == "__main__":
    main()
