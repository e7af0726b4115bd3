"""Find the states of a draft in a column, a file of intervals or the names of files, and order them."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from conveyorguard.data.draft.sample import Sample
from conveyorguard.data.table.columns import is_missing, words_of

STATES = 12  # distinct values up to which a column may hold the states
SHOWN = 8  # candidates that a sentence lists
NAMES = (  # patterns of the names of state columns, most specific first; matched anywhere in the name
    r"health|상태|건전성",
    r"condition|\bcond\b|zustand",
    r"state|label|라벨|레이블",
    r"fail(ure|ed|s)?\b|(?<!de)fault|anomal|outlier|defect|broken|breakdown|damage|고장|이상|결함|불량|fehler|störung",
    r"status",
    r"severity|degradation|wear\b|마모|열화|등급|grade",
    r"target|\bclass(es)?\b|class$|판정|진단|정상|attack|\bnormal\b",
    r"^(y|gt|ground truth|result|quality|ok|good|stable( flag)?|alarm)$",
)
HEALTHY = (
    r"(normal|health|ok\b|okay|good|fine\b|sound|nominal|intact|baseline|undamaged|new\b|run(ning)?\b|fresh|unworn|pass"
    r"|no[ _-]?(fault|fail|anomal|defect|wear|damage)|정상|양호|건전|gut\b|in ?ordnung|i\.?o\.?$)"
)
UNWELL = (  # severity and pattern; the highest severity that matches counts
    (1, r"warn|minor|slight|early|light|mild|incipient|attention|watch|주의|경미|초기|관심"),
    (2, r"moderate|medium|worn|wear|degrad|recover|alert|leak|경고|마모|중간|열화|중등"),
    (3, r"severe|major|critical|heavy|high|danger|serious|심각|위험|중대"),
    (
        4,
        r"fail|broken|fault|break|dead|damage|defect|burst|down\b|bad\b|unhealthy|abnormal|anomal|attack|고장|파손|불량|이상|비정상|nok\b|n\.?i\.?o",
    ),
)
NUMBER = re.compile(r"-?\d+(\.\d+)?")
UNKNOWN = 2.5  # severity of a word that matches no pattern
LETTERS = {"h": "healthy", "n": "normal", "b": "broken", "f": "faulty", "d": "damaged", "g": "good"}
WELL = ("health", "ok", "good", "normal", "정상", "양호", "stable")  # in a column's name, 1 is the healthy state


@dataclass
class States:
    """The states of a draft.

    Attributes:
        column: the column that holds them; None without one.
        pattern: `reader.state_pattern` if the names of files hold them; else empty.
        states: entries of `data.schema.states`, from normal to worst.
        candidates: other columns that may hold the states, with their values and counts.
        described: values and counts of the column or the file of intervals.
    """

    column: str | None = None
    pattern: str | None = None
    states: list[dict[str, str]] = field(default_factory=lambda: [{"name": "normal"}, {"name": "worn"}])
    candidates: dict[str, str] = field(default_factory=dict)
    described: str = ""


def find_states(sample: Sample) -> States:
    """Return the states from a file of intervals, else from a column, else from the names of files.

    Other columns that may hold the states are reported, and left out of the channels if they are named like states.
    """
    counts = {name: sample.counts(name, STATES) for name in sample.somewhere}
    candidates = {name: count for name, count in counts.items() if 2 <= len(count) <= STATES}
    ranks = {name: _rank(name, count) for name, count in candidates.items()}
    named = [name for name in ranks if _is_named(ranks[name])]
    best = None if sample.labels else min(named, key=lambda name: ranks[name], default=None)
    states = States(best)
    for name in [name for name in candidates if name != best]:
        states.candidates[name] = describe(candidates[name])
        if name in named or name not in sample.free:
            sample.leave_out(name, f"it may hold states too: {states.candidates[name]}")
    if sample.labels:
        _take_intervals(sample, states)
    elif best is not None:
        _take_column(sample, states, candidates[best])
    else:
        _take_file_names(sample, states)
    _name_candidates(sample, states)
    return states


def _name_candidates(sample: Sample, states: States) -> None:
    """Report the columns that may hold the states but were not chosen."""
    if not states.candidates:
        return
    shown = [f"'{name}': {text}" for name, text in [*states.candidates.items()][:SHOWN]]
    more = f"; and {len(states.candidates) - SHOWN} more" if len(states.candidates) > SHOWN else ""
    kind = "other columns" if states.column else "columns"
    sample.odd.append(f"{kind} of 2 to {STATES} values that may hold states: {'; '.join(shown)}{more}")


def describe(counts: Counter[str]) -> str:
    """Return the values with their counts, e.g. "0 (290), 1 (10)"."""
    return ", ".join(f"{word} ({count:,})" for word, count in counts.items())


def severity(word: str) -> float:
    """Return the severity of a word for a state, from 0 (healthy) to 4 (failed); `UNKNOWN` if no pattern matches."""
    text = _plain(word)
    if re.match(HEALTHY, text) and not re.match(r"health.*(un|not)", text):
        return 0
    return max((rank for rank, pattern in UNWELL if re.search(pattern, text)), default=UNKNOWN)


def _plain(name: str) -> str:
    """Return a name in lower case, as words separated by single blanks."""
    return re.sub(r"[\W_]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)).strip().lower()


def _rank(name: str, counts: Counter[str]) -> tuple[int, int]:
    """Return a sort key, lowest for the likeliest column of states: by its values, then by its name."""
    text = _plain(name)
    named = next((i for i, pattern in enumerate(NAMES) if re.search(pattern, text)), len(NAMES))
    words = [severity(word) for word in counts]
    says_so = 0 in words and any(word not in (0, UNKNOWN) for word in words)
    return (0 if says_so else 1), named


def _is_named(rank: tuple[int, int]) -> bool:
    """Return whether the values or the name of a column say that it holds states."""
    return rank[0] == 0 or rank[1] < len(NAMES)


def _take_column(sample: Sample, states: States, counts: Counter[str]) -> None:
    """Set the states from the values of `states.column`, and report them with their order."""
    column = states.column or ""
    sample.take([column])
    labelled = sum(
        bool(sample.words.get(key, {}).get(column)) or _is_labelled(table.frame, column)
        for key, table in sample.tables.items()
    )
    if labelled < len(sample.tables):
        sample.odd.append(
            f"column '{column}' is in {labelled} of {len(sample.tables)} recordings; those without are not trained on"
        )
    words, why = _ordered(sample, column, [*counts])
    states.described = describe(counts)
    states.states = _entries(words)
    sample.odd.append(
        f"states are read from column '{column}': {states.described}. Their order, {why}: "
        f"{', '.join(state['name'] for state in states.states)}; check that it is from normal to worst"
    )


def _is_labelled(frame, column: str) -> bool:
    """Return whether a table has a column with at least 1 value."""
    return column in frame and not bool(is_missing(frame[column]).all())


def _entries(words: list[str]) -> list[dict[str, str]]:
    """Return the entries of `data.schema.states`; with numbers, each word is the label of a name such as state0."""
    if any(NUMBER.fullmatch(word) for word in words):
        return [{"name": f"state{word}", "label": word} for word in words]
    return [{"name": word} for word in words]


def _ordered(sample: Sample, column: str, words: list[str]) -> tuple[list[str], str]:
    """Return the words from normal to worst, and a clause on what decided their order."""
    places = _places(sample, column, words)
    if all(NUMBER.fullmatch(word) for word in words):
        return _ordered_numbers(column, words, {word: float(np.mean(places[word])) for word in words})
    if {word.lower() for word in words} in ({"true", "false"}, {"yes", "no"}):
        return sorted(words, key=str.lower, reverse=_says_healthy(column)), (
            "false first, unless the column is named like the healthy state"
        )
    order = sorted(words, key=lambda word: (severity(word), np.mean(places[word])))
    if all(severity(word) == UNKNOWN for word in words):
        return order, "the order of their appearance, as none of the words is known"
    return order, "healthy words first, then by how bad they sound"


def _ordered_numbers(column: str, words: list[str], places: dict[str, float]) -> tuple[list[str], str]:
    """Return numbers of states from normal to worst, and a clause on what decided their order.

    Args:
        column: name of the column.
        words: the numbers.
        places: mean position of each in the recordings, from 0 to 1.
    """
    rising = sorted(words, key=float)
    numbers = {float(word) for word in words}
    if _says_healthy(column) and numbers == {0, 1}:
        return rising[::-1], "1 first, as the column's name says that 1 is the healthy state"
    means = [places[word] for word in rising]
    falls = means == sorted(means, reverse=True) and np.ptp(means) > 0.2
    if falls and (_says_healthy(column) or (0 not in numbers and rising[0] != "1")):
        return rising[::-1], "falling, as they appear in the recordings"
    if falls:
        return rising, (
            "the order of their numbers, though the highest come first in the recordings: if the highest is healthy, "
            "reverse the list"
        )
    return rising, "the order of their numbers"


def _says_healthy(column: str) -> bool:
    """Return whether a column is named like the healthy state, so that 1 or true means healthy."""
    return any(re.search(rf"(?<!un)(?<!ab){word}", _plain(column)) for word in WELL)


def _places(sample: Sample, column: str, words: list[str]) -> dict[str, list[float]]:
    """Return the mean position of each word in each recording that has it, from 0 to 1."""
    places: dict[str, list[float]] = {word: [] for word in words}
    for key, table in sample.tables.items():
        if column in sample.words.get(key, {}):
            for word in words:
                if (place := sample.place(key, column, word)) is not None:
                    places[word].append(place)
        elif column in table.frame:
            text = words_of(table.frame[column])
            for word in set(text) & set(places):
                places[word].append(float(np.flatnonzero(text == word).mean() / len(text)))
    return places


def _take_intervals(sample: Sample, states: States) -> None:
    """Set the states from the file of intervals beside the recordings, and report them."""
    words = sorted(sample.intervals, key=lambda word: (severity(word), word))
    if all(NUMBER.fullmatch(word) for word in words):
        words.sort(key=float)
    states.described, states.states = describe(sample.intervals), _entries(words)
    sample.odd.append(
        f"states are read from the intervals of {sample.labels} (reader.labels): {states.described}; check that "
        f"{', '.join(state['name'] for state in states.states)} is from normal to worst. Rows outside "
        "the intervals are left out"
    )


def _take_file_names(sample: Sample, states: States) -> None:
    """Set the states and their pattern from the names of files if these hold state words; else report the remedy."""
    no_column = "no column is named like a state"
    for pattern in (r"^([^/]+)/", r"/([^/]+)/[^/]*$", r"^([A-Za-z가-힣]+)[^/]*$", r"([A-Za-z가-힣]+)[^A-Za-z가-힣/]*$"):
        matches = [re.search(pattern, name) for name in sample.tables]
        counts = Counter(match[1] for match in matches if match)
        if sum(counts.values()) < len(matches) or not 2 <= len(counts) <= STATES:
            continue
        words = sorted(counts, key=lambda word: (_severity_of_name(word), word))
        several = len(counts) < len(matches) or (len(words[0]) > 1 and len(matches) > 2)
        if _severity_of_name(words[0]) == 0 and several:
            states.pattern = pattern.replace("([", "(?P<state>[", 1)
            states.states = [
                {"name": LETTERS[word.lower()], "label": word} if word.lower() in LETTERS else {"name": word}
                for word in words
            ]
            sample.odd.append(
                f"{no_column}, but the names of the files hold words like them, {describe(counts)}: they are taken by "
                f"reader.state_pattern; check the order {', '.join(s['name'] for s in states.states)}"
            )
            return
    sample.odd.append(
        f"{no_column}: name it as columns.state and its values as states, from normal to worst, before training. If "
        "the states stand in the names of files or folders, set reader.state_pattern, e.g. "
        "'^(?P<state>normal|worn)'; if in a file of intervals, reader.labels; if "
        "they follow from a number such as a remaining life, reader.states_from"
    )


def _severity_of_name(word: str) -> float:
    """Return the severity of a word or of a letter that stands for one, such as h for healthy."""
    return severity(LETTERS.get(word.lower(), word))
