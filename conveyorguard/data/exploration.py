"""Tables that describe a data set before training: sizes, balance, correlations, distributions, quality."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from conveyorguard.data.schema import THERMAL_STATISTICS, UNLABELLED
from conveyorguard.data.store import ENVIRONMENT_REPAIRED, SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.windows import Windows

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def labelled(store: Store) -> pd.DataFrame:
    """Return the rows that have a state, as a table."""
    frames = store.to_frame()
    return frames[frames["state"] != UNLABELLED]


def sizes(store: Store) -> pd.DataFrame:
    """Count devices, sessions, sessions with a fault and durations; a row per kind of device and one for all."""
    frames = store.to_frame()
    rows = []
    for kind, rows_of_kind in [*frames.groupby("kind", observed=True), ("all", frames)]:
        by_session = rows_of_kind.groupby("session", observed=True)
        length = by_session.size() * store.period  # [s]
        rows.append(
            {
                "kind": str(kind),
                "devices": rows_of_kind["device"].nunique(),
                "sessions": len(length),
                "with a fault": int((by_session["state"].max() > 0).sum()),
                "seconds": len(rows_of_kind) * store.period,
                "hours": len(rows_of_kind) * store.period / 3600,
                "median length, s": float(length.median()),
                "shortest, s": float(length.min()),
                "longest, s": float(length.max()),
            }
        )
    return pd.DataFrame(rows)


def balance(data: Windows) -> pd.DataFrame:
    """Count rows and windows per state with their shares, and the share of each state within each kind of device."""
    frames, states = labelled(data.store), len(data.store.schema.states)
    seconds = np.bincount(frames["state"], minlength=states)
    windows = np.bincount(data.frame["label"], minlength=states)
    table = pd.DataFrame(
        {
            "state": data.store.schema.state_names,
            "seconds": seconds,
            "share of seconds": seconds / seconds.sum(),
            "windows": windows,
            "share of windows": windows / windows.sum(),
        }
    )
    for kind, rows in frames.groupby("kind", observed=True):
        table[f"share, {kind}"] = np.bincount(rows["state"], minlength=states) / len(rows)
    return table


def worst_sessions(store: Store) -> dict[str, int]:
    """Count labelled sessions, those that contain the worst state, and those in which it is the commonest."""
    worst = len(store.schema.states) - 1
    counts = pd.crosstab(labelled(store)["session"], labelled(store)["state"]).reindex(
        columns=range(worst + 1), fill_value=0
    )
    return {
        "sessions": len(counts),
        "contain": int((counts[worst] > 0).sum()),
        "dominated": int((counts.to_numpy().argmax(axis=1) == worst).sum()),
    }


def quantities(store: Store) -> dict[str, str]:
    """Return the columns that are compared with the state, with their units."""
    units = {name: channel.unit for name, channel in {**store.schema.channels, **store.schema.environment}.items()}
    if store.schema.thermal:
        units |= {f"thermal_{name}": "degC" for name in THERMAL_STATISTICS if name not in ("x_max", "y_max")}
    return {**units, "time": "s"}


def correlations(store: Store) -> pd.DataFrame:
    """Correlate quantities with the state: quantity, unit, pearson, rank (Spearman), pearson within each kind."""
    frames = labelled(store)
    state = frames["state"].to_numpy(float)
    kinds = {str(kind): (frames["kind"] == kind).to_numpy() for kind in sorted(frames["kind"].unique())}
    ranked = rankdata(state)
    rows = []
    for name, unit in quantities(store).items():
        values = frames[name].to_numpy(float)
        known = np.isfinite(values)
        row = {
            "quantity": name,
            "unit": unit,
            "pearson": _correlation(values[known], state[known]),
            "rank": _correlation(rankdata(values[known]), ranked[known]),
        }
        rows.append(
            row | {kind: _correlation(values[known & within], state[known & within]) for kind, within in kinds.items()}
        )
    return pd.DataFrame(rows)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 2 or not a.std() or not b.std():
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def distributions(store: Store) -> pd.DataFrame:
    """Summarise each quantity by kind and state: n, mean, sd and quantiles, in the unit of the quantity."""
    frames, units = labelled(store), quantities(store)
    rows = []
    for _, group in frames.groupby(["kind", "state"], observed=True):
        kind, state = group["kind"].iloc[0], int(group["state"].iloc[0])
        for name, unit in units.items():
            values = group[name].to_numpy(float)
            values = values[np.isfinite(values)]
            if len(values):
                row = {
                    "quantity": name,
                    "unit": unit,
                    "kind": str(kind),
                    "state": store.schema.states[state].name,
                    "n": len(values),
                    "mean": values.mean(),
                    "sd": values.std(),
                }
                rows.append(
                    row
                    | {f"q{100 * q:02.0f}": v for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}
                )
    return pd.DataFrame(rows).sort_values(
        "quantity", key=lambda c: c.map(list(units).index), kind="stable", ignore_index=True
    )


def shown_session(store: Store) -> str:
    """Choose the session to show: the most states, then the fewest repaired rows, then the first by name."""
    frames = labelled(store)
    by_session = frames.groupby("session", observed=True)
    table = pd.DataFrame(
        {"states": by_session["state"].nunique(), "repaired": by_session["quality"].agg(lambda q: int((q > 0).sum()))}
    )
    table["name"] = table.index.astype(str)
    return str(table.sort_values(["states", "repaired", "name"], ascending=[False, True, True])["name"].iloc[0])


def quality(store: Store) -> pd.DataFrame:
    """Count what was repaired, dropped and skipped while the store was built: what, reason, count, of."""
    manifest, quality = store.manifest, np.asarray(store.quality)
    counts = manifest["counts"]
    flags = {"sensors": SENSORS_REPAIRED, "thermal frame": THERMAL_REPAIRED, "environment": ENVIRONMENT_REPAIRED}
    total = len(store) + sum(counts["dropped_frames"].values())
    rows = [("seconds repaired", name, int((quality & flag > 0).sum()), total) for name, flag in flags.items()]
    rows += [("seconds dropped", reason, count, total) for reason, count in counts["dropped_frames"].items()]
    sessions = counts["sessions"] + len(manifest["skipped_sessions"])
    reasons = pd.Series([skip["reason"] for skip in manifest["skipped_sessions"]], dtype=object).value_counts()
    rows += [("sessions skipped", str(reason), int(count), sessions) for reason, count in reasons.items()]
    rows.append(
        ("sessions without labels, not trained on", "no label archive", len(manifest["unlabelled_sessions"]), sessions)
    )
    return pd.DataFrame(rows, columns=["what", "reason", "count", "of"])


def quality_examples(store: Store) -> pd.DataFrame:
    """List the examples of defects that the store keeps: where, reason, found."""
    skipped = [(s["session"], s["reason"], s["message"]) for s in store.manifest["skipped_sessions"]]
    dropped = [
        (d["where"], d["reason"], d["message"]) for rows in store.manifest["dropped_examples"].values() for d in rows
    ]
    repaired = [
        (name, "repaired", f"{rows} row{'' if rows == 1 else 's'}")
        for name, rows in store.sessions[["name", "repaired"]].to_numpy().tolist()
        if rows
    ]
    return pd.DataFrame([*skipped, *dropped, *repaired], columns=["where", "reason", "found"])


def class_weights(counts: np.ndarray) -> np.ndarray:
    """Return 1 / count of each state, scaled to sum to the number of states; (K,)."""
    weights = 1 / np.maximum(counts, 1)
    return weights * len(counts) / weights.sum()
