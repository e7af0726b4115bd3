"""What the data say before anything is trained: tables of a frame store and its windows, and what follows from them by
fixed rules."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from conveyorguard.data.schema import THERMAL_STATISTICS, UNLABELLED
from conveyorguard.data.store import ENVIRONMENT_REPAIRED, SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.windows import Windows

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def labelled(store: Store) -> pd.DataFrame:
    """The seconds that have a state."""
    frames = store.to_frame()
    return frames[frames["state"] != UNLABELLED]


def sizes(store: Store) -> pd.DataFrame:
    """A row a kind of device and one for all: devices, sessions, those with a fault, seconds, hours, shortest and
    longest session."""
    frames = store.to_frame()
    rows = []
    for kind, own in [*frames.groupby("kind", observed=True), ("all", frames)]:
        by_session = own.groupby("session", observed=True)
        length = by_session.size()
        rows.append(
            {
                "kind": str(kind),
                "devices": own["device"].nunique(),
                "sessions": len(length),
                "with a fault": int((by_session["state"].max() > 0).sum()),
                "seconds": len(own),
                "hours": len(own) / 3600,
                "median length, s": float(length.median()),
                "shortest, s": int(length.min()),
                "longest, s": int(length.max()),
            }
        )
    return pd.DataFrame(rows)


def balance(data: Windows) -> pd.DataFrame:
    """A row a state: seconds and windows with their shares, and its share of the seconds of each kind of device."""
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
    for kind, own in frames.groupby("kind", observed=True):
        table[f"share, {kind}"] = np.bincount(own["state"], minlength=states) / len(own)
    return table


def worst_sessions(store: Store) -> dict[str, int]:
    """How many labelled sessions contain the worst state, and in how many it is the commonest."""
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
    """Every column that may be held against the state, with its unit."""
    found = {name: channel.unit for name, channel in {**store.schema.channels, **store.schema.environment}.items()}
    if store.schema.thermal:
        units = {name: "px" if name in ("x_max", "y_max") else "degC" for name in THERMAL_STATISTICS}
        found |= {f"thermal_{name}": unit for name, unit in units.items() if unit == "degC"}
    return {**found, "time": "s"}


def correlations(store: Store) -> pd.DataFrame:
    """Correlation of every quantity with the state: quantity, unit, pearson, rank (Spearman's), and pearson within each
    kind."""
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
        rows.append(row | {kind: _correlation(values[known & own], state[known & own]) for kind, own in kinds.items()})
    return pd.DataFrame(rows)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) < 2 or not a.std() or not b.std():
        return float("nan")
    return float(np.corrcoef(a, b)[0, 1])


def distributions(store: Store) -> pd.DataFrame:
    """A row a quantity, kind and state: n, mean, sd and quantiles, in the unit of the quantity."""
    frames, units = labelled(store), quantities(store)
    rows = []
    for _, own in frames.groupby(["kind", "state"], observed=True):
        kind, state = own["kind"].iloc[0], int(own["state"].iloc[0])
        for name, unit in units.items():
            values = own[name].to_numpy(float)
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
    """The session to look at: through every state, of these with the fewest repaired seconds, of these the first by
    name."""
    frames = labelled(store)
    by_session = frames.groupby("session", observed=True)
    table = pd.DataFrame(
        {"states": by_session["state"].nunique(), "repaired": by_session["quality"].agg(lambda q: int((q > 0).sum()))}
    )
    table["name"] = table.index.astype(str)
    return str(table.sort_values(["states", "repaired", "name"], ascending=[False, True, True])["name"].iloc[0])


def quality(store: Store) -> pd.DataFrame:
    """What was repaired, dropped or skipped while the store was built: what, reason, count, of."""
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
    """Where, in full, as far as the store keeps it: place, reason, what was found."""
    skipped = [(s["session"], s["reason"], s["message"]) for s in store.manifest["skipped_sessions"]]
    dropped = [
        (d["where"], d["reason"], d["message"]) for found in store.manifest["dropped_examples"].values() for d in found
    ]
    repaired = [
        (name, "repaired", f"{seconds} seconds")
        for name, seconds in store.sessions[["name", "repaired"]].to_numpy().tolist()
        if seconds
    ]
    return pd.DataFrame([*skipped, *dropped, *repaired], columns=["where", "reason", "found"])


def class_weights(counts: np.ndarray) -> np.ndarray:
    """1 / count of each state, scaled to sum to the number of states; (K,)."""
    weights = 1 / np.maximum(counts, 1)
    return weights * len(counts) / weights.sum()
