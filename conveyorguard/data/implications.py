"""What a data set demands of a model, by fixed rules."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from conveyorguard.data.durations import text_of
from conveyorguard.data.exploration import class_weights, correlations, labelled, worst_sessions
from conveyorguard.data.store import Store
from conveyorguard.data.windows import Windows


@dataclass(frozen=True)
class Implication:
    """What follows from a property of the data.

    Attributes:
        about: the property.
        value: its value in these data.
        rule: the limit it is compared with.
        follows: the advice.
    """

    about: str
    value: str
    rule: str
    follows: str


def find_implications(data: Windows) -> list[Implication]:
    """Return what the data demand of a model, each decided by a fixed rule."""
    implications = [
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
    return [implication for implication in implications if implication is not None]


def _imbalance(data: Windows) -> Implication:
    counts = data.class_counts()
    ratio = counts.max() / max(counts.min(), 1)
    weights = " ".join(f"{w:.2f}" for w in class_weights(counts))
    follows = f"weight the states by 1 / count: {weights}" if ratio > 3 else "no class weights are needed"
    return Implication(
        "Balance of the states",
        f"the commonest state has {ratio:.1f} times as many train windows as the rarest",
        "class weights above a ratio of 3",
        follows,
    )


def _session_labels(data: Windows) -> Implication:
    count, worst = worst_sessions(data.store), data.store.schema.states[-1].name
    frames = labelled(data.store)
    length = frames[frames["state"] == len(data.store.schema.states) - 1].groupby("session", observed=True).size()
    short = 2 * count["dominated"] < count["contain"]
    observation = (
        f"{count['contain']} of {count['sessions']} sessions contain {worst}; "
        f"it is the commonest state of {count['dominated']}"
    )
    if len(length):
        observation += f"; it lasts {text_of(length.median() * data.store.period)} (median)"
    fits = len(length) and data.settings.size <= length.median()
    follows = (
        f"label windows, not sessions; windows of {text_of(data.settings.size * data.store.period)} "
        f"{'fit into it' if fits else 'are longer than it: use shorter windows'}"
        if short
        else "one label per session would be enough"
    )
    return Implication(
        f"How long {worst} lasts",
        observation,
        f"label windows if {worst} is the commonest state in fewer than half of the sessions that contain it",
        follows,
    )


def _spread(store: Store) -> Implication:
    frames = labelled(store)
    wide = []
    for name in store.schema.channels:
        for _, rows in frames.groupby("kind", observed=True):
            low, high = np.nanquantile(rows[name], [0.5, 0.99])
            if low > 0 and high / low > 10 and name not in wide:
                wide.append(name)
    flagged = [name for name, channel in store.schema.channels.items() if channel.scaling == "log"]
    follows = (
        f"use their logarithm; the schema does so for {', '.join(flagged) or 'none'}"
        if wide
        else "linear scaling is enough"
    )
    return Implication(
        "Spread of the channels",
        f"channels that span decades within a kind: {', '.join(wide) or 'none'}",
        "a 99th percentile above 10 times the median",
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
        f"do not clip scaled values: clipping would remove what distinguishes {name}"
        if share > 0.05
        else "clipping there loses little"
    )
    return Implication(
        "What clipping would remove",
        f"{share:.0%} of the rows in state {name} ({above[~worst].mean():.0%} of the others) exceed the 99th "
        "percentile of some channel",
        "no clipping if more than 5 %",
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
        "keep absolute temperatures: scaling each frame by its minimum and maximum would discard this"
        if area > 0.95
        else "the absolute temperature alone does not give the state away"
    )
    names = store.schema.states[0].name, store.schema.states[-1].name
    return Implication(
        "Maximum of the frame",
        f"alone it separates {names[0]} from {names[1]} with an area under the ROC curve of {area:.3f}",
        "absolute temperatures if above 0.95",
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
        "report each kind separately, and compare models with the shortcut 'kind only'"
        if visible
        else "kinds can be pooled"
    )
    return Implication(
        "Kinds of device",
        f"means in the first state that differ by more than 3 sd between kinds: {', '.join(visible) or 'none'}",
        "separate kinds if any channel exceeds 3 sd",
        follows,
    )


def _environment(store: Store) -> Implication | None:
    if not store.schema.environment:
        return None
    table = correlations(store).set_index("quantity").loc[list(store.schema.environment)]
    within = table.drop(columns=["unit", "pearson", "rank"]).abs().fillna(0.0)  # a constant has no correlation
    largest, where = float(within.to_numpy(float).max()), str(within.max(axis=1).idxmax())
    fewest = int(labelled(store).groupby("kind", observed=True)["session"].nunique().min())
    # the environment hardly changes within a session, so that its sample size is the number of sessions
    bound = max(0.1, 2 / np.sqrt(fewest))
    follows = (
        "the environment alone says little about the state: see in the ablation whether film helps"
        if largest < bound
        else (
            "the environment is related to the state here: make sure that a model does not learn the day or the place"
        )
    )
    return Implication(
        "Environment",
        f"its largest correlation with the state within a kind is {largest:.2f} ({where})",
        f"weak if below {bound:.2f}, which chance alone can reach with {fewest} sessions",
        follows,
    )


def _clock(store: Store) -> Implication:
    rank = float(correlations(store).set_index("quantity")["rank"]["time"])
    follows = (
        "compare every model with the shortcut 'elapsed seconds only'"
        if rank > 0.5
        else "elapsed time alone does not give the state away"
    )
    return Implication(
        "Elapsed time",
        f"its rank correlation with the state is {rank:.2f}",
        "a shortcut if above 0.5",
        follows,
    )


def _order(store: Store) -> Implication:
    forward = (
        labelled(store).groupby("session", observed=True)["state"].agg(lambda s: bool((np.diff(s) >= 0).all())).mean()
    )
    follows = (
        "count how far errors are off: ordinal error and weighted kappa beside accuracy"
        if forward >= 0.95
        else "devices recover within sessions: states are not ordered in time"
    )
    return Implication(
        "Order of the states",
        f"in {forward:.0%} of the sessions the state never improves",
        "ordered if 95 % or more",
        follows,
    )


def _mixed(data: Windows) -> Implication:
    mixed = 1 - data.frame["pure"].mean()
    follows = (
        "a label per window is ambiguous for these; supervise each row too"
        if mixed > 0.1
        else "a label per window is enough"
    )
    return Implication(
        "Mixed windows", f"{mixed:.1%} of the windows have more than one state", "rows if above 10 %", follows
    )


def _repaired(store: Store) -> Implication:
    dropped = sum(store.manifest["counts"]["dropped_frames"].values())
    repaired = int((np.asarray(store.quality) > 0).sum())
    follows = "give the model the mask of measured rows" if repaired else "nothing to mask"
    return Implication(
        "Quality",
        f"{repaired:,} rows repaired, {dropped:,} dropped of {len(store) + dropped:,}",
        "a mask if any row was repaired",
        follows,
    )


def _devices(data: Windows) -> Implication:
    per_device = data.frame.groupby("device")["session"].nunique()
    owners = {part: set(data.part(part)["device"]) for part in ("train", "test")}
    shared = len(owners["train"] & owners["test"])
    follows = (
        "results hold for known devices; split=device measures new ones"
        if shared
        else "the test devices are new to the model"
    )
    return Implication(
        "Devices",
        f"{per_device.median():.0f} sessions per device (median); {shared} of {len(owners['test'])} test devices are "
        "also in train",
        "known devices if any is shared",
        follows,
    )
