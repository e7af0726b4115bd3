"""00_eda.html: what was recorded, computed from the frame store; figures of another study may be quoted beside."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup, escape
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

TITLES = {"00_eda": "Data"}  # for a site with this page only
KIND_COLOURS = (figures.BLUE, figures.STATE_COLOURS[2], figures.STATE_COLOURS[0], figures.GREY)
STATISTICS = ("mean", "sd", *(f"q{100 * q:02.0f}" for q in exploration.QUANTILES))
FRAMES_PER_STATE = 2  # thermal frames that are shown


def write_eda(site: Site, data: Windows, reference: Reference | None = None) -> Path:
    """Write 00_eda.html and its tables, and return the page's path.

    Args:
        site: a site with a title for `00_eda`.
        data: windows with their store.
        reference: a study that is quoted beside the data.
    """
    store = data.store
    implications = find_implications(data)
    main = pages.render(
        "eda.html.jinja",
        size=_sizes(site, store, reference),
        balance=_balance(site, data, reference),
        correlations=_correlations(site, store, reference),
        channels=_distributions(site, store),
        session=_timeline(store),
        camera=_camera(site, store) if store.schema.thermal else None,
        environment=_environment(site, store) if store.schema.environment else None,
        implications=_implications(site, implications),
        **_quality(site, store),
    )
    counts = store.manifest["counts"]
    worst = exploration.worst_sessions(store)
    sentences = [
        f"{counts['sessions']} sessions, {counts['frames']:,} rows, {store.sessions['device'].nunique()} devices.",
        f"{worst['contain']} sessions contain {store.schema.states[-1].name}, in {worst['dominated']} it is the "
        "commonest state.",
        f"{len(implications)} implications for a model, computed from the data.",
    ]
    return site.write(
        "00_eda", "What was recorded, how states show in it, and what follows for a model", main, sentences
    )


def _sizes(site: Site, store: Store, reference: Reference | None) -> dict[str, Any]:
    """Return how much was recorded: tiles, table by kind, note."""
    table = exploration.sizes(store)
    whole = table.iloc[-1]
    tiles = [
        ("sessions", f"{whole['sessions']:,}"),
        ("devices", f"{whole['devices']:,}"),
        ("seconds", f"{whole['seconds']:,}"),
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
            f"Thermal frames of {camera.shape[0]} x {camera.shape[1]} pixels are stored as "
            f"{' and '.join(camera.channels)} of {camera.stored_shape[1]} x {camera.stored_shape[2]} blocks "
            f"({megabytes:,.0f} MB)."
        )
    sizes = site.table("00_sizes", table, {"hours": ".2f", "median length, s": ".0f"})
    return {"tiles": tiles, "table": sizes, "note": " ".join(note)}


def _balance(site: Site, data: Windows, reference: Reference | None) -> dict[str, Any]:
    """Return how often each state occurs: plot, table, sessions with the worst state, note."""
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
    note = [f"A window's label is its {'most common' if data.settings.label == 'majority' else 'last'} state."]
    if reference:
        quoted = " / ".join(f"{100 * share:.1f} %" for share in reference.state_shares)
        note.append(f"{reference.heading}, shares of the seconds: {quoted}.")
    return {
        "plot": pages.figure(plot, "share of each state among seconds and windows"),
        "worst": names[-1],
        "sessions": _worst_sessions(store, reference),
        "table": site.table("00_balance", table.assign(state=names), shares),
        "note": " ".join(note),
    }


def _worst_sessions(store: Store, reference: Reference | None) -> Markup:
    """Draw the number of sessions that contain the worst state, and of those in which it is the commonest."""
    counts = exploration.worst_sessions(store)
    header: list[str] = ["", "here"]
    rows: list[list[Any]] = [
        ["sessions that contain it", f"{counts['contain']} of {counts['sessions']}"],
        ["sessions in which it is the commonest state", counts["dominated"]],
    ]
    if reference:
        header.append(reference.column)
        rows[0].append(f"{reference.worst_sessions['contain']} of {reference.sizes['sessions']}")
        rows[1].append(reference.worst_sessions["dominated"])
    return pages.table(header, rows)


def _correlations(site: Site, store: Store, reference: Reference | None) -> dict[str, Markup]:
    """Draw the correlation of each quantity with the state: plot and table."""
    table = exploration.correlations(store)
    columns = table.assign(**{reference.column: table["quantity"].map(reference.correlations)}) if reference else table
    order = table.reindex(table["pearson"].abs().sort_values(ascending=False).index)
    plot = go.Figure()
    for column, colour in zip(("pearson", "rank"), KIND_COLOURS, strict=False):
        plot.add_bar(y=order["quantity"], x=order[column], name=column, orientation="h", marker_color=colour)
    styled(plot, "Correlation with the state", height=110 + 26 * len(order), x="correlation").update_yaxes(
        autorange="reversed", showgrid=False
    )
    formats = dict.fromkeys([c for c in map(str, columns) if c not in ("quantity", "unit")], "+.3f")
    drawn = pages.figure(plot, "bars of the correlation of each quantity with the state")
    return {"plot": drawn, "table": site.table("00_correlations", columns, formats)}


def _boxes(
    table: pd.DataFrame, store: Store, title: str, logarithmic: Collection[str] = (), columns: int = 2
) -> go.Figure:
    """Plot the 5, 25, 50, 75 and 95 % quantiles of each state and kind, a panel for each quantity.

    Args:
        logarithmic: quantities with a logarithmic axis.
    """
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
            boxes = table[(table["quantity"] == quantity) & (table["kind"] == kind)]
            plot.add_trace(
                go.Box(
                    x=boxes["state"],
                    lowerfence=boxes["q05"],
                    q1=boxes["q25"],
                    median=boxes["q50"],
                    q3=boxes["q75"],
                    upperfence=boxes["q95"],
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
    """Return `exploration.distributions` with the titles of the states."""
    labels = dict(zip(store.schema.state_names, state_titles(store.schema), strict=True))
    table = exploration.distributions(store)
    return table.assign(state=table["state"].map(labels))


def _distributions(site: Site, store: Store) -> dict[str, Markup]:
    """Draw the distribution of each channel by state and kind: plot and table."""
    table = _distribution(store)
    channels = table[table["quantity"].isin(store.schema.channels)]
    logs = {name for name, channel in store.schema.channels.items() if channel.scaling == "log"}
    plot = _boxes(channels, store, "Each channel by state", logs)
    formats = dict.fromkeys(STATISTICS, ".2f")
    drawn = pages.figure(plot, "box plots of each channel by state and kind of device")
    return {"plot": drawn, "table": site.table("00_distributions", table, formats)}


def _timeline(store: Store) -> dict[str, Any]:
    """Return a session with a fault: its traces, thermal frames of each state, note."""
    name = exploration.shown_session(store)
    rows = np.flatnonzero(store.rows_of([name]))
    frame = store.to_frame(slice(rows[0], rows[-1] + 1))
    seconds, state = frame["time"].to_numpy(), frame["state"].to_numpy()
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
            text=str(escape(names[k])),
        )
    plot.update_layout(title_text=f"Sensors of {escape(name)}")
    note = (
        f"{name}, {frame['device'].iloc[0]}: among the sessions with the most states, the one with the fewest repaired "
        "seconds. Colours behind the traces: states, from green (normal) to red (worst)."
    )
    traces = pages.figure(plot, f"all channels of session {name} over time, the states as colours behind")
    session: dict[str, Any] = {"traces": traces, "frames": [], "note": note}
    if store.thermal is None:
        return session
    chosen = np.concatenate([spread(np.flatnonzero(state == k)) for k in np.unique(state[state >= 0])])
    images = np.asarray(store.thermal[rows[chosen], -1], np.float32)
    low, high = float(images.min()), float(images.max())
    for image, i in zip(images, chosen, strict=True):
        caption = f"{seconds[i]} s, {names[state[i]]}, up to {frame['thermal_max'].iloc[i]:.1f} °C"
        session["frames"].append((recording_figures.thermal_image(image, low, high), caption))
    return {**session, "coldest": f"{low:.0f}", "hottest": f"{high:.0f}"}


def spread(rows: np.ndarray) -> np.ndarray:
    """Return the middle and the last of the rows of a state."""
    return np.unique(rows[np.linspace(0, len(rows) - 1, FRAMES_PER_STATE + 1).astype(int)[1:]])


def _camera(site: Site, store: Store) -> dict[str, Markup]:
    """Draw the hottest pixel by state and kind: plot and table."""
    table = _distribution(store)
    maxima = table[table["quantity"] == "thermal_max"]
    plot = _boxes(maxima, store, "Maximum of the thermal frame by state", columns=1)
    plot.update_layout(height=360)
    formats = dict.fromkeys(STATISTICS, ".1f")
    return {
        "plot": pages.figure(plot, "box plots of the frame maximum by state and kind"),
        "table": site.table("00_thermal_maxima", maxima.drop(columns=["quantity", "unit"]), formats),
    }


def _environment(site: Site, store: Store) -> Markup:
    """Draw each quantity of the environment by kind."""
    frames = exploration.labelled(store)
    pearson = exploration.correlations(store).set_index("quantity")["pearson"]
    rows = [
        {
            "quantity": name,
            "unit": channel.unit,
            "kind": str(kind),
            "mean": seconds[name].mean(),
            "sd": seconds[name].std(),
            "sd within sessions": seconds.groupby("session", observed=True)[name].std().mean(),
            "correlation with the state, all": pearson[name],
        }
        for name, channel in store.schema.environment.items()
        for kind, seconds in frames.groupby("kind", observed=True)
    ]
    formats = {"mean": ".2f", "sd": ".2f", "sd within sessions": ".2f", "correlation with the state, all": "+.3f"}
    return site.table("00_environment", pd.DataFrame(rows), formats)


def _quality(site: Site, store: Store) -> dict[str, Any]:
    """Draw what was repaired, dropped and skipped, and where."""
    places = exploration.quality_examples(store)
    return {
        "quality": site.table("00_quality", exploration.quality(store), look="prose"),
        "quality_places": site.table("00_quality_where", places, look="prose") if len(places) else None,
    }


def _implications(site: Site, implications: list[Implication]) -> Markup:
    """Draw the implications for a model."""
    rows = [{"about": i.about, "value": i.value, "rule": i.rule, "what follows": i.follows} for i in implications]
    return site.table("00_implications", pd.DataFrame(rows), look="prose")
