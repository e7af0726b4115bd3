"""Batch prediction: a run applied to a data set, one session at a time, so that memory does not limit their number.

It writes `predictions.parquet` (a row per window), `seconds.parquet` (a row per second, or period), `alarms.csv` (a row
per alarm), `recordings.csv` (a row per session, also of those that cannot be read), `metrics.json` (with labels),
the page, and `alarms.json` where the operating point was chosen anew.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from conveyorguard.config.compose import build
from conveyorguard.data.durations import text_of
from conveyorguard.data.session import Unreadable
from conveyorguard.data.stream import StreamedRecording, lenient, stream
from conveyorguard.errors import DataError
from conveyorguard.inference.data_schema import schema_for
from conveyorguard.inference.label_figures import label_figures, label_sentences, use_sentence
from conveyorguard.inference.loaded_run import LoadedRun, SessionPredictions, TooShortError
from conveyorguard.inference.summary import PredictionTotals, SessionSummary
from conveyorguard.reporting.alarm_sentences import duration, span, threshold_choice
from conveyorguard.reporting.format import counted
from conveyorguard.reporting.prediction_page import PredictionPage
from conveyorguard.runs.shapes import Alarms, write_record
from conveyorguard.system.files import write_json
from conveyorguard.system.progress import bar_over_all

ROWS = 20_000  # of a parquet row group
ALARM_COLUMNS = ("session", "device", "begin_time", "end_time", "begin", "end", "peak", "windows")


def predict_all(
    loaded: LoadedRun, data: Mapping[str, Any], folder: Path, jobs: int | None = None
) -> tuple[PredictionTotals, Path]:
    """Apply a run to all sessions of a data set and write the tables and the page.

    Args:
        loaded: the run.
        data: the `data` block of a config as plain values.
        folder: of the tables and the page.
        jobs: number of processes that read; None: one for each processor.

    Returns:
        The totals over all sessions, and the path of the page.

    Raises:
        DataError: the data are not those the run was trained on, no recording is found, or none can be predicted.
    """
    schema = schema_for(loaded, data)
    reader = lenient(build(data["reader"], _partial_=True))
    count, recordings = stream(reader, schema, data["root"], data["strict"], jobs)
    totals = PredictionTotals.of(len(schema.states), apart=loaded.parts_by_content is not None)
    page = PredictionPage(loaded, data["name"])
    problems: list[str] = []
    with ExitStack() as stack:
        tables = stack.enter_context(_tables(folder))
        progress = stack.enter_context(bar_over_all())
        task = progress.add_task("predicting", total=count, note="")
        for recording in recordings:
            summary, predicted = predict_one(loaded, recording)
            windows, seconds = (predicted.windows, predicted.seconds) if predicted else (None, None)
            totals.add(summary, windows, seconds, schema.alarm)
            if predicted:
                tables.add(predicted)
                page.add_timeline(recording.store, predicted)  # type: ignore[union-attr]
            elif len(problems) < 20:
                problems.append(f"  {summary.session}: {summary.noticed}")
            tables.add_session(summary)
            page.add_line(summary)
            progress.advance(task)
        if totals.recordings == totals.unpredicted:
            raise DataError("\n".join(["no session can be predicted:", *problems]))
    if totals.labelled:
        write_json(folder / "metrics.json", label_figures(totals))
    else:
        (folder / "metrics.json").unlink(missing_ok=True)  # of an earlier prediction into the same folder
    if loaded.overrides:
        write_alarms(loaded, folder)
    return totals, page.write(folder, totals)


def write_alarms(loaded: LoadedRun, folder: Path) -> None:
    """Write alarms.json: the operating point that was chosen anew, how, and with which overrides."""
    facts = {**loaded.alarms, "run": loaded.run.folder.resolve().name, "overrides": loaded.overrides}
    folder.mkdir(parents=True, exist_ok=True)
    write_record(folder / "alarms.json", Alarms, facts)


def predict_one(
    loaded: LoadedRun, recording: StreamedRecording | Unreadable
) -> tuple[SessionSummary, SessionPredictions | None]:
    """Predict one session.

    Returns:
        The summary of the session, and its predictions; None if it cannot be predicted, which the summary explains.
    """
    if isinstance(recording, Unreadable):
        return SessionSummary(recording.name, noticed=f"not read: {recording.message}"), None
    session = recording.store.sessions.iloc[0]
    summary = SessionSummary(
        recording.name, session["device"], session["kind"], len(recording.store) * recording.store.period
    )
    noticed = list(recording.notes)
    try:
        predicted = loaded.predict_store(recording.store)
    except TooShortError:
        length = text_of(loaded.settings.size * loaded.settings.period)
        noticed.insert(0, f"not predicted: no {length} without a gap, the length of a window")
        summary.noticed = "; ".join(noticed)
        return summary, None
    summary.windows, summary.noticed = len(predicted.windows), "; ".join(noticed)
    summary.state_at_end = str(predicted.seconds["state"].iloc[-1])
    summary.worst_state = loaded.schema.state_names[int(predicted.seconds["y_pred"].max())]
    summary.alarms = len(predicted.alarms)
    if len(predicted.alarms):
        first = predicted.alarms.iloc[0]
        summary.first_alarm, summary.first_alarm_time = float(first["begin"]), first["begin_time"] or ""
    summary.unlike_training = "; ".join(predicted.odd.get(recording.name, []))
    summary.used_in = loaded.part_of(recording.store)
    return summary, predicted


class _Tables:
    """The four tables of a batch prediction while they grow; each is written beside its final name."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self.stack = folder, stack
        self.waiting: dict[str, list[pd.DataFrame]] = {"predictions": [], "seconds": []}
        self.writers: dict[str, pq.ParquetWriter] = {}
        self.alarms = self._csv("alarms.csv", ALARM_COLUMNS)
        self.recordings = self._csv("recordings.csv", [f.name for f in fields(SessionSummary)])

    def _csv(self, name: str, header: Sequence[str]) -> Any:
        stream = aside(self.folder / name).open("w", newline="", encoding="utf-8")
        writer = csv.writer(self.stack.enter_context(stream))
        writer.writerow(header)
        return writer

    def add(self, predicted: SessionPredictions) -> None:
        """Add the windows, seconds and alarms of a session."""
        for name, table in (("predictions", predicted.windows), ("seconds", predicted.seconds)):
            self.waiting[name].append(table)
            if sum(map(len, self.waiting[name])) >= ROWS:
                self.flush(name)
        self.alarms.writerows(predicted.alarms[list(ALARM_COLUMNS)].itertuples(index=False))

    def add_session(self, summary: SessionSummary) -> None:
        """Add the row of a session."""
        self.recordings.writerow(["" if value is None else value for value in vars(summary).values()])

    def flush(self, name: str) -> None:
        """Write the waiting rows of a parquet table."""
        if not self.waiting[name]:
            return
        table = pa.Table.from_pandas(pd.concat(self.waiting[name], ignore_index=True), preserve_index=False)
        if name not in self.writers:
            path = aside(self.folder / f"{name}.parquet")
            self.writers[name] = self.stack.enter_context(pq.ParquetWriter(path, table.schema))
        self.writers[name].write_table(table.cast(self.writers[name].schema))
        self.waiting[name] = []


