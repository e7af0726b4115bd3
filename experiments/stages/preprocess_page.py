"""Stage 01: windows and split beside the seed study's, and checks for leakage between the parts."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from markupsafe import Markup

from conveyorguard.data.exploration import class_weights
from conveyorguard.data.splits import PARTS
from conveyorguard.data.windows import Windows
from conveyorguard.reporting import pages
from conveyorguard.reporting.figures import state_colour, styled
from conveyorguard.reporting.format import state_titles
from conveyorguard.reporting.site import Site
from experiments.stages import seed_figures
from experiments.stages.run_blocks import render


def write_preprocess(site: Site, data: Windows, fit_on: str) -> Path:
    """Write 01_preprocess.html and its tables, and return the page's path.

    Args:
        fit_on: part that the scaling is fitted on: 'train' or 'all'.
    """
    leaks = leakage(data, fit_on)
    bad = leaks[leaks["verdict"] == "LEAK"]
    counts = {part: len(data.part(part)) for part in PARTS}
    sentences = [
        f"{len(data.frame):,} windows of {data.settings.size} s every {data.settings.stride} s: "
        + ", ".join(f"{part} {n:,}" for part, n in counts.items())
        + ".",
        f"{1 - data.frame['pure'].mean():.1%} of the windows have more than one state.",
        f"Leakage: {len(bad)} of {len(leaks)} checks failed.",
    ]
    states, shares = states_table(data), {"share of windows": ".1%", "share pure": ".1%"}
    main = render(
        "preprocess.html.jinja",
        window_note=_window_note(data),
        parts=site.table("01_parts", parts_table(data), shares),
        state_shares=pages.figure(_state_shares(data, states), "share of each state in train, val and test"),
        states=site.table("01_states", states, {"class weight": ".2f", "share mixed": ".1%"}),
        mixed_shares=pages.figure(_mixed_shares(data), "histogram of the label's share in mixed windows"),
        purity=site.table("01_purity", _purity(data), {"share": ".1%"}),
        leakage=site.table("01_leakage", leaks, look="prose"),
        **_seed_tables(),
    )
    return site.write("01_preprocess", "Windows, and the split into train, validation and test", main, sentences)


def parts_table(data: Windows) -> pd.DataFrame:
    """Return a row for each part: sessions, devices, windows, their share, and those with a single state."""
    rows = []
    for part in PARTS:
        windows = data.part(part)
        rows.append(
            {
                "part": part,
                "sessions": windows["session"].nunique(),
                "devices": windows["device"].nunique(),
                "windows": len(windows),
                "share of windows": len(windows) / len(data.frame),
                "pure": int(windows["pure"].sum()),
                "share pure": windows["pure"].mean(),
            }
        )
    return pd.DataFrame(rows)


def states_table(data: Windows) -> pd.DataFrame:
    """Return a row for each state: its windows in each part, its class weight, and its pure and mixed windows."""
    states = len(data.store.schema.states)
    table = pd.DataFrame({"state": state_titles(data.store.schema)})
    for part in PARTS:
        table[part] = np.bincount(data.part(part)["label"], minlength=states)
    table["class weight"] = class_weights(data.class_counts())
    table["pure"] = np.bincount(data.frame["label"], data.frame["pure"], states).astype(int)
    table["mixed"] = np.bincount(data.frame["label"], ~data.frame["pure"], states).astype(int)
    table["share mixed"] = table["mixed"] / np.maximum(table["pure"] + table["mixed"], 1)
    return table


def leakage(data: Windows, fit_on: str) -> pd.DataFrame:
    """Check the windows for leakage between parts.

    Args:
        fit_on: part that the scaling is fitted on: 'train' or 'all'.

    Returns:
        check, count, verdict: 'ok', 'LEAK', or why the split intends it.
    """
    parts = {part: data.part(part) for part in PARTS}
    span = np.arange(data.settings.size)
    seconds = {part: np.unique(windows["row"].to_numpy()[:, None] + span) for part, windows in parts.items()}
    session = data.store.session_index
    time = np.asarray(data.store.tick)
    first, last = data.frame["row"].to_numpy(), data.frame["row"].to_numpy() + data.settings.size - 1
    crossing = int(((session[first] != session[last]) | (time[last] - time[first] != data.settings.size - 1)).sum())

    def shared(column: str) -> int:
        return sum(len(set(parts[a][column]) & set(parts[b][column])) for a, b in combinations(PARTS, 2))

    both = sum(len(np.intersect1d(seconds[a], seconds[b])) for a, b in combinations(PARTS, 2))
    devices = len(set(parts["train"]["device"]) & set(parts["test"]["device"]))
    rows = [
        ("sessions in two parts", shared("session"), None),
        ("seconds in windows of two parts", both, None),
        ("windows across two sessions or a gap", crossing, None),
        ("duplicate windows", int(data.frame.duplicated(["session", "start"]).sum()), None),
        (
            "val and test seconds that the scaling is fitted on",
            0 if fit_on == "train" else len(seconds["val"]) + len(seconds["test"]),
            None,
        ),
        (
            "devices in both train and test",
            devices,
            "by design: this split tests on known devices, split=device on new ones",
        ),
    ]
    return pd.DataFrame(
        [
            {"check": check, "count": count, "verdict": "ok" if not count else design or "LEAK"}
            for check, count, design in rows
        ]
    )


def _window_note(data: Windows) -> str:
    """Return how windows, labels and parts were made."""
    drawn = "whole sessions at random"
    units = {"auto": drawn, "session": drawn, "device": "whole devices", "kfold": "folds of devices"}
    is_majority = data.settings.label == "majority"
    return (
        f"Windows of {data.settings.size} s every {data.settings.stride} s within a session, labelled by their "
        f"{'most common state (the mildest of equally common ones)' if is_majority else 'last state'}. "
        f"Split by {units[data.split.settings['name']]} (hash {data.split.hash}). {data.split.note}"
    )


def _state_shares(data: Windows, table: pd.DataFrame) -> go.Figure:
    """Plot the share of each state in each part; `table` is that of `states_table`."""
    plot = go.Figure()
    for k, row in table.iterrows():
        plot.add_bar(
            x=list(PARTS),
            y=[row[part] / max(len(data.part(part)), 1) for part in PARTS],
            name=row["state"],
            marker_color=state_colour(int(str(k)), len(table)),
            text=[f"{row[part]:,}" for part in PARTS],
            textposition="inside",
        )
    styled(plot, "States in each part", height=360, y="share of the part's windows").update_yaxes(tickformat=".0%")
    return plot.update_layout(
        barmode="stack", legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top", "traceorder": "reversed"}
    )


def _mixed_shares(data: Windows) -> go.Figure:
    """Plot how much of each mixed window is in the state of its label."""
    states = data.store.state[data.frame["row"].to_numpy()[:, None] + np.arange(data.settings.size)]
    shares = np.mean(states == data.frame["label"].to_numpy()[:, None], axis=1)[~data.frame["pure"].to_numpy()]
    bins = {"start": 0, "end": 1.0001, "size": 0.05}
    plot = go.Figure(go.Histogram(x=shares, xbins=bins, marker_color=state_colour(1, 3)))
    styled(plot, "Mixed windows: share in the state of the label", height=300, x="share of the window", y="windows")
    return plot.update_xaxes(tickformat=".0%")


def _purity(data: Windows) -> pd.DataFrame:
    """Return number and share of pure and of mixed windows."""
    pure = data.frame["pure"]
    return pd.DataFrame(
        [
            {"windows": "pure, a single state", "count": int(pure.sum()), "share": pure.mean()},
            {"windows": "mixed", "count": int((~pure).sum()), "share": 1 - pure.mean()},
        ]
    )


def _seed_tables() -> dict[str, Markup]:
    """Draw the seed study's parts and states."""
    parts = [[part, f"{seed_figures.PART_SESSIONS[part]:,}", f"{seed_figures.PART_WINDOWS[part]:,}"] for part in PARTS]
    states = [
        ["class weight", *(f"{w:.2f}" for w in seed_figures.CLASS_WEIGHTS)],
        ["test windows", *(f"{n:,}" for n in seed_figures.TEST_SUPPORT)],
    ]
    return {
        "seed_parts": pages.table(["part", "sessions", "windows"], parts),
        "seed_states": pages.table(["", *seed_figures.STATES], states),
    }
