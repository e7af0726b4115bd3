"""What a data set asks of a model, by fixed rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from conveyorguard.data.exploration import class_weights, correlations, labelled, worst_sessions
from conveyorguard.data.store import Store
from conveyorguard.data.windows import Windows


@dataclass(frozen=True)
class Implication:
    """A property of the data, the figure it was decided by, the rule, and what follows."""

    about: str
    found: str
    rule: str
    follows: str


def find_implications(data: Windows) -> list[Implication]:
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
