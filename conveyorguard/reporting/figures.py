"""Figures of pages, as plotly figures with one look. Each takes plain tables, never a store or a model."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from conveyorguard.metrics.bootstrap import Interval
from conveyorguard.reporting.pages import FONTS

STATE_COLOURS = ("#2e7d6b", "#d9a514", "#d96c1e", "#b3261e")  # normal to worst; more states take the nearest
LINE_COLOURS = ("#2f6fab", "#d96c1e", "#2e7d6b", "#7b5ea7", "#7b8794")
INK, GRID, BLUE, GREY = "#1f2933", "#e4e7eb", "#2f6fab", "#7b8794"


def state_colour(k: int, states: int) -> str:
    """Colour of a state: green is the first, red the last."""
    return STATE_COLOURS[round(k * (len(STATE_COLOURS) - 1) / max(states - 1, 1))]


def _style(figure: go.Figure, title: str, height: int = 320, **axes: str) -> go.Figure:
    figure.update_layout(
        title={
            "text": title,
            "font": {"size": 15},
            "x": 0,
            "xref": "paper",
            "y": 1,
            "yref": "container",
            "yanchor": "top",
            "pad": {"t": 8},
        },
        height=height,
        margin={"l": 55, "r": 20, "t": 60, "b": 45},
        plot_bgcolor="white",
        paper_bgcolor="white",
        font={"family": FONTS, "size": 12, "color": INK},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    )
    figure.update_xaxes(gridcolor=GRID, zeroline=False, title_text=axes.get("x"), automargin=True)
    figure.update_yaxes(gridcolor=GRID, zeroline=False, automargin=True)
    if "y" in axes:
        figure.update_yaxes(title_text=axes["y"])
    return figure


def learning_curve(
    history: pd.DataFrame, names: list[str], title: str, y: str, best_epoch: int | None = None
) -> go.Figure:
    """Lines of a history over epochs, the kept epoch marked."""
    figure = go.Figure()
    for name, colour in zip(names, (BLUE, GREY, STATE_COLOURS[2]), strict=False):
        figure.add_scatter(
            x=history["epoch"] + 1,
            y=history[name],
            name=name,
            mode="lines+markers",
            line={"color": colour},
            marker={"size": 5},
        )
    if best_epoch is not None:
        figure.add_vline(
            x=best_epoch + 1,
            line_dash="dot",
            line_color=GREY,
            annotation_text="kept",
            annotation_position="top left",
        )
    figure = _style(figure, title, x="epoch", y=y)
    return figure.update_xaxes(tickformat="d", dtick=max(1, len(history) // 10))


def confusion(matrix: list[list[int]], names: list[str], title: str) -> go.Figure:
    """Counts, coloured by the share of the actual state's windows."""
    counts = np.array(matrix)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    text = [[f"{n:,}<br>{s:.0%}" for n, s in zip(*rows, strict=True)] for rows in zip(counts, share, strict=True)]
    figure = go.Figure(
        go.Heatmap(
            z=share,
            x=names,
            y=names,
            text=text,
            texttemplate="%{text}",
            colorscale=[[0, "#ffffff"], [1, BLUE]],
            zmin=0,
            zmax=1,
            showscale=False,
            hovertemplate="actual %{y}, predicted %{x}: %{text}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    return _style(figure, title, height=360, x="predicted", y="actual")


def traces(
    seconds: np.ndarray,
    values: np.ndarray,
    names: list[str],
    units: list[str],
    state: np.ndarray,
    states: int,
) -> go.Figure:
    """Sensor traces of one window, a row a unit, on a strip of the states.

    Args:
        seconds: (T,). values: (T, C). state: (T,) index of the state at each second.
    """
    kinds = list(dict.fromkeys(units))
    figure = go.Figure()
    step = 1 / len(kinds)
    for row, unit in enumerate(kinds):
        axis = "" if row == 0 else str(row + 1)
        log = unit == "A"
        for i in [i for i, u in enumerate(units) if u == unit]:
            figure.add_scatter(
                x=seconds,
                y=values[:, i],
                name=names[i],
                mode="lines",
                yaxis=f"y{axis}",
                hovertemplate=f"{names[i]} %{{y:.2f}} {unit} at %{{x}} s<extra></extra>",
            )
        domain = [1 - (row + 1) * step + 0.05, 1 - row * step]
        scale = {"type": "log", "dtick": 1} if log else {"type": "linear"}
        figure.update_layout({f"yaxis{axis}": {"domain": domain, "title": {"text": unit}, **scale}})
    for k in np.unique(state[state >= 0]):
        for start, end in _runs(seconds, state == k):
            figure.add_shape(
                type="rect",
                x0=start,
                x1=end,
                yref="paper",
                y0=0,
                y1=1,
                fillcolor=state_colour(int(k), states),
                opacity=0.10,
                line_width=0,
                layer="below",
            )  # behind all rows, not the first alone
    _style(figure, "Sensors", height=130 + 100 * len(kinds), x="seconds since the recording began")
    figure.update_xaxes(anchor=f"y{len(kinds)}" if len(kinds) > 1 else "y")
    return figure


def _runs(seconds: np.ndarray, mask: np.ndarray) -> list[tuple[float, float]]:
    edges = np.flatnonzero(np.diff(mask.astype(int), prepend=0, append=0))
    return [(seconds[a] - 0.5, seconds[b - 1] + 0.5) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def probabilities(seconds: np.ndarray, p: np.ndarray, names: list[str], alarms: list[tuple[int, int]]) -> go.Figure:
    """Probability of each state over time (n, K), stacked; alarms as bars above.

    Args:
        seconds: (n,). alarms: (begin, end) in seconds.
    """
    figure = go.Figure()
    for k, name in enumerate(names):
        figure.add_scatter(
            x=seconds,
            y=p[:, k],
            name=name,
            stackgroup="one",
            line={"width": 0},
            fillcolor=state_colour(k, len(names)),
            hovertemplate=f"{name} %{{y:.2f}} at %{{x}} s<extra></extra>",
        )
    for begin, end in alarms:
        figure.add_shape(
            type="rect", x0=begin - 0.5, x1=end + 0.5, y0=1.02, y1=1.08, fillcolor=STATE_COLOURS[-1], line_width=0
        )
    _style(figure, "Probability of each state", height=240, x="seconds since the recording began", y="probability")
    figure.update_yaxes(range=[0, 1.1], tickvals=[0, 0.5, 1])
    return figure


def interval_plot(labels: list[str], intervals: list[Interval], seeds: list[list[float]], title: str) -> go.Figure:
    """A line an arm: interval, mean, and single seeds where there are several; the first label on top."""
    values, low, high = (np.array([getattr(i, name) for i in intervals]) for name in ("value", "low", "high"))
    figure = go.Figure()
    figure.add_scatter(
        x=values,
        y=labels,
        mode="markers",
        marker={"size": 11, "color": BLUE},
        showlegend=False,
        error_x={"type": "data", "symmetric": False, "array": high - values, "arrayminus": values - low, "color": BLUE},
        hovertemplate="%{y}: %{x:.4f}<extra></extra>",
    )
    several = [(value, label) for label, own in zip(labels, seeds, strict=True) if len(own) > 1 for value in own]
    if several:
        x, y = zip(*several, strict=True)
        figure.add_scatter(
            x=x,
            y=y,
            mode="markers",
            marker={"size": 5, "color": STATE_COLOURS[2]},
            showlegend=False,
            hovertemplate="one seed: %{x:.4f}<extra></extra>",
        )
    figure.update_yaxes(autorange="reversed")
    return _style(figure, title, height=120 + 34 * len(labels), x=title)


def bars(labels: list[str], intervals: list[Interval], title: str) -> go.Figure:
    """Bars with intervals."""
    values, low, high = (np.array([getattr(i, name) for i in intervals]) for name in ("value", "low", "high"))
    figure = go.Figure(
        go.Bar(
            x=labels,
            y=values,
            marker_color=BLUE,
            text=[f"{v:.3f}" for v in values],
            textposition="inside",
            insidetextanchor="start",
            error_y={
                "type": "data",
                "symmetric": False,
                "array": high - values,
                "arrayminus": values - low,
                "color": INK,
            },
        )
    )
    return _style(figure, title, height=360, y=title)


def grouped_bars(labels: list[str], groups: dict[str, dict[str, Interval]], title: str) -> go.Figure:
    """Bars with intervals, one colour a group; a group may lack a label."""
    figure = go.Figure()
    for (name, own), colour in zip(groups.items(), (BLUE, *STATE_COLOURS) * len(groups), strict=False):
        shown = [label for label in labels if label in own]
        values, low, high = (
            np.array([getattr(own[label], side) for label in shown]) for side in ("value", "low", "high")
        )
        figure.add_bar(
            x=shown,
            y=values,
            name=name,
            marker_color=colour,
            text=[f"{v:.2f}" for v in values],
            textposition="inside",
            insidetextanchor="start",
            error_y={
                "type": "data",
                "symmetric": False,
                "array": high - values,
                "arrayminus": values - low,
                "color": INK,
                "thickness": 1.2,
                "width": 3,
            },
        )
    _style(figure, title, height=420, y=title)
    return figure.update_layout(barmode="group").update_xaxes(categoryorder="array", categoryarray=labels)


def heat(rows: list[str], columns: list[str], values: np.ndarray, title: str) -> go.Figure:
    """Shares of 1 as a coloured table, the first row on top."""
    text = [[f"{v:.0%}" for v in row] for row in values]
    figure = go.Figure(
        go.Heatmap(
            z=values,
            x=columns,
            y=rows,
            text=text,
            texttemplate="%{text}",
            colorscale=[[0, STATE_COLOURS[1]], [0.5, "#ffffff"], [1, BLUE]],
            showscale=False,
            hovertemplate="%{y} on %{x}: %{z:.1%}<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    return _style(figure, title, height=130 + 24 * len(rows), x="device")


def horizontal_bars(labels: list[str], groups: dict[str, list[float]], title: str, x: str) -> go.Figure:
    """Bars of each label, one colour a group, the first label on top."""
    figure = go.Figure()
    for (name, values), colour in zip(groups.items(), (BLUE, STATE_COLOURS[2]), strict=False):
        figure.add_bar(
            x=values,
            y=labels,
            name=name,
            orientation="h",
            marker_color=colour,
            hovertemplate=f"%{{y}}: %{{x:.3g}} of the {name}<extra></extra>",
        )
    _style(figure, title, height=120 + (16 + 10 * len(groups)) * len(labels), x=x)
    return figure.update_yaxes(autorange="reversed", showgrid=False).update_layout(showlegend=True)


def interval_lines(curves: dict[str, pd.DataFrame], title: str, x: str, y: str) -> go.Figure:
    """A line a curve with its intervals.

    Args:
        curves: by name, with the columns x, value, low and high.
    """
    figure = go.Figure()
    for (name, table), colour in zip(curves.items(), itertools.cycle(LINE_COLOURS)):
        value, low, high = (table[column].to_numpy(float) for column in ("value", "low", "high"))
        figure.add_scatter(
            x=table["x"],
            y=value,
            name=name,
            mode="lines+markers",
            line={"color": colour},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": high - value,
                "arrayminus": value - low,
                "color": colour,
                "thickness": 1,
            },
            hovertemplate=f"{name}: %{{y:.3f}} at %{{x}}<extra></extra>",
        )
    return _style(figure, title, height=360, x=x, y=y)


def cost_plot(labels: list[str], seconds: list[float], accuracy: list[float]) -> go.Figure:
    """Accuracy over training time, the time on a logarithmic axis; named are those that nothing cheaper beats, as a
    line."""
    order = sorted((i for i in range(len(labels)) if np.isfinite(seconds[i])), key=lambda i: (seconds[i], -accuracy[i]))
    front = [i for place, i in enumerate(order) if all(accuracy[i] > accuracy[j] for j in order[:place])]
    figure = go.Figure()
    figure.add_scatter(
        x=[seconds[i] for i in order],
        y=[accuracy[i] for i in order],
        customdata=[labels[i] for i in order],
        mode="markers",
        marker={"size": 9, "color": GREY},
        name="beaten by a cheaper one",
        hovertemplate="%{customdata}: %{y:.4f} in %{x:.1f} s<extra></extra>",
    )
    figure.add_scatter(
        x=[seconds[i] for i in front],
        y=[accuracy[i] for i in front],
        text=[labels[i] for i in front],
        mode="lines+markers+text",
        textposition="top center",
        marker={"size": 10, "color": BLUE},
        line={"shape": "hv", "dash": "dot"},
        cliponaxis=False,
        name="beaten by none that is as cheap",
        hovertemplate="%{text}: %{y:.4f} in %{x:.1f} s<extra></extra>",
    )
    _style(figure, "Accuracy against training time", height=400, x="training, s (logarithmic)", y="accuracy")
    return figure.update_xaxes(type="log", dtick=1)


def radar(labels: list[str], axes: list[str], values: list[list[float]]) -> go.Figure:
    """A closed line an arm over several metrics between 0 and 1; the axis begins a little below the least value."""
    figure = go.Figure()
    for label, row in zip(labels, values, strict=True):
        figure.add_scatterpolar(r=[*row, row[0]], theta=[*axes, axes[0]], name=label)
    _style(figure, "Profile, shares of 1", height=440)
    least = float(np.nanmin(values))
    figure.update_layout(
        polar={"radialaxis": {"range": [max(0.0, np.floor(10 * least - 0.5) / 10), 1]}},
        legend={"orientation": "v", "x": 1.05, "y": 1, "xanchor": "left", "yanchor": "top"},
    )
    return figure


def reliability_plot(curves: dict[str, pd.DataFrame]) -> go.Figure:
    """Share that is right over the probability given, a line each; the size of a dot is the number of windows, a bar
    its interval."""
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": GREY}, name="ideal")
    for (name, table), colour in zip(curves.items(), (STATE_COLOURS[2], BLUE), strict=False):
        size = 5 + 15 * np.sqrt(table["windows"] / max(table["windows"].max(), 1))
        bars = None
        if "low" in table:
            bars = {
                "type": "data",
                "array": table["high"] - table["accuracy"],
                "arrayminus": table["accuracy"] - table["low"],
                "thickness": 1,
                "width": 2,
            }
        figure.add_scatter(
            x=table["confidence"],
            y=table["accuracy"],
            mode="lines+markers",
            name=name,
            text=table["windows"],
            error_y=bars,
            marker={"size": size, "color": colour},
            line={"color": colour},
            hovertemplate="%{text} windows: given %{x:.2f}, right %{y:.2f}<extra></extra>",
        )
    return _style(figure, "Reliability", x="probability of the predicted state", y="share that is right")


def thermal_image(frame: np.ndarray, low: float, high: float) -> bytes:
    """A frame in degC as a PNG, dark blue (low) to yellow (high)."""
    from io import BytesIO

    from PIL import Image

    stops = np.array([[20, 24, 82], [110, 30, 120], [206, 62, 78], [248, 160, 50], [252, 250, 180]], float)
    position = np.clip((frame - low) / (high - low), 0, 1) * (len(stops) - 1)
    colours = np.stack([np.interp(position, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=-1)
    stream = BytesIO()
    image = Image.fromarray(colours.astype(np.uint8))
    image.resize((frame.shape[1] * 4, frame.shape[0] * 4), Image.Resampling.NEAREST).save(stream, "PNG", optimize=True)
    return stream.getvalue()
