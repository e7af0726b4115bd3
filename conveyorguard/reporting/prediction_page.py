"""The page of `predict`: alarms first, then a timeline of each recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from conveyorguard.data.store import Store
from conveyorguard.prediction import LoadedRun, Predicted
from conveyorguard.reporting import figures, pages
from conveyorguard.run import write_parquet, write_text

SHOWN = 20  # timelines on the page; the tables hold all recordings
FRAMES = 4  # thermal frames at an alarm


def write_predictions(loaded: LoadedRun, store: Store, predicted: Predicted, folder: Path) -> Path:
    """Write predictions.parquet, seconds.parquet, alarms.csv and predictions.html; returns the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_parquet(folder / "predictions.parquet", predicted.windows)
    write_parquet(folder / "seconds.parquet", predicted.seconds)
    write_text(folder / "alarms.csv", predicted.alarms.to_csv(index=False))
    path = folder / "predictions.html"
    names = list(dict.fromkeys(predicted.windows["session"]))
    ringing = list(dict.fromkeys(predicted.alarms["session"]))
    shown = [*ringing, *(name for name in names if name not in ringing)][:SHOWN]
    blocks = [_summary(loaded, predicted, names), _recordings(loaded, predicted, names)]
    blocks += [_timeline(loaded, store, predicted, name) for name in shown]
    if len(shown) < len(names):
        blocks.append(
            pages.section(
                "More",
                note=f"{len(names) - len(shown)} more recordings are in predictions.parquet and seconds.parquet.",
            )
        )
    model = loaded.run.config.model.get("name", "model")
    subtitle = f"run {loaded.run.folder.resolve().name} ({model}), data {store.fingerprint[:12]}"
    write_text(path, pages.page("States and alarms", subtitle, blocks))
    return path


def terminal_summary(loaded: LoadedRun, predicted: Predicted) -> str:
    """What was found, in a few lines."""
    names = predicted.windows["session"].nunique()
    states = predicted.seconds["state"].value_counts()
    lines = [f"{names} recordings, {len(predicted.windows):,} windows; seconds by state: "
             + ", ".join(f"{name} {states.get(name, 0):,}" for name in loaded.schema.state_names)]  # fmt: skip
    for _, a in predicted.alarms.iterrows():
        lines.append(
            f"alarm: {a['session']} ({a['device']}) from second {a['begin']} to {a['end']}, up to {a['peak']:.0%}"
        )
    if not loaded.point:
        lines.append("no alarms: the run has no operating point (no fault recording in its validation part)")
    elif not len(predicted.alarms):
        lines.append("no alarms")
    lines += [f"unlike the training: {name}: {'; '.join(said)}" for name, said in predicted.odd.items()]
    return "\n".join(lines)


def _summary(loaded: LoadedRun, predicted: Predicted, names: list[str]) -> str:
    alarm = loaded.schema.states[loaded.schema.alarm].name
    worst = predicted.seconds.groupby("session", observed=True)["y_pred"].max()
    values = [
        ("recordings", str(len(names))),
        ("alarms", str(len(predicted.alarms))),
        ("recordings with an alarm", str(predicted.alarms["session"].nunique())),
        (f"recordings that reach {alarm} or worse", str(int((worst >= loaded.schema.alarm).sum()))),
        ("recordings unlike the training", str(len(predicted.odd))),
    ]
    if loaded.point:
        note = (f"An alarm begins when the calibrated probability of {alarm} or worse reaches {loaded.point.on:.3f} and ends below "
                f"{loaded.point.off:.3f}, the run's operating point.")  # fmt: skip
    else:
        note = "The run has no operating point, so there are no alarms: its validation part had no fault recording."
    return pages.section("Summary", pages.tiles(values), note=note)


def _recordings(loaded: LoadedRun, predicted: Predicted, names: list[str]) -> str:
    rows = []
    alarms = (
        predicted.alarms.groupby("session")["begin"].agg(["count", "min"]) if len(predicted.alarms) else pd.DataFrame()
    )
    for name, own in predicted.seconds.groupby("session", sort=False):
        first = alarms.loc[name] if name in alarms.index else None
        rows.append([
            name, f"{len(own):,}", own["state"].iloc[-1], loaded.schema.state_names[int(own["y_pred"].max())],
            "–" if first is None else f"{first['count']:.0f}", "–" if first is None else f"{first['min']:.0f} s",
            "; ".join(predicted.odd.get(str(name), [])) or "–",
        ])  # fmt: skip
    header = [
        "recording",
        "seconds",
        "state at the end",
        "worst state",
        "alarms",
        "first alarm at",
        "unlike the training",
    ]
    return pages.section("Recordings", pages.sortable(header, rows))


def _timeline(loaded: LoadedRun, store: Store, predicted: Predicted, name: str) -> str:
    schema = loaded.schema
    mask = (store.frames["session"] == name).to_numpy()
    first = int(np.flatnonzero(mask)[0])
    time = store.frames["time"].to_numpy()[mask]
    own = predicted.seconds[predicted.seconds["session"] == name]
    state = pd.Series(own["y_pred"].to_numpy(), index=own["time"]).reindex(time).fillna(-1).to_numpy(int)
    alarms = predicted.alarms[predicted.alarms["session"] == name]
    names = [f"{s.name} {s.label}".strip() for s in schema.states]
    p = own[[f"c{k}" for k in range(len(names))]].to_numpy()
    spans = list(zip(alarms["begin"], alarms["end"], strict=True))
    parts = [
        pages.figure(
            figures.probabilities(own["time"].to_numpy(), p, names, spans), f"probability of each state of {name}"
        )
    ]
    units = [schema.channels[c].unit for c in schema.channels]
    plot = figures.traces(time, store.sensors[mask], list(schema.channels), units, state, len(names))
    parts.append(pages.figure(plot, f"sensors of {name}, coloured by the predicted state"))
    if store.thermal is not None and len(alarms):
        begin = first + int(np.searchsorted(time, alarms["begin"].iloc[0]))
        places = [max(first, begin - 10 * k) for k in range(FRAMES)][::-1]
        hot = [np.asarray(store.thermal[i, -1], float) for i in dict.fromkeys(places)]
        low, high = min(f.min() for f in hot), max(f.max() for f in hot)
        parts.append(pages.film((figures.thermal_image(f, low, high), f"{store.frames['time'].to_numpy()[i]} s, up to {f.max():.1f} °C")
                                for f, i in zip(hot, dict.fromkeys(places), strict=True)))  # fmt: skip
    told = "; ".join(f"alarm from second {b} to {e}" for b, e in spans) or "no alarm"
    odd = predicted.odd.get(name, [])
    return pages.section(name, *parts, note=". ".join([told, *odd]) + ".")
