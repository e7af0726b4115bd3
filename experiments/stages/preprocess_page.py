"""Stage 01: windows and split, beside the seed study's, and whether anything leaks from one part into another."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from conveyorguard.data.exploration import class_weights
from conveyorguard.data.splits import PARTS
from conveyorguard.data.windows import Windows
from conveyorguard.reporting import pages
from conveyorguard.reporting.figures import state_colour, styled
from conveyorguard.reporting.format import state_titles
from conveyorguard.reporting.site import Site
from experiments.stages import seed_figures
from experiments.stages.run_blocks import THEIRS


def write_preprocess(site: Site, data: Windows, fit_on: str) -> Path:
    """Write 01_preprocess.html and its tables.

    Args:
        fit_on: which seconds the scaling is fitted on: train or all.
    """
    leaks = leakage(data, fit_on)
    bad = leaks[leaks["verdict"] == "LEAK"]
    counts = {part: len(data.part(part)) for part in PARTS}
    said = [
        f"{len(data.frame):,} windows of {data.settings.size} s every {data.settings.stride} s: "
        + ", ".join(f"{part} {n:,}" for part, n in counts.items())
        + ".",
        f"{1 - data.frame['pure'].mean():.1%} of the windows have more than one state.",
        f"Leakage: {len(bad)} of {len(leaks)} checks failed.",
    ]
    blocks = [_windows(site, data), _states(site, data), _purity(site, data), _leakage(site, leaks)]
    return site.write(
        "01_preprocess", "How recordings become windows, and who trains, validates and tests", blocks, said
    )


def parts_table(data: Windows) -> pd.DataFrame:
    """A row a part: sessions, devices, windows, their share, those of one state throughout."""
    rows = []
    for part in PARTS:
        own = data.part(part)
        rows.append(
            {
                "part": part,
                "sessions": own["session"].nunique(),
                "devices": own["device"].nunique(),
                "windows": len(own),
                "share of windows": len(own) / len(data.frame),
                "pure": int(own["pure"].sum()),
                "share pure": own["pure"].mean(),
            }
        )
    return pd.DataFrame(rows)


def states_table(data: Windows) -> pd.DataFrame:
    """A row a state: its windows in each part, the class weight, and how many of its windows have one state
    throughout."""
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
    """Checks on the windows themselves: check, found, verdict (ok, LEAK, or a note where it is how the split is
    meant)."""
    own = {part: data.part(part) for part in PARTS}
    seconds = {part: np.unique(w["row"].to_numpy()[:, None] + np.arange(data.settings.size)) for part, w in own.items()}
    session = data.store.session_index
    time = np.asarray(data.store.tick)
    first, last = data.frame["row"].to_numpy(), data.frame["row"].to_numpy() + data.settings.size - 1
    crossing = int(((session[first] != session[last]) | (time[last] - time[first] != data.settings.size - 1)).sum())

    def shared(column: str) -> int:
        return sum(len(set(own[a][column]) & set(own[b][column])) for a, b in combinations(PARTS, 2))

    both = sum(len(np.intersect1d(seconds[a], seconds[b])) for a, b in combinations(PARTS, 2))
    devices = len(set(own["train"]["device"]) & set(own["test"]["device"]))
    rows = [
        ("sessions in two parts", shared("session"), None),
        ("seconds that windows of two parts have in common", both, None),
        ("windows over the border of two sessions, or over a gap", crossing, None),
        ("windows that come twice", int(data.frame.duplicated(["session", "start"]).sum()), None),
        (
            "seconds of val or test that the scaling is fitted on",
            0 if fit_on == "train" else len(seconds["val"]) + len(seconds["test"]),
            None,
        ),
        (
            "test devices that also train",
            devices,
            "by design: this split asks about known devices; split=device about new ones",
        ),
    ]
    return pd.DataFrame(
        [
            {"check": check, "found": found, "verdict": "ok" if not found else design or "LEAK"}
            for check, found, design in rows
        ]
    )


def _windows(site: Site, data: Windows) -> str:
    table = parts_table(data)
    dealt = "whole sessions, drawn at random"
    names = {"auto": dealt, "session": dealt, "device": "whole devices", "kfold": "folds of devices"}
    quoted = [[part, f"{seed_figures.PART_SESSIONS[part]:,}", f"{seed_figures.PART_WINDOWS[part]:,}"] for part in PARTS]
    beside = THEIRS + pages.table(["part", "sessions", "windows"], quoted)
    note = (
        f"Windows of {data.settings.size} s every {data.settings.stride} s within a session, labelled by their "
        f"{'commonest (of several the lowest)' if data.settings.label == 'majority' else 'last'} state. "
        f"Split by {names[data.split.settings['name']]} (hash {data.split.hash}). {data.split.note}"
    )
    shown = site.table("01_parts", table, {"share of windows": ".1%", "share pure": ".1%"})
    return pages.section("Windows and parts", shown, beside, note=note)


def _states(site: Site, data: Windows) -> str:
    table = states_table(data)
    plot = go.Figure()
    for k, row in table.iterrows():
        shares = [row[part] / max(len(data.part(part)), 1) for part in PARTS]
        plot.add_bar(
            x=list(PARTS),
            y=shares,
            name=row["state"],
            marker_color=state_colour(int(str(k)), len(table)),
            text=[f"{row[part]:,}" for part in PARTS],
            textposition="inside",
        )
    styled(plot, "States in each part", height=360, y="share of the part's windows").update_yaxes(tickformat=".0%")
    plot.update_layout(
        barmode="stack", legend={"orientation": "v", "x": 1.02, "y": 1, "yanchor": "top", "traceorder": "reversed"}
    )
    quoted = [
        ["class weight", *(f"{w:.2f}" for w in seed_figures.CLASS_WEIGHTS)],
        ["test windows", *(f"{n:,}" for n in seed_figures.TEST_SUPPORT)],
    ]
    beside = THEIRS + pages.table(["", *seed_figures.STATES], quoted)
    shown = site.table("01_states", table, {"class weight": ".2f", "share mixed": ".1%"})
    note = "Class weights are 1 / count of the train windows, scaled to sum to the number of states."
    return pages.section(
        "States", pages.pair(pages.figure(plot, "share of each state in train, val and test"), beside), shown, note=note
    )


def _purity(site: Site, data: Windows) -> str:
    states = data.store.state[data.frame["row"].to_numpy()[:, None] + np.arange(data.settings.size)]
    own = np.mean(states == data.frame["label"].to_numpy()[:, None], axis=1)[~data.frame["pure"].to_numpy()]
    plot = go.Figure(
        go.Histogram(x=own, xbins={"start": 0, "end": 1.0001, "size": 0.05}, marker_color=state_colour(1, 3))
    )
    styled(
        plot,
        "Mixed windows: how much of one is its label's state",
        height=300,
        x="share of the window's seconds",
        y="windows",
    ).update_xaxes(tickformat=".0%")
    table = pd.DataFrame(
        [
            {
                "windows": "pure, one state throughout",
                "count": int(data.frame["pure"].sum()),
                "share": data.frame["pure"].mean(),
            },
            {"windows": "mixed", "count": int((~data.frame["pure"]).sum()), "share": 1 - data.frame["pure"].mean()},
        ]
    )
    note = (
        "Near a change of state the label follows from a majority of seconds: a window just before and just after "
        "look alike, and no model can part them."
    )
    return pages.section(
        "Pure and mixed windows",
        pages.pair(
            pages.figure(plot, "histogram of the share of the label's state in mixed windows"),
            site.table("01_purity", table, {"share": ".1%"}),
        ),
        note=note,
    )


def _leakage(site: Site, leaks: pd.DataFrame) -> str:
    return pages.section(
        "Leakage",
        site.table("01_leakage", leaks, look="prose"),
        note="Checked on the windows and the split that every later stage uses.",
    )
