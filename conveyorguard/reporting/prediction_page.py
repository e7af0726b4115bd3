"""The page of `predict`: alarms first, then a timeline of each recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from conveyorguard.data.store import Store
from conveyorguard.inference.loaded_run import LoadedRun, Predicted
from conveyorguard.inference.summary import PredictionTotals, RecordingSummary, labelled_sentence
from conveyorguard.metrics.alarms import how_it_did, when_it_rings
from conveyorguard.reporting import figures, pages, recording_figures
from conveyorguard.reporting.format import state_title, state_titles
from conveyorguard.system.files import write_text

SHOWN = 20  # timelines on the page; the tables hold all recordings
LINES = 300  # recordings in the page's table
FILMS = 4  # alarms of a recording whose thermal frames are shown
FRAMES = 4  # thermal frames at an alarm, 10 s apart
POINTS = 2000  # of a curve; of a longer recording every n-th second is drawn
CHANNELS = 12  # curves of a timeline; of more channels those that move most, measured by the training's range


class PredictionPage:
    """The page while recordings come in: it keeps what it will show and no more, those with an alarm before the
    others."""

    def __init__(self, loaded: LoadedRun, data: str):
        self.loaded, self.data = loaded, data
        self.lines: dict[bool, list[RecordingSummary]] = {True: [], False: []}
        self.timelines: dict[bool, list[str]] = {True: [], False: []}

    def add_line(self, told: RecordingSummary) -> None:
        """A recording for the table."""
        lines = self.lines[bool(told.alarms or told.unlike_training or not told.predicted)]
        if len(lines) < LINES:
            lines.append(told)

    def add_timeline(self, store: Store, predicted: Predicted) -> None:
        """A predicted recording."""
        timelines = self.timelines[bool(len(predicted.alarms))]
        if len(timelines) < SHOWN:
            timelines.append(timeline(self.loaded, store, predicted))

    def write(self, folder: Path, totals: PredictionTotals) -> Path:
        """Write predictions.html."""
        shown = [*self.timelines[True], *self.timelines[False]][:SHOWN]
        blocks = [self._summary(totals), self._labelled(totals), self._recordings(totals), *shown]
        predicted = totals.recordings - totals.unpredicted
        if len(shown) < predicted:
            rest = f"{predicted - len(shown)} more recordings are in predictions.parquet and seconds.parquet."
            blocks.append(pages.section("More", note=rest))
        run = self.loaded.run
        subtitle = f"run {run.folder.resolve().name} ({run.model_name}), data {self.data}"
        path = folder / "predictions.html"
        write_text(path, pages.page("States and alarms", subtitle, blocks))
        return path

    def _summary(self, totals: PredictionTotals) -> str:
        schema, point = self.loaded.schema, self.loaded.point
        values = [
            ("recordings", f"{totals.recordings:,}"),
            ("alarms", f"{totals.alarms:,}"),
            ("recordings with an alarm", f"{totals.with_alarm:,}"),
            (f"recordings that reach {schema.alarming}", f"{totals.reached:,}"),
            ("recordings unlike the training", f"{totals.unlike:,}"),
            ("recordings not predicted", f"{totals.unpredicted:,}"),
        ]
        if point:
            note = (
                f"{when_it_rings(schema.alarming, point)}, the run's operating point; both are stamped at the end "
                "of a window. "
                f"{how_it_did(self.loaded.run.facts('alarms'))}"
            )
        else:
            note = "The run has no operating point, so there are no alarms: its validation part had no fault recording."
        seconds = sum(totals.seconds.values())
        rows = [
            [
                state_title(s),
                f"{totals.seconds.get(s.name, 0):,}",
                f"{totals.seconds.get(s.name, 0) / max(seconds, 1):.1%}",
            ]
            for s in schema.states
        ]
        return pages.section(
            "Summary", pages.tiles(values), pages.table(["state", "seconds", "share"], rows), note=note
        )

    def _labelled(self, totals: PredictionTotals) -> str:
        """How the prediction agrees with labels, where the new recordings have them."""
        if not totals.labelled:
            return ""
        names = state_titles(self.loaded.schema)
        plot = figures.confusion(totals.confusion.tolist(), names, "labelled windows by actual and predicted state")
        note = labelled_sentence(totals, self.loaded.schema) + "."
        return pages.section(
            "Against their labels", pages.figure(plot, "confusion matrix of the labelled windows"), note=note
        )

    def _recordings(self, totals: PredictionTotals) -> str:
        lines = [*self.lines[True], *self.lines[False]][:LINES]
        rows = [
            [
                t.session,
                t.device,
                f"{t.seconds:,}",
                t.state_at_end or "–",
                t.worst_state or "–",
                str(t.alarms) if t.alarms else "–",
                "–" if t.first_alarm is None else f"{t.first_alarm} s",
                t.unlike_training or "–",
                pages.base_names(t.noticed) or "–",
            ]
            for t in lines
        ]
        header = [
            "recording",
            "device",
            "seconds",
            "state at the end",
            "worst state",
            "alarms",
            "first alarm at",
            "unlike the training",
            "noticed when reading",
        ]
        note = (
            f"{totals.recordings - len(lines):,} more are in recordings.csv." if totals.recordings > len(lines) else ""
        )
        return pages.section("Recordings", pages.sortable(header, rows), note=note)


def timeline(loaded: LoadedRun, store: Store, predicted: Predicted) -> str:
    """Probabilities with the alarms, sensors on the predicted states, thermal frames at the alarms, of one
    recording."""
    schema = loaded.schema
    name = str(store.sessions["name"].iloc[0])
    step = max(len(store) // POINTS, 1)
    time = np.asarray(store.tick)
    own = predicted.seconds
    state = pd.Series(own["y_pred"].to_numpy(), index=own["time"]).reindex(time).fillna(-1).to_numpy(int)
    alarms = predicted.alarms
    names = state_titles(schema)
    p = own[[f"c{k}" for k in range(len(names))]].to_numpy()
    spans = list(zip(alarms["begin"], alarms["end"], strict=True))
    told = ["; ".join(f"alarm from second {b} to {e}" for b, e in spans) or "no alarm", *predicted.odd.get(name, [])]
    parts = [
        pages.figure(
            recording_figures.probabilities(own["time"].to_numpy()[::step], p[::step], names, spans),
            f"probability of each state of {name}",
        )
    ]
    channels = _most_moving(loaded, store)
    if len(channels) < len(store.schema.channels):
        told.append(f"drawn are the {len(channels)} channels of {len(store.schema.channels)} that move most")
    if step > 1:
        told.append(f"every {step}th second is drawn")
    columns = [list(store.schema.channels).index(channel) for channel in channels]
    units = [store.schema.channels[channel].unit for channel in channels]
    plot = recording_figures.traces(
        time[::step], store.sensors[::step, columns], channels, units, state[::step], len(names)
    )
    parts.append(pages.figure(plot, f"sensors of {name}, coloured by the predicted state"))
    parts += [_film(store, int(begin)) for begin, _ in spans[:FILMS] if store.thermal is not None]
    return pages.section(name, *parts, note=". ".join(told) + ".")


def _most_moving(loaded: LoadedRun, store: Store) -> list[str]:
    """The channels to draw, in the schema's order."""
    values = dict(zip(store.schema.channels, np.asarray(store.sensors).T, strict=True))
    names = [name for name, column in values.items() if not np.isnan(column).all()]
    if len(names) <= CHANNELS:
        return names
    spans = {name: loaded.ranges.get(name, {"low": 0.0, "high": 1.0}) for name in names}
    moved = {
        name: float(np.nanmax(values[name]) - np.nanmin(values[name])) / ((span["high"] - span["low"]) or 1.0)
        for name, span in spans.items()
    }
    most = sorted(names, key=moved.__getitem__, reverse=True)[:CHANNELS]
    return [name for name in names if name in most]


def _film(store: Store, begin: int) -> str:
    """The frame at an alarm's beginning and some before it, on one scale of colour."""
    assert store.thermal is not None
    time = np.asarray(store.tick)
    at = int(np.searchsorted(time, begin))
    places = sorted({max(0, min(at, len(time) - 1) - 10 * k) for k in range(FRAMES)})
    frames = [np.asarray(store.thermal[i, -1], float) for i in places]
    low, high = min(f.min() for f in frames), max(f.max() for f in frames)
    pictures = [
        (recording_figures.thermal_image(frame, low, high), f"{time[i]} s, up to {frame.max():.1f} °C")
        for frame, i in zip(frames, places, strict=True)
    ]
    return f"<h3>thermal frames up to the alarm at {begin} s</h3>{pages.film(pictures)}"
