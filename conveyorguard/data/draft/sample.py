"""Read a sample of the files for a draft, and describe their columns."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from conveyorguard.data.draft.some_rows import Words, read_some
from conveyorguard.data.table import columns
from conveyorguard.data.table.columns import Table, part_of, words_of
from conveyorguard.data.table.discover import find_files
from conveyorguard.data.table.states import INTERVALS
from conveyorguard.errors import DataError
from conveyorguard.system.progress import track

LOOKED_AT = 40  # files, or recordings, that are read; evenly spread if there are more
KEPT = 16_000_000  # bytes of all files whose rows are kept; evenly spread blocks of rows of larger files
WORDS = {  # role: pattern of column names
    "time": r"^(date_?time|time_?stamp|time|zeit(stempel)?|uhrzeit)|^(t|ts|sec|seconds?|elapsed.*|日時|時刻)$"
    r"|([_\s.]|^)(ts|time|timestamp)$|(시간|일시|시각)$",
    "date": r"^(date|datum|day|날짜|일자)$|_date$",
    "cycle": r"^(time[_\s]?(in[_\s]?)?)?(cycles?|strokes?|flights?|shots?|사이클)([_\s]?(no|nr|number|count))?$",
    "session": r"^(session|recording|run|cycle|trial|sequence|episode|file|batch|lot|세션|실험|시험|회차)"
    r"(_?(id|no|name|nr)|\s?번호)?$",
    "device": r"^(device|machine|equipment|asset|vehicle|robot|station|press|pump|unit|turbine|engine|motor|wtg"
    r"|maschine|anlage|설비|장비|호기)([\s_]?(id|no|name|nr|number)|\s?(명|번호))?$",
    "kind": r"^(kind|type|model|device_?type|machine_?type|종류|기종)$",
    "counter": r"^(unnamed.*|udi|uid|id|index|idx|no\.?|nr\.?|num|number|rows?|row_?(id|no|number|num)|record|seq|sn|#"
    r"|번호|순번|일련번호|연번|n|i|sample(_?(no|id|number))?)$|[\s_](id|no|nr|index|idx|seq)$|(번호|코드)$",
    "environment": r"ambient|environment|^env_|^ex_|outdoor|outside|room|weather|humidity|illumin"
    r"|습도|조도|주위|주변|외기|실내|환경",
}
BRACKETED = re.compile(r"^(?P<name>.*?)[\s_]*[\[(](?P<unit>[^\])]{1,12})[\])]$")
UNIT_CELL = re.compile(r"[\[(]?[^\d\s\[\]()][^\s\[\]()]{0,11}[\])]?|-")

T = TypeVar("T")


@dataclass
class Sample:
    """A sample of the files from which the yaml is drafted.

    Attributes:
        root: folder of the files, or a file.
        tables: rows by recording (a file, or a part of it after `split`).
        encoding: encoding of the csv files.
        odd: sentences on what a person should check.
        taken: columns that already have a role or are left out.
        left_out: reasons by column that is left out.
        units: units by column, from a second line of the header.
        settings: yaml entries of channels left out because they are constant within each recording.
        words: by recording and column of few values: count of each word and sum of its row numbers.
        rows: number of rows by recording, kept or not.
        labels: path below the root of a file of intervals (session, begin, end, state) beside the recordings, or empty.
        intervals: number of intervals by state in this file.
    """

    root: Path
    tables: dict[str, Table] = field(default_factory=dict)
    encoding: str = "utf-8"
    odd: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    words: dict[str, dict[str, Words]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    labels: str = ""
    intervals: Counter[str] = field(default_factory=Counter)

    def take(self, names: Iterable[str | None]) -> None:
        """Mark columns as taken; None is skipped."""
        self.taken += [name for name in names if name]

    def leave_out(self, name: str, why: str) -> None:
        """Leave a column out of the draft; `why` is a clause that the summary and the yaml repeat."""
        self.left_out[name] = why
        self.take([name])

    @property
    def free(self) -> list[str]:
        """Return the columns that every table has and that are not taken yet."""
        first, *others = self.tables.values()
        everywhere = (str(name) for name in first.frame if name and all(name in table.frame for table in others))
        return [name for name in everywhere if name not in self.taken]

    @property
    def somewhere(self) -> list[str]:
        """Return the columns that at least one table has and that are not taken yet."""
        names = dict.fromkeys(str(name) for table in self.tables.values() for name in table.frame)
        return [name for name in names if name and name not in self.taken]

    def like(self, role: str) -> list[str]:
        """Return the free columns whose names suit a role."""
        return [name for name in self.free if suits(name, role)]

    def counts(self, name: str, most: int | None = None) -> Counter[str]:
        """Return the count of each distinct word of a column, in order of first appearance.

        Args:
            name: name of the column.
            most: counting stops after the first table that brings the distinct words above `most` + 1; None: never.
        """
        counts = Counter[str]()
        for key, table in self.tables.items():
            if name in self.words.get(key, {}):
                counts.update({word: count for word, (count, _) in self.words[key][name].items()})
            elif name in table.frame:
                text = table.frame[name]
                written = text[~columns.is_missing(text)] if most is None or text.nunique() <= most + 5 else text
                counts.update(words_of(written[: 10 * LOOKED_AT] if written is text else written).tolist())
            if most is not None and len(counts) > most + 1:
                break
        del counts[name]  # a header repeated among the rows
        return counts

    def is_number(self, name: str) -> bool:
        """Return whether most cells of a column that are not missing are numbers; true for an empty column."""
        good = written = 0
        for table in self.tables.values():
            if name in table.frame:
                values, bad = columns.numbers(table, [name])
                good += np.isfinite(values).sum()
                written += np.isfinite(values).sum() + bad.sum()
        return written == 0 or bool(good > written / 2)

    def numbers(self, name: str) -> list[np.ndarray]:
        """Return the values of a column in each table, (n,) float64; NaN where there is no number."""
        return [columns.numbers(table, [name])[0][:, 0] for table in self.tables.values()]

    def constant(self, name: str) -> bool:
        """Return whether a column has at most 1 distinct value in each recording."""
        return all(table.frame[name].dropna().nunique() <= 1 for table in self.tables.values())

    def place(self, key: str, name: str, word: str) -> float | None:
        """Return the mean position of a word in recording `key`, from 0 to 1; None if it was not counted there."""
        count, total = self.words.get(key, {}).get(name, {}).get(word, (0, 0.0))
        return total / count / max(self.rows[key], 1) if count else None

    def split(self, session: str) -> None:
        """Split the tables into recordings, named by the values of column `session`."""
        self.words, self.rows = {}, {}
        self.tables = {
            word: part_of(table, session, word)
            for table in self.tables.values()
            for word in dict.fromkeys(words_of(table.frame[session]))
        }


def suits(name: str, role: str) -> bool:
    """Return whether the name of a column, without a unit in brackets, suits a role of `WORDS`."""
    return bool(re.search(WORDS[role], BRACKETED.sub(r"\g<name>", name).strip(), re.IGNORECASE))


def some_of(items: list[T], most: int = LOOKED_AT) -> list[T]:
    """Return at most `most` of the items, evenly spread and including the first."""
    return items if len(items) <= most else [items[i * len(items) // most] for i in range(most)]


def read_sample(root: Path) -> Sample:
    """Read at most `LOOKED_AT` of the files below `root`; a file of intervals becomes `labels` instead.

    Raises:
        DataError: no file can be read.
    """
    paths, unreadable = find_files(root)
    labels = next((name for name, path in paths.items() if len(paths) > 1 and _holds_intervals(path)), None)
    label_file = paths.pop(labels) if labels else None
    chosen = some_of([*paths])
    budget = max(KEPT // max(len(chosen), 1), 1)
    sample = Sample(root, odd=[item.message for item in unreadable])
    if label_file is not None:
        sample.labels = label_file.relative_to(root).as_posix()
        table = columns.read(label_file).frame
        (column,) = (name for name in table if str(name).strip().lower() == "state")
        sample.intervals = Counter(words_of(table[column]))
    if len(chosen) < len(paths):
        sample.odd.append(f"only {len(chosen)} of {len(paths)} files were read for this draft; the rest may differ")
    for name in track(chosen, "reading", len(chosen)):
        try:
            _read(sample, name, paths[name], budget)
        except DataError as error:
            sample.odd.append(f"cannot be read: {error}")
    if not sample.tables:
        raise DataError("\n".join([f"{root}: no file can be read", *sample.odd]))
    kept = sum(len(table.row) for table in sample.tables.values())
    if kept < 0.99 * sum(sample.rows.values()):
        sample.odd.append(
            f"{kept:,} of {sum(sample.rows.values()):,} rows were looked at for this draft, in blocks spread evenly "
            "over the files; values of columns with few of them, as states have, were counted in all rows"
        )
    _keep_one_kind_of_table(sample)
    return sample


def _holds_intervals(path: Path) -> bool:
    """Return whether a table has the columns of a file of intervals: session, begin, end and state."""
    try:
        return {*INTERVALS} <= {name.strip().lower() for name in columns.header(path)}
    except DataError:
        return False  # reported when the file is read


def _read(sample: Sample, name: str, path: Path, budget: int) -> None:
    """Read a file into the sample; report defects of its header and take out a row of units below it.

    Args:
        budget: bytes of the file whose rows are kept.
    """
    try:
        names = columns.header(path, sample.encoding)
        table, words, count = read_some(path, sample.encoding, budget)
    except DataError as error:
        if sample.tables or "expected text in utf-8" not in str(error):
            raise
        sample.encoding = _other_encoding(path)
        sample.odd.append(
            f"{path.name} is not UTF-8: read as {sample.encoding}, a guess; see whether the names of columns are right"
        )
        names = columns.header(path, sample.encoding)
        table, words, count = read_some(path, sample.encoding, budget)
    _refuse_side_by_side(path, names, table)
    for i, twice in enumerate(names):
        numbered = f"{twice}#{i + 1}"
        if twice and names.index(twice) < i and numbered in table.frame:
            why = f"several columns are called '{twice}': rename them in the files to use them"
            sample.left_out |= {twice: why, numbered: why}
            sample.take([twice, numbered])
    if "" in names and names.index("") > 0:
        sample.odd.append(f"{path.name}: column {names.index('') + 1} has no name, so it is left out")
    sample.units |= getattr(table, "units", None) or _take_units(table)
    sample.tables[name], sample.rows[name] = table, count
    if count > len(table.row):
        sample.words[name] = words


def _kind_of(text: str) -> str:
    """Return whether a cell is a "number", a "date" or a "word"."""
    if re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?", text.strip()):
        return "number"
    return "date" if re.match(r"\d{1,4}[-./:]\d{1,2}[-./:]\d{1,4}", text.strip()) else "word"


def _kind_of_column(column: pd.Series) -> str:
    """Return the most frequent `_kind_of` among the first 50 cells that are not missing; "word" without any."""
    cells = column[~columns.is_missing(column)].astype(str).head(50)
    kinds = Counter(_kind_of(cell) for cell in cells)
    return max(kinds, key=kinds.__getitem__, default="word")


def _refuse_side_by_side(path: Path, names: list[str], table: Table) -> None:
    """Refuse a file that holds several tables side by side, each with its own time column.

    Raises:
        DataError: columns such as time_1 and time_2 hold different times.
    """
    clocks = [str(name) for name in table.frame if suits(re.sub(r"#\d+$", "", str(name)), "time")]
    clocks = [
        name for name in clocks if re.sub(r"[#_.\s]*\d+$", "", str(name)) != str(name) or names.count(str(name)) > 1
    ]
    base = {re.sub(r"[#_.\s]*\d+$", "", str(name)) for name in clocks}
    if len(clocks) < 2 or len(base) > 1:
        return
    first = words_of(table.frame[clocks[0]])
    if any((words_of(table.frame[other]) != first).any() for other in clocks[1:]):
        raise DataError(
            f"{path.name}: {len(clocks)} tables stand side by side, each with times of its own "
            f"({columns.quoted(clocks)}). Save each as a file of its own, or join them on one time first"
        )


def _take_units(table: Table) -> dict[str, str]:
    """Return the units in the first row below the header, by column, and remove that row; empty without units."""
    if len(table.frame) < 3 or not table.separator:
        return {}
    numeric = [str(n) for n in table.frame if _kind_of_column(table.frame[n].iloc[1:]) != "word"]
    cells = {name: str(table.frame[name].iloc[0]).strip() for name in numeric}
    units = {name: cell for name, cell in cells.items() if cell}
    if not units or any(not UNIT_CELL.fullmatch(cell) or _kind_of(cell) != "word" for cell in units.values()):
        return {}
    table.frame, table.row = table.frame.iloc[1:].reset_index(drop=True), table.row[1:]
    return {name: cell.strip("[]()") for name, cell in units.items()}


def _keep_one_kind_of_table(sample: Sample) -> None:
    """Remove the tables that have fewer than half of the columns of the most frequent header, and report them."""
    headers, rows = Counter[tuple[str, ...]](), Counter[tuple[str, ...]]()
    for table in sample.tables.values():
        head: tuple[str, ...] = tuple(map(str, table.frame))
        headers[head] += 1
        rows[head] += len(table.frame)
    usual = set(max(headers, key=lambda names: (headers[tuple(names)], rows[tuple(names)])))
    other = [name for name, table in sample.tables.items() if len(usual & set(map(str, table.frame))) < len(usual) / 2]
    if other and len(other) < len(sample.tables):
        some = ", ".join(other[:5]) + (", ..." if len(other) > 5 else "")
        sample.odd.append(
            f"{len(other)} of {len(sample.tables)} files have other columns than most and cannot be read with them: "
            f"{some}; move them elsewhere, or join them to the others"
        )
        sample.tables = {name: table for name, table in sample.tables.items() if name not in other}


def name_partial_columns(sample: Sample) -> None:
    """Report the columns that are not in all files; call it after `find_states`."""
    everywhere = set(sample.free)
    for name in sample.somewhere:
        if name not in everywhere:
            count = sum(name in table.frame for table in sample.tables.values())
            sample.odd.append(f"column '{name}' is in {count} of {len(sample.tables)} files only, so it is left out")


def _other_encoding(path: Path) -> str:
    """Return the likely encoding: cp949 if all runs of high bytes have even length, as Hangul has, else cp1252."""
    with path.open("rb") as stream:
        pieces = iter(lambda: stream.read(1 << 22), b"")
        runs = (run for piece in pieces for run in re.findall(rb"[\x80-\xff]+", piece))
        return "cp949" if all(len(run) % 2 == 0 for run in itertools.islice(runs, 100_000)) else "cp1252"
