"""A run applied to a data set: recording after recording, so that memory does not grow with their number.

What is written: `predictions.parquet` (a row a window), `seconds.parquet` (a row a second), `alarms.csv` (a row an
episode), `recordings.csv` (a row a recording, those that could not be read included) and the page.
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
from conveyorguard.data.session import Unreadable
from conveyorguard.data.stream import StreamedRecording, lenient, stream
from conveyorguard.errors import ConfigError, DataError
from conveyorguard.inference.loaded_run import LoadedRun, Predicted, schema_for
from conveyorguard.inference.summary import PredictionTotals, RecordingSummary, labelled_sentence
from conveyorguard.reporting.prediction_page import PredictionPage
from conveyorguard.system.progress import bar_over_all

ROWS = 20_000  # of a parquet row group
ALARM_COLUMNS = ("session", "device", "begin", "end", "peak", "windows")


def predict_all(
    loaded: LoadedRun, data: Mapping[str, Any], folder: Path, jobs: int | None = None
) -> tuple[PredictionTotals, Path]:
    """Apply a run to all recordings of a data set.

    Args:
        data: the `data` block of a config as plain values.
        folder: where the tables and the page are written.
        jobs: processes that read; None: as many as there are processors.

    Returns:
        What it comes to, and the page's path.

    Raises:
        DataError: the data are not those the run was trained on, no recording is found, or none can be predicted.
    """
    schema = schema_for(loaded, data)
    reader = lenient(build(data["reader"], _partial_=True))
    count, recordings = stream(reader, schema, data["root"], data["strict"], jobs)
    totals, page = PredictionTotals.of(len(schema.states)), PredictionPage(loaded, data["name"])
    problems: list[str] = []
    with ExitStack() as stack:
        tables = stack.enter_context(_tables(folder))
        progress = stack.enter_context(bar_over_all())
        task = progress.add_task("predicting", total=count, note="")
        for recording in recordings:
            told, predicted = predict_one(loaded, recording)
            totals.add(
                told, predicted.windows if predicted else None, predicted.seconds if predicted else None, schema.alarm
            )
            if predicted:
                tables.add(predicted)
                page.add_timeline(recording.store, predicted)  # type: ignore[union-attr]
            elif len(problems) < 20:
                problems.append(f"  {told.session}: {told.noticed}")
            tables.add_recording(told)
            page.add_line(told)
            progress.advance(task)
        if totals.recordings == totals.unpredicted:
            raise DataError("\n".join(["no recording can be predicted:", *problems]))
    return totals, page.write(folder, totals)


def predict_one(
    loaded: LoadedRun, recording: StreamedRecording | Unreadable
) -> tuple[RecordingSummary, Predicted | None]:
    """A recording and what is to be told of it; None where it cannot be predicted, and then why."""
    if isinstance(recording, Unreadable):
        return RecordingSummary(recording.name, noticed=f"not read: {recording.message}"), None
    session = recording.store.sessions.iloc[0]
    told = RecordingSummary(recording.name, session["device"], session["kind"], len(recording.store))
    noticed = list(recording.notes)
    try:
        found = loaded.predict_store(recording.store)
    except ConfigError:
        noticed.insert(0, f"not predicted: no {loaded.settings.size} s without a gap, the length of a window")
        told.noticed = "; ".join(noticed)
        return told, None
    told.windows, told.noticed = len(found.windows), "; ".join(noticed)
    told.state_at_end = str(found.seconds["state"].iloc[-1])
    told.worst_state = loaded.schema.state_names[int(found.seconds["y_pred"].max())]
    told.alarms, told.first_alarm = len(found.alarms), int(found.alarms["begin"].iloc[0]) if len(found.alarms) else None
    told.unlike_training = "; ".join(found.odd.get(recording.name, []))
    return told, found


class _Tables:
    """The tables while they grow."""

    def __init__(self, folder: Path, stack: ExitStack):
        self.folder, self.stack = folder, stack
        self.waiting: dict[str, list[pd.DataFrame]] = {"predictions": [], "seconds": []}
        self.writers: dict[str, pq.ParquetWriter] = {}
        self.alarms = self._csv("alarms.csv", ALARM_COLUMNS)
        self.recordings = self._csv("recordings.csv", [f.name for f in fields(RecordingSummary)])

    def _csv(self, name: str, header: Sequence[str]) -> Any:
        stream = aside(self.folder / name).open("w", newline="", encoding="utf-8")
        writer = csv.writer(self.stack.enter_context(stream))
        writer.writerow(header)
        return writer

    def add(self, predicted: Predicted) -> None:
        for name, table in (("predictions", predicted.windows), ("seconds", predicted.seconds)):
            self.waiting[name].append(table)
            if sum(map(len, self.waiting[name])) >= ROWS:
                self.flush(name)
        self.alarms.writerows(predicted.alarms[list(ALARM_COLUMNS)].itertuples(index=False))

    def add_recording(self, told: RecordingSummary) -> None:
        self.recordings.writerow(["" if value is None else value for value in vars(told).values()])

    def flush(self, name: str) -> None:
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
    """Tables that take their names only when all of them are whole."""
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
    """Where a file is written before it takes its name."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def terminal_summary(loaded: LoadedRun, totals: PredictionTotals, folder: Path, shown: int = 20) -> str:
    """What was found, in a few lines; alarms and oddities in full are in the tables."""
    schema = loaded.schema
    lines = [
        f"{totals.recordings - totals.unpredicted} recordings, {totals.windows:,} windows; seconds by state: "
        + ", ".join(f"{name} {totals.seconds.get(name, 0):,}" for name in schema.state_names)
    ]
    recordings = pd.read_csv(folder / "recordings.csv", keep_default_na=False, nrows=100_000)
    alarms = pd.read_csv(folder / "alarms.csv", nrows=shown, dtype={"session": str, "device": str})
    lines += [
        f"alarm: {a.session} ({a.device}) from second {a.begin} to {a.end}, up to {a.peak:.0%}"
        for a in alarms.itertuples()
    ]
    if totals.alarms > shown:
        lines.append(f"and {totals.alarms - shown} more alarms, in alarms.csv")
    if not loaded.point:
        lines.append("no alarms: the run has no operating point (no fault recording in its validation part)")
    elif not totals.alarms:
        lines.append("no alarms")
    for column, what in (("unlike_training", "unlike the training"), ("noticed", "noticed")):
        alike = recordings[recordings[column] != ""].groupby(column, sort=False)["session"].agg(["first", "count"])
        for sentence, (first, count) in alike.head(shown).iterrows():
            lines.append(f"{what}: {first}{f' and {count - 1} more' if count > 1 else ''}: {sentence}")
        if len(alike) > shown:
            lines.append(f"{what}: {alike['count'][shown:].sum()} more recordings, in recordings.csv")
    if totals.unpredicted:
        lines.append(
            f"{totals.unpredicted} of {totals.recordings} recordings are not predicted; why is in recordings.csv"
        )
    if totals.labelled:
        lines.append(labelled_sentence(totals, schema))
    return "\n".join(lines)
