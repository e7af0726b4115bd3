"""What the data are. Every figure is computed from the frame store; another study's may be quoted beside."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from conveyorguard.data import exploration
from conveyorguard.data.implications import Implication, find_implications
from conveyorguard.data.store import Store
from conveyorguard.data.windows import Windows
from conveyorguard.reporting import figures, pages, recording_figures
from conveyorguard.reporting.figures import styled
from conveyorguard.reporting.format import state_titles
from conveyorguard.reporting.reference import Reference
from conveyorguard.reporting.site import Site

TITLES = {"00_eda": "Data"}  # of a site that has this page alone
KIND_COLOURS = (figures.BLUE, figures.STATE_COLOURS[2], figures.STATE_COLOURS[0], figures.GREY)
STATISTICS = ("mean", "sd", *(f"q{100 * q:02.0f}" for q in exploration.QUANTILES))
FRAMES_A_STATE = 2  # of the filmstrip


def write_eda(site: Site, data: Windows, reference: Reference | None = None) -> Path:
    """Write 00_eda.html and its tables; returns the page's path.

    Args:
        site: has a title for `00_eda`. data: windows with their store. reference: a study quoted beside the data.
    """
    store = data.store
    implications = find_implications(data)
    blocks = [
        _sizes(site, store, reference),
        _balance(site, data, reference),
        _correlations(site, store, reference),
        _distributions(site, store),
        _timeline(store),
        _camera(site, store),
        _environment(site, store),
        _quality(site, store),
        _implications(site, implications),
    ]
    counts = store.manifest["counts"]
    worst = exploration.worst_sessions(store)
    said = [
        f"{counts['sessions']} sessions, {counts['frames']:,} seconds, {store.sessions['device'].nunique()} devices.",
        f"{worst['contain']} sessions contain {store.schema.states[-1].name}, {worst['dominated']} are dominated by "
        "it.",
        f"{len(implications)} design implications computed from the data.",
    ]
    return site.write(
        "00_eda",
        "What was recorded, how states show in it, and what that asks of a model",
        [b for b in blocks if b],
        said,
    )


def _sizes(site: Site, store: Store, reference: Reference | None) -> str:
    table = exploration.sizes(store)
    whole = table.iloc[-1]
    tiles = [
        ("sessions", f"{whole['sessions']:,}"),
        ("devices", f"{whole['devices']:,}"),
        ("seconds, a frame each", f"{whole['seconds']:,}"),
        ("hours", f"{whole['hours']:.1f}"),
        ("sessions with a fault", f"{whole['with a fault']:,}"),
        ("channels", f"{len(store.schema.channels)}"),
    ]
    note = []
    if reference:
        sizes = ", ".join(f"{number:,} {unit}" for unit, number in reference.sizes.items())
        note.append(f"{reference.heading}: {sizes}.")
    camera = store.schema.thermal
    if camera and store.thermal is not None:
        megabytes = store.thermal.nbytes / 1e6
        note.append(
            f"Thermal frames of {camera.shape[0]} x {camera.shape[1]} pixels are kept as "
            f"{' and '.join(camera.channels)} of "
            f"{camera.stored_shape[1]} x {camera.stored_shape[2]} ({megabytes:,.0f} MB)."
        )
    shown = site.table("00_sizes", table, {"hours": ".2f", "median length, s": ".0f"})
    return pages.section("Size", pages.tiles(tiles), shown, note=" ".join(note))


def _balance(site: Site, data: Windows, reference: Reference | None) -> str:
    store = data.store
    table = exploration.balance(data)
    names = state_titles(store.schema)
    plot = go.Figure()
    for column, colour in zip(("share of seconds", "share of windows"), KIND_COLOURS, strict=False):
        plot.add_bar(
            x=names,
            y=table[column],
            name=column,
            marker_color=colour,
            text=[f"{v:.1%}" for v in table[column]],
            textposition="outside",
        )
    styled(plot, "States, by second and by window", height=340, y="share").update_yaxes(
        tickformat=".0%", range=[0, 1.2 * table["share of seconds"].max()]
    )
    shares = dict.fromkeys([c for c in map(str, table) if c.startswith("share")], ".1%")
    note = [
        f"A window's label is its {'commonest' if data.settings.label == 'majority' else 'last'} state. Dominated: "
        f"{store.schema.states[-1].name} is the session's commonest state."
    ]
    if reference:
        quoted = " / ".join(f"{100 * share:.1f} %" for share in reference.state_shares)
        note.append(f"{reference.heading}, shares of the seconds: {quoted}.")
    return pages.section(
        "Balance of the states",
        pages.pair(
            pages.figure(plot, "share of each state among seconds and windows"), _worst_sessions(store, reference)
        ),
        site.table("00_balance", table.assign(state=names), shares),
        note=" ".join(note),
    )


def _worst_sessions(store: Store, reference: Reference | None) -> str:
    """In how many sessions the worst state occurs, and is the commonest."""
    counts = exploration.worst_sessions(store)
    header: list[str] = ["", "here"]
    rows: list[list[Any]] = [
        ["sessions that contain it", f"{counts['contain']} of {counts['sessions']}"],
        ["sessions dominated by it", counts["dominated"]],
    ]
    if reference:
        header.append(reference.column)
        rows[0].append(f"{reference.worst_sessions['contain']} of {reference.sizes['sessions']}")
        rows[1].append(reference.worst_sessions["dominated"])
    return f"<h3>{pages.escape(state_titles(store.schema)[-1])}, session by session</h3>{pages.table(header, rows)}"


def _correlations(site: Site, store: Store, reference: Reference | None) -> str:
    table = exploration.correlations(store)
    shown = table.assign(**{reference.column: table["quantity"].map(reference.correlations)}) if reference else table
    order = table.reindex(table["pearson"].abs().sort_values(ascending=False).index)
    plot = go.Figure()
    for column, colour in zip(("pearson", "rank"), KIND_COLOURS, strict=False):
        plot.add_bar(y=order["quantity"], x=order[column], name=column, orientation="h", marker_color=colour)
    styled(plot, "Correlation with the state", height=110 + 26 * len(order), x="correlation").update_yaxes(
        autorange="reversed", showgrid=False
    )
    formats = dict.fromkeys([c for c in map(str, shown) if c not in ("quantity", "unit")], "+.3f")
    note = (
        "Over labelled seconds; rank is Spearman's; the kinds apart are Pearson's. time is seconds since the "
        "recording began: a shortcut, "
        "not a measurement. A channel whose level differs between kinds correlates more within a kind than over all."
    )
    alt = "bars of the correlation of each quantity with the state"
    return pages.section(
        "What goes with the state", pages.figure(plot, alt), site.table("00_correlations", shown, formats), note=note
    )


def _boxes(
    table: pd.DataFrame, store: Store, title: str, logarithmic: Collection[str] = (), columns: int = 2
) -> go.Figure:
    """A panel a quantity: 5, 25, 50, 75 and 95 % of each state and kind."""
    quantities = list(dict.fromkeys(table["quantity"]))
    units = dict(zip(table["quantity"], table["unit"], strict=True))
    rows = -(-len(quantities) // columns)
    plot = make_subplots(
        rows,
        columns,
        subplot_titles=[f"{q}, {units[q]}" for q in quantities],
        vertical_spacing=0.32 / rows,
        horizontal_spacing=0.08,
    )
    kinds = sorted(set(table["kind"]))
    for i, quantity in enumerate(quantities):
        for kind, colour in zip(kinds, KIND_COLOURS * len(kinds), strict=False):
            own = table[(table["quantity"] == quantity) & (table["kind"] == kind)]
            plot.add_trace(
                go.Box(
                    x=own["state"],
                    lowerfence=own["q05"],
                    q1=own["q25"],
                    median=own["q50"],
                    q3=own["q75"],
                    upperfence=own["q95"],
                    name=kind,
                    legendgroup=kind,
                    showlegend=i == 0,
                    marker_color=colour,
                    offsetgroup=kind,
                ),
                i // columns + 1,
                i % columns + 1,
            )
        if quantity in logarithmic:
            plot.update_yaxes(type="log", dtick=1, row=i // columns + 1, col=i % columns + 1)
    styled(plot, title, height=90 + 235 * rows)
    return plot.update_layout(boxmode="group", legend={"y": 1 + 0.12 / rows, "yanchor": "bottom"}, margin={"t": 80})


def _distribution(store: Store) -> pd.DataFrame:
    """`exploration.distributions` with the states as pages show them."""
    labels = dict(zip(store.schema.state_names, state_titles(store.schema), strict=True))
    table = exploration.distributions(store)
    return table.assign(state=table["state"].map(labels))


def _distributions(site: Site, store: Store) -> str:
    table = _distribution(store)
    channels = table[table["quantity"].isin(store.schema.channels)]
    logs = {name for name, channel in store.schema.channels.items() if channel.scaling == "log"}
    plot = _boxes(channels, store, "Each channel by state", logs)
    formats = dict.fromkeys(STATISTICS, ".2f")
    every = f"<details><summary>the numbers</summary>{site.table('00_distributions', table, formats)}</details>"
    note = "Boxes: quartiles; whiskers: 5 and 95 %. Channels that the schema calls logarithmic have a logarithmic axis."
    return pages.section(
        "Channels by state and kind",
        pages.figure(plot, "box plots of each channel by state and kind of device"),
        every,
        note=note,
    )


def _timeline(store: Store) -> str:
    name = exploration.shown_session(store)
    rows = np.flatnonzero(store.rows_of([name]))
    own = store.to_frame(slice(rows[0], rows[-1] + 1))
    seconds, state = own["time"].to_numpy(), own["state"].to_numpy()
    channels = list(store.schema.channels)
    units = [store.schema.channels[c].unit for c in channels]
    plot = recording_figures.traces(seconds, store.sensors[rows], channels, units, state, len(store.schema.states))
    names = state_titles(store.schema)
    for k in np.unique(state[state >= 0]):
        plot.add_annotation(
            x=float(np.mean(seconds[state == k])),
            y=0.995,
            yref="paper",
            yanchor="top",
            showarrow=False,
            bgcolor="rgba(255, 255, 255, 0.75)",
            text=pages.escape(names[k]),
        )
    plot.update_layout(title_text=f"Sensors of {pages.escape(name)}")
    parts = [pages.figure(plot, f"all channels of session {name} over time, the states as colours behind")]
    if store.thermal is not None:
        chosen = np.concatenate([spread(np.flatnonzero(state == k)) for k in np.unique(state[state >= 0])])
        frames = np.asarray(store.thermal[rows[chosen], -1], np.float32)
        low, high = float(frames.min()), float(frames.max())
        strip = [
            (
                recording_figures.thermal_image(frame, low, high),
                f"{seconds[i]} s, {names[state[i]]}, up to {own['thermal_max'].iloc[i]:.1f} °C",
            )
            for frame, i in zip(frames, chosen, strict=True)
        ]
        parts += [f"<h3>Camera, {low:.0f} °C (dark) to {high:.0f} °C (yellow)</h3>", pages.film(strip)]
    note = (
        f"{name}, {own['device'].iloc[0]}: of the sessions that go through the most states, the one with the fewest "
        "repaired seconds, the first "
        "by name. Colours behind the traces: states, green is normal, red the worst."
    )
    return pages.section("One session with a fault", *parts, note=note)


def spread(rows: np.ndarray) -> np.ndarray:
    """The middle and the last of the rows of a state."""
    return np.unique(rows[np.linspace(0, len(rows) - 1, FRAMES_A_STATE + 1).astype(int)[1:]])


def _camera(site: Site, store: Store) -> str:
    if not store.schema.thermal:
        return ""
    table = _distribution(store)
    own = table[table["quantity"] == "thermal_max"]
    plot = _boxes(own, store, "Maximum of the thermal frame by state", columns=1)
    plot.update_layout(height=360)
    formats = dict.fromkeys(STATISTICS, ".1f")
    shown = site.table("00_thermal_maxima", own.drop(columns=["quantity", "unit"]), formats)
    return pages.section(
        "Hottest pixel by state",
        pages.figure(plot, "box plots of the frame maximum by state and kind"),
        shown,
        note="The maximum of each full-resolution frame, degC, after repair of impossible pixels.",
    )


def _environment(site: Site, store: Store) -> str:
    if not store.schema.environment:
        return ""
    frames = exploration.labelled(store)
    known = exploration.correlations(store).set_index("quantity")["pearson"]
    rows = [
        {
            "quantity": name,
            "unit": channel.unit,
            "kind": str(kind),
            "mean": own[name].mean(),
            "sd": own[name].std(),
            "sd within sessions": own.groupby("session", observed=True)[name].std().mean(),
            "correlation with the state, all": known[name],
        }
        for name, channel in store.schema.environment.items()
        for kind, own in frames.groupby("kind", observed=True)
    ]
    formats = {"mean": ".2f", "sd": ".2f", "sd within sessions": ".2f", "correlation with the state, all": "+.3f"}
    note = (
        "Of the room, not of the device. What hardly changes within a session can tell where and when it was "
        "recorded, not how worn the device is."
    )
    return pages.section("Environment", site.table("00_environment", pd.DataFrame(rows), formats), note=note)


def _quality(site: Site, store: Store) -> str:
    table = exploration.quality(store)
    examples = exploration.quality_examples(store)
    parts = [site.table("00_quality", table, look="prose")]
    if len(examples):
        parts.append(
            f"<details><summary>where</summary>{site.table('00_quality_where', examples, look='prose')}</details>"
        )
    note = (
        "Repaired: NaN, Inf or impossible pixels taken from their neighbours, and flagged. Dropped: a second that "
        "misses a part or cannot be read. "
        "Skipped: a session of which nothing can be had."
    )
    return pages.section("Quality of the data", *parts, note=note)


def _implications(site: Site, implications: list[Implication]) -> str:
    table = pd.DataFrame(
        [{"about": i.about, "found": i.found, "rule": i.rule, "what follows": i.follows} for i in implications]
    )
    shown = site.table("00_implications", table, look="prose")
    return pages.section(
        "What this asks of a model",
        shown,
        note="Computed from these data by the rules told; other data give other lines.",
    )
