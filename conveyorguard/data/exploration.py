"""What the data say before anything is trained: tables of a frame store and its windows, and what follows from them by
fixed rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from conveyorguard.data.schema import THERMAL_STATISTICS, UNLABELLED
from conveyorguard.data.store import ENVIRONMENT_REPAIRED, SENSORS_REPAIRED, THERMAL_REPAIRED, Store
from conveyorguard.data.windows import Windows

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Implication:
    """A property of the data, the figure it was decided by, the rule, and what follows."""

    about: str
    found: str
    rule: str
    follows: str


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
    """A row a state: seconds and windows with their shares, and the seconds of each kind."""
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


def implications(data: Windows) -> list[Implication]:
    """What the data ask of a model, decided by fixed rules."""
    found = [
        _imbalance(data),
        _session_labels(data),
        _spread(data.store),
        _clipping(data.store),
        _camera(data.store),
        _kinds(data.store),
        _environment(data.store),
        _clock(data.store),
        _order(data.store),
        _mixed(data),
        _repaired(data.store),
        _devices(data),
    ]
    return [one for one in found if one is not None]


def class_weights(counts: np.ndarray) -> np.ndarray:
    """1 / count of each state, scaled to sum to the number of states; (K,)."""
    weights = 1 / np.maximum(counts, 1)
    return weights * len(counts) / weights.sum()


def _imbalance(data: Windows) -> Implication:
    counts = data.class_counts()
    ratio = counts.max() / max(counts.min(), 1)
    weights = " ".join(f"{w:.2f}" for w in class_weights(counts))
    follows = f"weigh the states by 1 / count: {weights}" if ratio > 3 else "no class weights are needed"
    return Implication(
        "Balance of the states",
        f"the commonest state has {ratio:.1f} times the train windows of the rarest",
        "weights above 3 times",
        follows,
    )


def _session_labels(data: Windows) -> Implication:
    count, worst = worst_sessions(data.store), data.store.schema.states[-1].name
    frames = labelled(data.store)
    length = frames[frames["state"] == len(data.store.schema.states) - 1].groupby("session", observed=True).size()
    short = 2 * count["dominated"] < count["contain"]
    found = (
        f"{count['contain']} of {count['sessions']} sessions contain {worst}, {count['dominated']} are dominated by it"
    )
    if len(length):
        found += f"; it lasts {length.median():.0f} s (median)"
    fits = len(length) and data.settings.size <= length.median()
    follows = (
        f"label windows, not sessions; windows of {data.settings.size} s "
        f"{'fit into it' if fits else 'are longer than it: take shorter ones'}"
        if short
        else "a label of the whole session would do"
    )
    return Implication(
        f"How long {worst} lasts",
        found,
        "windows where it dominates fewer than half of the sessions that contain it",
        follows,
    )


def _spread(store: Store) -> Implication:
    frames = labelled(store)
    wide = []
    for name in store.schema.channels:
        for _, own in frames.groupby("kind", observed=True):
            low, high = np.nanquantile(own[name], [0.5, 0.99])
            if low > 0 and high / low > 10 and name not in wide:
                wide.append(name)
    flagged = [name for name, channel in store.schema.channels.items() if channel.scaling == "log"]
    follows = (
        f"give models their logarithm; the schema does so for {', '.join(flagged) or 'none'}"
        if wide
        else "linear scales do"
    )
    return Implication(
        "Spread of the channels",
        f"over decades within a kind: {', '.join(wide) or 'none'}",
        "99th percentile above 10 times the median",
        follows,
    )


def _clipping(store: Store) -> Implication:
    frames = labelled(store)
    values = frames[list(store.schema.channels)].to_numpy(float)
    above = (values > np.nanquantile(values, 0.99, axis=0)).any(axis=1)
    worst = (frames["state"] == len(store.schema.states) - 1).to_numpy()
    share = above[worst].mean() if worst.any() else 0.0
    name = store.schema.states[-1].name
    follows = (
        f"do not clip scaled values: it would cut off what {name} looks like"
        if share > 0.05
        else "clipping there costs little"
    )
    return Implication(
        "What clipping would cut off",
        f"{share:.0%} of the {name} seconds ({above[~worst].mean():.0%} of the others) lie above the 99th "
        "percentile of a channel",
        "no clipping above 5 %",
        follows,
    )


def _camera(store: Store) -> Implication | None:
    if not store.schema.thermal:
        return None
    frames = labelled(store)
    state, worst = frames["state"].to_numpy(), len(store.schema.states) - 1
    chosen = (state == 0) | (state == worst)
    if len(set(state[chosen])) < 2:
        return None
    ranks = rankdata(frames["thermal_max"].to_numpy()[chosen])
    high = state[chosen] == worst
    area = (ranks[high].mean() - (high.sum() + 1) / 2) / (~high).sum()
    follows = (
        "keep degrees: scaling each frame by its own minimum and maximum throws this away"
        if area > 0.95
        else "absolute degrees are no shortcut here"
    )
    names = store.schema.states[0].name, store.schema.states[-1].name
    return Implication(
        "The camera's maximum",
        f"it alone parts {names[0]} and {names[1]} seconds with an area under the curve of {area:.3f}",
        "absolute degC above 0.95",
        follows,
    )


def _kinds(store: Store) -> Implication | None:
    frames = labelled(store)
    normal = frames[frames["state"] == 0]
    if normal["kind"].nunique() < 2:
        return None
    groups = normal.groupby("kind", observed=True)[list(store.schema.channels)]
    apart = (groups.mean().max() - groups.mean().min()) / np.sqrt((groups.var()).mean())
    visible = [f"{name} ({value:.0f})" for name, value in apart.items() if value > 3]
    follows = (
        "report each kind on its own, and hold models against the shortcut 'kind only'"
        if visible
        else "kinds can be taken together"
    )
    return Implication(
        "Kinds of device",
        f"normal means differ by more than 3 sd between kinds in: {', '.join(visible) or 'no channel'}",
        "any channel beyond 3 sd",
        follows,
    )


def _environment(store: Store) -> Implication | None:
    if not store.schema.environment:
        return None
    table = correlations(store).set_index("quantity").loc[list(store.schema.environment)]
    within = table.drop(columns=["unit", "pearson", "rank"]).abs().fillna(0.0)  # what never changes tells nothing
    largest, where = float(within.to_numpy(float).max()), str(within.max(axis=1).idxmax())
    fewest = int(labelled(store).groupby("kind", observed=True)["session"].nunique().min())
    bound = max(
        0.1, 2 / np.sqrt(fewest)
    )  # the environment hardly changes within a session, so sessions are what is counted
    follows = (
        "expect little of the environment by itself: film must show its worth in the ablation"
        if largest < bound
        else (
            "it tells something of the state in these recordings: see that a model does not learn the day or the "
            "place instead"
        )
    )
    return Implication(
        "Environment",
        f"its largest correlation with the state within a kind is {largest:.2f} ({where})",
        f"little below {bound:.2f}, as far as chance goes with {fewest} sessions",
        follows,
    )


def _clock(store: Store) -> Implication:
    rank = float(correlations(store).set_index("quantity")["rank"]["time"])
    follows = (
        "hold every model against the shortcut 'elapsed seconds only'"
        if rank > 0.5
        else "elapsed time is no shortcut here"
    )
    return Implication(
        "The clock",
        f"elapsed seconds have a rank correlation of {rank:.2f} with the state",
        "a shortcut above 0.5",
        follows,
    )


def _order(store: Store) -> Implication:
    forward = (
        labelled(store).groupby("session", observed=True)["state"].agg(lambda s: bool((np.diff(s) >= 0).all())).mean()
    )
    follows = (
        "count how far a mistake is off: ordinal error and weighted kappa beside accuracy"
        if forward >= 0.95
        else "states come back: they are no order in time"
    )
    return Implication(
        "Order of the states",
        f"in {forward:.0%} of the sessions the state never goes back",
        "ordered from 95 %",
        follows,
    )


def _mixed(data: Windows) -> Implication:
    mixed = 1 - data.frame["pure"].mean()
    follows = (
        "no window model can be right all the time; supervise seconds beside windows"
        if mixed > 0.1
        else "window labels are enough"
    )
    return Implication(
        "Mixed windows", f"{mixed:.1%} of the windows have more than one state", "seconds above 10 %", follows
    )


def _repaired(store: Store) -> Implication:
    dropped = sum(store.manifest["counts"]["dropped_frames"].values())
    repaired = int((np.asarray(store.quality) > 0).sum())
    follows = "tell the model which seconds were measured (the batch's mask)" if repaired else "nothing to mask"
    return Implication(
        "Quality",
        f"{repaired:,} seconds repaired, {dropped:,} dropped of {len(store) + dropped:,}",
        "mask above 0",
        follows,
    )


def _devices(data: Windows) -> Implication:
    per_device = data.frame.groupby("device")["session"].nunique()
    owners = {part: set(data.part(part)["device"]) for part in ("train", "test")}
    shared = len(owners["train"] & owners["test"])
    follows = (
        "figures hold for known devices; split=device asks about new ones"
        if shared
        else "test devices are new to the model"
    )
    return Implication(
        "Devices",
        f"sessions a device: {per_device.median():.0f} (median); {shared} of {len(owners['test'])} test devices are "
        "trained on",
        "known where any is shared",
        follows,
    )
