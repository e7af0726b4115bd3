"""predictions.html, the page of `predict`: alarms first, then a timeline of each session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from conveyorguard.data.durations import text_of
from conveyorguard.data.store import Store
from conveyorguard.data.windows import WindowSettings
from conveyorguard.inference.label_figures import label_sentences, use_sentence
from conveyorguard.inference.loaded_run import LoadedRun, SessionPredictions
from conveyorguard.inference.summary import PredictionTotals, SessionSummary
from conveyorguard.metrics.notation import MISSING
from conveyorguard.reporting import figures, pages, recording_figures
from conveyorguard.reporting.alarm_section import alarm_section
from conveyorguard.reporting.alarm_sentences import STAMPED, alarm_rule, duration, moment, span
from conveyorguard.reporting.format import counted, state_titles
from conveyorguard.system.files import write_text

SHOWN = 20  # timelines on the page; the tables hold all sessions
LINES = 300  # sessions in the page's table
FILMS = 4  # alarms of a session whose thermal frames are shown
FRAMES = 4  # thermal frames at an alarm, 10 s apart
POINTS = 2000  # of a curve; of a longer session every n-th second is drawn
CHANNELS = 12  # curves of a timeline; of more channels those that move most, measured by the training's range


class PredictionPage:
    """Collects the page while sessions come in; it keeps only what it will show, sessions with an alarm first.

    Args:
        data: name of the data set.
    """

    def __init__(self, loaded: LoadedRun, data: str):
        self.loaded, self.data = loaded, data
        self.lines: dict[bool, list[SessionSummary]] = {True: [], False: []}  # by whether there is something to see
        self.timelines: dict[bool, list[Markup]] = {True: [], False: []}  # by whether there is an alarm

    def add_line(self, summary: SessionSummary) -> None:
        """Add a session to the table."""
        lines = self.lines[bool(summary.alarms or summary.unlike_training or not summary.predicted)]
        if len(lines) < LINES:
            lines.append(summary)

    def add_timeline(self, store: Store, predicted: SessionPredictions) -> None:
        """Add the timeline of a predicted session."""
        timelines = self.timelines[bool(len(predicted.alarms))]
        if len(timelines) < SHOWN:
            timelines.append(timeline(self.loaded, store, predicted))

    def write(self, folder: Path, totals: PredictionTotals) -> Path:
        """Write predictions.html and return its path."""
        timelines = [*self.timelines[True], *self.timelines[False]][:SHOWN]
        not_drawn = totals.recordings - totals.unpredicted - len(timelines)
        main = pages.render(
            "predictions.html.jinja",
            summary=self._summary(totals),
            labelled=self._labelled(totals),
            worth=self._worth(),
            sessions=self._sessions(totals),
            timelines=timelines,
            not_drawn=counted(not_drawn, "session") if not_drawn > 0 else "",
        )
        run = self.loaded.run
        subtitle = f"run {run.folder.resolve().name} ({run.model_name}), data {self.data}"
        path = folder / "predictions.html"
        write_text(path, pages.page("States and alarms", subtitle, main))
        return path

    def _summary(self, totals: PredictionTotals) -> dict[str, Any]:
        schema, point = self.loaded.schema, self.loaded.point
        note = "The run has no operating point, so there are no alarms: no session of its validation part had a fault."
        if point:
            note = f"{alarm_rule(schema.alarming, point)} {STAMPED} {self._source()}."
        note = f"{_asked(self.loaded.settings)} {note}"
        period = self.loaded.settings.period
        all_seconds = max(sum(totals.seconds.values()), 1)
        seconds = [totals.seconds.get(state.name, 0) for state in schema.states]
        return {
            "note": note,
            "tiles": [
                _tile(totals.recordings, "session"),
                _tile(totals.alarms, "alarm"),
                _tile(totals.with_alarm, "session", " with an alarm"),
                _tile(totals.reached, "session", f" with {schema.alarming}"),
                _tile(totals.unlike, "session", " unlike the training data"),
                _tile(totals.unpredicted, "session", " not predicted"),
            ],
            "states": pages.table(
                ["predicted state", "time", "share of it"],
                [
                    [title, duration(count * period / 3600), f"{count / all_seconds:.1%}"]
                    for title, count in zip(state_titles(schema), seconds, strict=True)
                ],
            ),
            "unjudged": (
                f"Not counted: {duration(totals.warming_up * period / 3600)} before the first window of a session, or "
                "the first after a gap, has ended."
                if totals.warming_up
                else ""
            ),
        }

    def _source(self) -> str:
        """Say where the operating point is from."""
        if not self.loaded.overrides:
            return "This is the operating point of the run"
        return f"It was chosen anew on the validation part of the run, with {', '.join(self.loaded.overrides)}"

    def _worth(self) -> dict[str, Any] | None:
        """Return what the operating point is worth on the recordings that the run was evaluated on."""
        facts = self.loaded.alarms
        if not self.loaded.point:
            return None
        return alarm_section(facts, list(facts["parts"])[-1], self.loaded.schema, applied=True)

    def _labelled(self, totals: PredictionTotals) -> dict[str, Any] | None:
        """Return how the prediction agrees with labels, where the new sessions have them.

        The matrix is that of sessions that the run was not trained on, where there are both.
        """
        if not totals.labelled:
            return None
        names, shown, title = state_titles(self.loaded.schema), totals, "actual and predicted state, labelled windows"
        if totals.used and totals.unused is not None and totals.unused.labelled:
            shown, title = totals.unused, f"{title}, of sessions used in neither training nor validation"
        sentences = label_sentences(totals, self.loaded.schema)
        return {
            "note": " ".join(f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences),
            "matrix": pages.figure(
                figures.confusion(shown.confusion.tolist(), names, title), "confusion matrix of the labelled windows"
            ),
        }

    def _sessions(self, totals: PredictionTotals) -> dict[str, Any]:
        lines = [*self.lines[True], *self.lines[False]][:LINES]
        rows = [
            [
                line.session,
                line.device,
                duration(line.seconds / 3600),
                line.state_at_end or MISSING,
                line.worst_state or MISSING,
                str(line.alarms) if line.alarms else MISSING,
                line.first_alarm_time or (MISSING if line.first_alarm is None else moment(line.first_alarm)),
                line.unlike_training or MISSING,
                line.noticed or MISSING,
            ]
            for line in lines
        ]
        header = [
            "session",
            "device",
            "length",
            "state at the end",
            "worst state",
            "alarms",
            "first alarm at",
            "unlike the training data",
            "noticed when reading",
        ]
        hidden = totals.recordings - len(lines)
        note = f"{counted(hidden, 'session')} more in recordings.csv." if hidden > 0 else ""
        if totals.used and not totals.labelled:
            note = f"{note} {use_sentence(totals).capitalize()}.".strip()
        return {"note": note, "table": pages.sortable(header, rows, "prose")}


def _asked(window: WindowSettings) -> str:
    """Say which question the states answer, and how a row is answered from windows."""
    if window.label == "last":
        rule = "A row is answered by the last window that had ended by then; before the first window it is warming up"
    else:
        ahead = text_of((window.size - 1) * window.period)
        rule = f"A row is answered by the mean of all windows over it, which looks up to {ahead} ahead"
    return f"Asked: {window.question}. {rule}."


def _tile(count: int, noun: str, which: str = "") -> tuple[str, str]:
    """Return caption and number of a tile: ("session with an alarm", "1")."""
    number, counted_noun = counted(count, noun).split(" ", 1)
    return counted_noun + which, number


def timeline(loaded: LoadedRun, store: Store, predicted: SessionPredictions) -> Markup:
    """Draw one session: probabilities with the alarms, sensors over the predicted states, thermal frames at alarms."""
    names = state_titles(loaded.schema)
    name = str(store.sessions["name"].iloc[0])
    step = max(len(store) // POINTS, 1)
    time = np.asarray(store.tick) * store.period
    seconds = predicted.seconds
    state = pd.Series(seconds["y_pred"].to_numpy(), index=seconds["time"]).reindex(time).fillna(-1).to_numpy(int)
    p = seconds[[f"c{k}" for k in range(len(names))]].to_numpy()
    alarms = predicted.alarms.to_dict("records")
    spans = [(alarm["begin"], alarm["end"]) for alarm in alarms]
    channels = _most_moving(loaded, store)
    columns = [list(store.schema.channels).index(channel) for channel in channels]
    units = [store.schema.channels[channel].unit for channel in channels]
    probabilities = recording_figures.probabilities(seconds["time"].to_numpy()[::step], p[::step], names, spans)
    traces = recording_figures.traces(
        time[::step], store.sensors[::step, columns], channels, units, state[::step], len(names)
    )
    return pages.render(
        "timeline.html.jinja",
        name=name,
        note=_timeline_note(store, alarms, predicted.odd.get(name, []), len(channels), step),
        probabilities=pages.figure(probabilities, f"probability of each state of {name}"),
        sensors=pages.figure(traces, f"sensors of {name}, coloured by the predicted state"),
        films=[(moment(begin), _film(store, begin)) for begin, _ in spans[:FILMS] if store.thermal is not None],
    )


def _timeline_note(store: Store, alarms: list[dict[Any, Any]], odd: list[str], drawn: int, step: int) -> str:
    """Say when there were alarms, which inputs are unlike the training data and what is not drawn."""
    sentences = ["Alarm " + "; ".join(map(span, alarms)) if alarms else "No alarm"]
    if odd:
        sentences.append("Unlike the training data: " + "; ".join(odd))
    channels = len(store.schema.channels)
    if drawn < channels:
        sentences.append(f"Drawn are the {drawn} of {channels} channels that move most")
    if step > 1:
        sentences.append(f"Only one row in {step} is drawn")
    return ". ".join(sentences) + "."


def _most_moving(loaded: LoadedRun, store: Store) -> list[str]:
    """Return the channels to draw, in the schema's order."""
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


def _film(store: Store, begin: float) -> list[tuple[bytes, str]]:
    """Return the thermal frame at an alarm's begin and some before it, on one scale of colour, with captions."""
    assert store.thermal is not None
    time = np.asarray(store.tick) * store.period
    at = int(np.searchsorted(time, begin))
    places = sorted({max(0, min(at, len(time) - 1) - 10 * k) for k in range(FRAMES)})
    frames = [np.asarray(store.thermal[i, -1], float) for i in places]
    low, high = min(frame.min() for frame in frames), max(frame.max() for frame in frames)
    return [
        (recording_figures.thermal_image(frame, low, high), f"{moment(time[i])}, up to {frame.max():.1f} °C")
        for frame, i in zip(frames, places, strict=True)
    ]
