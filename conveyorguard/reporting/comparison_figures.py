"""Figures of several models side by side: scores with intervals, costs, devices."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from conveyorguard.metrics.intervals import Interval
from conveyorguard.reporting.figures import BLUE, GREY, INK, STATE_COLOURS, error_bars, styled


def _columns(intervals: list[Interval]) -> np.ndarray:
    """Return values, lower bounds and upper bounds, (3, n)."""
    return np.array([[i.value for i in intervals], [i.low for i in intervals], [i.high for i in intervals]])


def interval_plot(labels: list[str], intervals: list[Interval], seeds: list[list[float]], title: str) -> go.Figure:
    """Draw a line for each arm: interval, mean and, where there are several, single seeds; the first label on top."""
    values, low, high = _columns(intervals)
    figure = go.Figure()
    figure.add_scatter(
        x=values,
        y=labels,
        mode="markers",
        marker={"size": 11, "color": BLUE},
        showlegend=False,
        error_x=error_bars(values, low, high, color=BLUE),
        hovertemplate="%{y}: %{x:.4f}<extra></extra>",
    )
    several = [
        (value, label) for label, by_seed in zip(labels, seeds, strict=True) if len(by_seed) > 1 for value in by_seed
    ]
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
    return styled(figure, title, height=120 + 34 * len(labels), x=title)


def grouped_bars(labels: list[str], groups: dict[str, dict[str, Interval]], title: str) -> go.Figure:
    """Draw bars with intervals, a colour for each group; a group may lack a label."""
    figure = go.Figure()
    for (name, intervals), colour in zip(groups.items(), (BLUE, *STATE_COLOURS) * len(groups), strict=False):
        shown = [label for label in labels if label in intervals]
        values, low, high = _columns([intervals[label] for label in shown])
        figure.add_bar(
            x=shown,
            y=values,
            name=name,
            marker_color=colour,
            text=[f"{v:.2f}" for v in values],
            textposition="inside",
            insidetextanchor="start",
            error_y=error_bars(values, low, high, color=INK, thickness=1.2, width=3),
        )
    styled(figure, title, height=420, y=title)
    return figure.update_layout(barmode="group").update_xaxes(categoryorder="array", categoryarray=labels)


def heat(rows: list[str], columns: list[str], values: np.ndarray, title: str) -> go.Figure:
    """Draw shares of 1 as a coloured table, the first row on top."""
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
    return styled(figure, title, height=130 + 24 * len(rows), x="device")


def cost_plot(labels: list[str], seconds: list[float], accuracy: list[float]) -> go.Figure:
    """Draw validation accuracy over training time, the time on a logarithmic axis.

    A line joins the models that are best for their cost, by name: no cheaper model is as accurate.

    Args:
        seconds: training time [s] of each model, NaN where unknown, at least one finite. accuracy: of each model.
    """
    known = [point for point in zip(seconds, accuracy, labels, strict=True) if np.isfinite(point[0])]
    points = sorted(known, key=lambda point: (point[0], -point[1]))
    front = [p for i, p in enumerate(points) if all(p[1] > cheaper[1] for cheaper in points[:i])]
    figure = go.Figure()
    x, y, names = zip(*points, strict=True)
    figure.add_scatter(
        x=x,
        y=y,
        customdata=names,
        mode="markers",
        marker={"size": 9, "color": GREY},
        name="a cheaper model is as good",
        hovertemplate="%{customdata}: %{y:.4f} in %{x:.1f} s<extra></extra>",
    )
    x, y, names = zip(*front, strict=True)
    figure.add_scatter(
        x=x,
        y=y,
        text=names,
        mode="lines+markers+text",
        textposition="top center",
        marker={"size": 10, "color": BLUE},
        line={"shape": "hv", "dash": "dot"},
        cliponaxis=False,
        name="best for its cost",
        hovertemplate="%{text}: %{y:.4f} in %{x:.1f} s<extra></extra>",
    )
    styled(
        figure,
        "Validation accuracy against training time",
        height=400,
        x="training, s (logarithmic)",
        y="validation accuracy",
    )
    return figure.update_xaxes(type="log", dtick=1)


def radar(labels: list[str], axes: list[str], values: list[list[float]]) -> go.Figure:
    """Draw a closed line for each arm over several metrics in [0, 1]; the axis starts a little below the least."""
    figure = go.Figure()
    for label, row in zip(labels, values, strict=True):
        figure.add_scatterpolar(r=[*row, row[0]], theta=[*axes, axes[0]], name=label)
    styled(figure, "Profile, shares of 1", height=440)
    least = float(np.nanmin(values))
    figure.update_layout(
        polar={"radialaxis": {"range": [max(0.0, np.floor(10 * least - 0.5) / 10), 1]}},
        legend={"orientation": "v", "x": 1.05, "y": 1, "xanchor": "left", "yanchor": "top"},
    )
    return figure


def bars(labels: list[str], intervals: list[Interval], title: str) -> go.Figure:
    """Draw bars with intervals."""
    values, low, high = _columns(intervals)
    figure = go.Figure(
        go.Bar(
            x=labels,
            y=values,
            marker_color=BLUE,
            text=[f"{v:.3f}" for v in values],
            textposition="inside",
            insidetextanchor="start",
            error_y=error_bars(values, low, high, color=INK),
        )
    )
    return styled(figure, title, height=360, y=title)
