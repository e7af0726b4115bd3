"""Figures of one session or window: sensors over time, probabilities of the states, thermal frames."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from conveyorguard.reporting.figures import STATE_COLOURS, state_colour, styled


def traces(
    seconds: np.ndarray,
    values: np.ndarray,
    names: list[str],
    units: list[str],
    state: np.ndarray,
    states: int,
) -> go.Figure:
    """Draw sensor traces, a panel for each unit, over a background coloured by state.

    Args:
        seconds: time since the session began [s], (T,). values: (T, C). names, units: of the C channels.
        state: index of the state at each second, -1 where unknown, (T,). states: how many there are.
    """
    panels = list(dict.fromkeys(units))
    figure = go.Figure()
    step = 1 / len(panels)
    for row, unit in enumerate(panels):
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
                yref="paper",  # behind all panels
                y0=0,
                y1=1,
                fillcolor=state_colour(int(k), states),
                opacity=0.10,
                line_width=0,
                layer="below",
            )
    styled(figure, "Sensors", height=130 + 100 * len(panels), x="seconds since the session began")
    figure.update_xaxes(anchor=f"y{len(panels)}" if len(panels) > 1 else "y")
    return figure


def _runs(seconds: np.ndarray, mask: np.ndarray) -> list[tuple[float, float]]:
    """Return begin and end of each stretch of true values."""
    edges = np.flatnonzero(np.diff(mask.astype(int), prepend=0, append=0))
    return [(seconds[a] - 0.5, seconds[b - 1] + 0.5) for a, b in zip(edges[::2], edges[1::2], strict=True)]


def probabilities(seconds: np.ndarray, p: np.ndarray, names: list[str], alarms: list[tuple[int, int]]) -> go.Figure:
    """Draw the stacked probability of each state over time, with alarms as bars above.

    Args:
        seconds: time since the session began [s], (n,). p: probabilities, (n, K). names: of the K states.
        alarms: begin and end of each [s].
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
    styled(figure, "Probability of each state", height=240, x="seconds since the session began", y="probability")
    figure.update_yaxes(range=[0, 1.1], tickvals=[0, 0.5, 1])
    return figure


def thermal_image(frame: np.ndarray, low: float, high: float) -> bytes:
    """Return a frame [degC], (H, W), as a PNG from dark blue (low) to yellow (high)."""
    stops = np.array([[20, 24, 82], [110, 30, 120], [206, 62, 78], [248, 160, 50], [252, 250, 180]], float)
    position = np.clip((frame - low) / (high - low), 0, 1) * (len(stops) - 1)
    colours = np.stack([np.interp(position, np.arange(len(stops)), stops[:, c]) for c in range(3)], axis=-1)
    stream = BytesIO()
    image = Image.fromarray(colours.astype(np.uint8))
    image.resize((frame.shape[1] * 4, frame.shape[0] * 4), Image.Resampling.NEAREST).save(stream, "PNG", optimize=True)
    return stream.getvalue()
