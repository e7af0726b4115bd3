"""The files that are looked at for a draft, and what their columns hold."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from conveyorguard.data.table import columns
from conveyorguard.data.table.columns import Table, part_of, words_of
from conveyorguard.data.table.discover import find_files
from conveyorguard.errors import DataError
from conveyorguard.system.progress import track

LOOKED_AT = 40  # files, or recordings, read; of more, evenly spread ones
WORDS = {  # what columns are called, most telling first
    "time": r"^(date_?time|time_?stamp|time|zeit|시간|일시)|^(t|ts|sec|seconds?|elapsed.*)$|_(ts|time)$",
    "date": r"^(date|datum|날짜)$",
    "state": r"^(state|label|condition|status|target|class|health|fault|zustand|상태)",
    "session": r"^(session|recording|run|cycle|trial|sequence|episode|file|세션|실험|시험|회차)"
    r"(_?(id|no|name|nr)|\s?번호)?$",
    "device": r"^(device|machine|equipment|asset|vehicle|robot|station|press|pump|unit|maschine|설비|장비)"
    r"(_?(id|no|name|nr))?$",
    "kind": r"^(kind|type|model|device_?type|machine_?type|종류)$",
    "environment": r"ambient|environment|^env_|^ex_|outdoor|outside|room|weather|humidity|illumin"
    r"|습도|조도|주위|주변|외기|실내|환경",
}
BRACKETED = re.compile(r"^(?P<name>.*?)[\s_]*[\[(](?P<unit>[^\])]{1,12})[\])]$")

T = TypeVar("T")


@dataclass
class Sample:
    """The files that are looked at while the draft is made.

    Attributes:
        tables: each file's, or each recording's where a file has several.
        odd: what a person should see.
        taken: columns that have their place in the draft.
    """

    root: Path
    tables: dict[str, Table] = field(default_factory=dict)
    encoding: str = "utf-8"
    odd: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)

    def take(self, names: Iterable[str | None]) -> None:
        self.taken += [name for name in names if name]

    @property
    def free(self) -> list[str]:
        """Columns of all tables that are not taken yet."""
        first, *others = self.tables.values()
        everywhere = (str(name) for name in first.frame if name and all(name in table.frame for table in others))
        return [name for name in everywhere if name not in self.taken]

    def like(self, role: str) -> list[str]:
        """Free columns whose names suit a role."""
        return [
            name
            for name in self.free
            if re.search(WORDS[role], BRACKETED.sub(r"\g<name>", name).strip(), re.IGNORECASE)
        ]

    def values(self, name: str) -> list[str]:
        """Distinct words of a column in the order of their first appearance."""
        words: dict[str, None] = {}
        for table in self.tables.values():
            text = table.frame[name]
            words |= dict.fromkeys(words_of(text[~columns.is_missing(text)]))
        return list(words)

    def is_number(self, name: str) -> bool:
        """Whether most of what is written in a column is a number."""
        good = written = 0
        for table in self.tables.values():
            values, bad = columns.numbers(table, [name])
            good += np.isfinite(values).sum()
            written += np.isfinite(values).sum() + bad.sum()
        return written == 0 or bool(good > written / 2)

    def constant(self, name: str) -> bool:
        """Whether a column says one thing in each recording."""
        return all(table.frame[name].dropna().nunique() <= 1 for table in self.tables.values())

    def split(self, session: str) -> None:
        """Make a table of each recording that a column names."""
        self.tables = {
            word: part_of(table, session, word)
            for table in self.tables.values()
            for word in dict.fromkeys(words_of(table.frame[session]))
        }


def some_of(items: list[T]) -> list[T]:
    """At most `LOOKED_AT` of the items, evenly spread."""
    return items[:: max(len(items) // LOOKED_AT, 1)][:LOOKED_AT]


def read_sample(root: Path) -> Sample:
    """Read some of the files.

    Raises:
        DataError: none of them can be read.
    """
    paths, unreadable = find_files(root)
    chosen = some_of([*paths])
    sample = Sample(root, odd=[item.message for item in unreadable])
    if len(chosen) < len(paths):
        sample.odd.append(f"{len(chosen)} of {len(paths)} files were looked at")
    for name in track(chosen, "reading", len(chosen)):
        try:
            sample.tables[name] = columns.read(paths[name], sample.encoding)
        except DataError as error:
            if sample.tables or "expected text in utf-8" not in str(error):
                sample.odd.append(f"cannot be read: {error}")
                continue
            sample.encoding = _other_encoding(paths[name].read_bytes())
            sample.odd.append(f"not UTF-8: read as {sample.encoding}; look whether the names of the columns are right")
            sample.tables[name] = columns.read(paths[name], sample.encoding)
    if not sample.tables:
        raise DataError("\n".join([f"{root}: no file can be read", *sample.odd]))
    everywhere = Counter(str(name) for table in sample.tables.values() for name in table.frame)
    sample.odd += [
        f"column '{name}' is in {count} of {len(sample.tables)} files only, so it is left out"
        for name, count in everywhere.items()
        if count < len(sample.tables)
    ]
    return sample


def _other_encoding(raw: bytes) -> str:
    """Hangul comes in pairs of high bytes; a degree sign or an umlaut alone."""
    return "cp949" if all(len(run) % 2 == 0 for run in re.findall(rb"[\x80-\xff]+", raw)) else "cp1252"
