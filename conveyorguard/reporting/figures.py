"""Plotly figures of pages, all with the same look, drawn from plain tables and arrays."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

STATE_COLOURS = ("#2e7d6b", "#d9a514", "#d96c1e", "#b3261e")  # normal to worst; more states take the nearest
LINE_COLOURS = ("#2f6fab", "#d96c1e", "#2e7d6b", "#7b5ea7", "#7b8794")
FONTS = 'StateNames, system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK KR", "Malgun Gothic", sans-serif'
INK, GRID, BLUE, GREY = "#1f2933", "#e4e7eb", "#2f6fab", "#7b8794"


def state_colour(k: int, states: int) -> str:
    """Return the colour of state k of `states`, from green (first) to red (last)."""
    return STATE_COLOURS[round(k * (len(STATE_COLOURS) - 1) / max(states - 1, 1))]


def styled(figure: go.Figure, title: str, height: int = 320, **axes: str) -> go.Figure:
    """Give a figure the look of all figures, and return it.

    Args:
        height: in pixels. axes: titles of x and y.
    """
    figure.update_layout(
        title={
            "text": title,
            "font": {"size": 14},
            "x": 0,
            "xref": "container",
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


def error_bars(value: Any, low: Any, high: Any, **look: Any) -> dict[str, Any]:
    """Return plotly's error bars from values to the bounds of their intervals, arrays of the same length."""
    return {"type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low, **look}


def learning_curve(
    history: pd.DataFrame, names: list[str], title: str, y: str, best_epoch: int | None = None
) -> go.Figure:
    """Draw columns of a training history over epochs; `best_epoch`, counted from 0, is marked as kept."""
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
    figure = styled(figure, title, x="epoch", y=y)
    return figure.update_xaxes(tickformat="d", dtick=max(1, len(history) // 10))


def confusion(matrix: list[list[int]], names: list[str], title: str) -> go.Figure:
    """Draw a confusion matrix of counts (rows actual), coloured by the share of each actual state."""
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
    return styled(figure, title, height=360, x="predicted", y="actual")


def horizontal_bars(labels: list[str], groups: dict[str, list[float]], title: str, x: str) -> go.Figure:
    """Draw the bars of each label, a colour for each group, the first label on top."""
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
    styled(figure, title, height=120 + (16 + 10 * len(groups)) * len(labels), x=x)
    return figure.update_yaxes(autorange="reversed", showgrid=False).update_layout(showlegend=True)


def alarm_curve(points: list[Mapping[str, Any]], title: str) -> go.Figure:
    """Draw false alarms a week over the guaranteed lead, a dot for each threshold, a star for the one in use.

    Args:
        points: lead_seconds, false_per_week, on and chosen, from low to high thresholds.
    """
    figure = go.Figure()
    minutes = max(point["lead_seconds"] for point in points) >= 600
    lead = [point["lead_seconds"] / (60 if minutes else 1) for point in points]
    rate = [point["false_per_week"] for point in points]
    text = [f"threshold {point['on']:.4f}, {point['missed']} missed" for point in points]
    hover = "%{y:.3g} false alarms a week, lead %{x:.3g}<br>%{text}<extra></extra>"
    figure.add_scatter(
        x=lead, y=rate, text=text, mode="lines+markers", name="thresholds", line={"color": BLUE}, hovertemplate=hover
    )
    place = next(i for i, point in enumerate(points) if point["chosen"])
    figure.add_scatter(
        x=[lead[place]],
        y=[rate[place]],
        text=[text[place]],
        mode="markers",
        name="in use",
        marker={"symbol": "star", "size": 16, "color": STATE_COLOURS[2]},
        hovertemplate=hover,
    )
    unit = "min" if minutes else "s"
    styled(figure, title, x=f"guaranteed lead [{unit}]", y="false alarms a week")
    return figure.update_xaxes(rangemode="tozero").update_yaxes(rangemode="tozero")


def interval_lines(curves: dict[str, pd.DataFrame], title: str, x: str, y: str) -> go.Figure:
    """Draw a line with intervals for each curve.

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
            error_y=error_bars(value, low, high, color=colour, thickness=1),
            hovertemplate=f"{name}: %{{y:.3f}} at %{{x}}<extra></extra>",
        )
    return styled(figure, title, height=360, x=x, y=y)


def reliability_plot(curves: dict[str, pd.DataFrame]) -> go.Figure:
    """Draw the share of right predictions over their probability, a line for each curve.

    Args:
        curves: by name, the bins of a reliability diagram: confidence, accuracy and windows, which is the size of a
            dot, and perhaps the bounds low and high of the accuracy.
    """
    figure = go.Figure()
    figure.add_scatter(x=[0, 1], y=[0, 1], mode="lines", line={"dash": "dot", "color": GREY}, name="ideal")
    for (name, table), colour in zip(curves.items(), (STATE_COLOURS[2], BLUE), strict=False):
        size = 5 + 15 * np.sqrt(table["windows"] / max(table["windows"].max(), 1))
        bars = (
            error_bars(table["accuracy"], table["low"], table["high"], thickness=1, width=2) if "low" in table else None
        )
        figure.add_scatter(
            x=table["confidence"],
            y=table["accuracy"],
            mode="lines+markers",
            name=name,
            text=table["windows"],
            error_y=bars,
            marker={"size": size, "color": colour},
            line={"color": colour},
            hovertemplate="%{text} windows: probability %{x:.2f}, right %{y:.2f}<extra></extra>",
        )
    return styled(figure, "Reliability", x="probability of the predicted state", y="share that is right")