@contextmanager
def _tables(folder: Path) -> Iterator[_Tables]:
    """Open the tables; they take their final names together, once all of them are complete."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ("predictions.parquet", "seconds.parquet", "alarms.csv", "recordings.csv")
    try:
        with ExitStack() as stack:
            tables = _Tables(folder, stack)
            yield tables
            for name in tables.waiting:
                tables.flush(name)
        for name in names:
            os.replace(aside(folder / name), folder / name)
    finally:
        for name in names:
            aside(folder / name).unlink(missing_ok=True)


def aside(path: Path) -> Path:
    """Return the path where a file is written before it takes its final name."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def terminal_summary(loaded: LoadedRun, totals: PredictionTotals, folder: Path, shown: int = 20) -> str:
    """Return the totals, the first alarms and what was noticed, for the terminal.

    Args:
        loaded: the run.
        totals: over all sessions.
        folder: of the tables, which hold the rest.
        shown: largest number of lines for each kind of remark.
    """
    schema, period = loaded.schema, loaded.settings.period
    lines = [
        f"{counted(totals.recordings - totals.unpredicted, 'session')}, {counted(totals.windows, 'window')}; by state: "
        + ", ".join(f"{name} {duration(totals.seconds.get(name, 0) * period / 3600)}" for name in schema.state_names)
    ]
    if totals.warming_up:
        lines[0] += f"; before the first window {duration(totals.warming_up * period / 3600)}"
    recordings = pd.read_csv(folder / "recordings.csv", keep_default_na=False, nrows=100_000)
    lines += _alarm_lines(loaded, totals, folder, shown)
    for column, what in (("unlike_training", "unlike the training data"), ("noticed", "noticed")):
        groups = recordings[recordings[column] != ""].groupby(column, sort=False)["session"].agg(["first", "count"])
        for sentence, (first, count) in groups.head(shown).iterrows():
            lines.append(f"{what}: {first}{f' and {count - 1} more' if count > 1 else ''}: {sentence}")
        if len(groups) > shown:
            lines.append(f"{what}: {groups['count'][shown:].sum()} more sessions, in recordings.csv")
    if totals.unpredicted:
        lines.append(
            f"not predicted: {totals.unpredicted} of {counted(totals.recordings, 'session')}; recordings.csv says why"
        )
    if totals.labelled:
        lines += label_sentences(totals, schema)
    elif totals.used:
        lines.append(use_sentence(totals))
    return "\n".join(lines)


def _alarm_lines(loaded: LoadedRun, totals: PredictionTotals, folder: Path, shown: int) -> list[str]:
    """Return the lines on alarms: the first ones, how many more, and the threshold where it was chosen anew."""
    alarms = pd.read_csv(
        folder / "alarms.csv", nrows=shown, keep_default_na=False, dtype={"session": str, "device": str}
    )
    lines = [
        f"alarm: {alarm['session']} ({alarm['device']}) {span(alarm)}, probability up to {alarm['peak']:.0%}"
        for _, alarm in alarms.iterrows()
    ]
    if totals.alarms > shown:
        lines.append(f"and {totals.alarms - shown} more alarms, in alarms.csv")
    if loaded.overrides and loaded.point:
        lines.append(f"alarms: threshold {loaded.point.on:.3f}. {threshold_choice(loaded.alarms)}")
    if not loaded.point:
        lines.append("no alarms: the run has no operating point (no session with a fault in its validation part)")
    elif not totals.alarms:
        lines.append("no alarms")
    return lines
