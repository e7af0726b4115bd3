"""Translate words in dates to English: months, weekdays, AM and PM in Korean, German and French."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NAMES = (  # lower case, without accents
    "jan january januar janner janv janvier",
    "feb february februar fev fevr fevrier",
    "mar march marz maerz mrz mars",
    "apr april avr avril",
    "may mai",
    "jun june juni juin",
    "jul july juli juil juillet",
    "aug august aou aout",
    "sep sept september septembre",
    "oct october okt oktober octobre",
    "nov november novembre",
    "dec december dez dezember decembre",
)
_WEEKDAYS = (
    "mon tue tues wed thu thur thurs fri sat sun monday tuesday wednesday thursday friday saturday sunday "
    "mo di mi do fr sa so montag dienstag mittwoch donnerstag freitag samstag sonnabend sonntag "
    "lun jeu ven sam dim lundi mardi mercredi jeudi vendredi samedi dimanche "
    "월요일 화요일 수요일 목요일 금요일 토요일 일요일"
)
ZONES = {  # offset from UTC [s]; ambiguous names (CST, IST, BST) are left out
    "Z": 0,
    "UTC": 0,
    "GMT": 0,
    "KST": 32400,
    "JST": 32400,
    "CET": 3600,
    "MEZ": 3600,
    "CEST": 7200,
    "MESZ": 7200,
    "EST": -18000,
    "EDT": -14400,
    "PST": -28800,
    "PDT": -25200,
}
_REPLACED = {
    **{name: MONTHS[i] for i, names in enumerate(_MONTH_NAMES) for name in names.split()},
    **dict.fromkeys(_WEEKDAYS.split(), ""),
    "오전": "AM",
    "오후": "PM",
    "년": "-",
    "월": "-",
    "일": " ",
    "시": ":",
    "분": ":",
    "초": " ",
    "uhr": "",
}
_ACCENTS = str.maketrans("äéûôöü", "aeuoou")
_WORDS = r"(?i)[a-z]{3}|[^\x00-\x7F]|\b(?:mo|di|mi|do|fr|sa|so)\b"  # a cell with words other than T, Z, AM and PM
BLOCK = 100_000  # rows translated at a time
_WORD = re.compile(r"[^\W\d_]+\.?")
_KOREAN_WEEKDAY = re.compile(r"\(\s*[월화수목금토일]\s*\)")


def english(text: pa.StringArray) -> pa.StringArray:
    """Return times with English month names, single blanks and no weekdays; unknown words stay unchanged.

    Args:
        text: (n,) cells of a column of times.

    Returns:
        (n,) cells that `match_patterns` can read.
    """
    text = pc.utf8_trim_whitespace(text)
    if pc.any(pc.match_substring_regex(text, _WORDS)).as_py():
        blocks = [text.slice(start, BLOCK).to_pylist() for start in range(0, len(text), BLOCK)]
        text = pa.concat_arrays([pa.array(_translate(block), pa.string()) for block in blocks])
    if pc.any(pc.match_substring_regex(text, r"\s\s|[^\S ]|\. ")).as_py():
        text = pc.replace_substring_regex(text, r"\s+", " ")
        text = pc.replace_substring_regex(text, r"(\d)\. (\d{1,2}\.)", r"\1.\2")  # 2024. 3. 5.
        text = pc.replace_substring_regex(text, r"(\d)\. (\d{1,2}\.)", r"\1.\2")
    return text


def _translate(lines: list[str]) -> list[str]:
    joined = "\n".join(line.replace("\n", " ") for line in lines)
    korean = re.search("[년월시]", joined)
    joined = _WORD.sub(_in_english, _KOREAN_WEEKDAY.sub(" ", joined))
    joined = re.sub(r"(?m)^[ ,]+", "", joined)
    if korean:  # 2024년 3월 5일 22시 0분 has become 2024- 3- 5  22: 0:
        joined = re.sub(r"(?m)([-:])[^\S\n]+(?=\d)", r"\1", joined)
        joined = re.sub(r"(?m):[^\S\n]*$", "", joined)
        joined = re.sub(r":(\d)(?=[:\n]|\Z)", r":0\1", joined)
    joined = re.sub(r"[^\S\n]+", " ", joined)
    return [line.strip() for line in joined.split("\n")]


def _in_english(match: re.Match[str]) -> str:
    """Return the replacement of one word; the word itself if it is unknown."""
    word = match[0].rstrip(".")
    replacement = _REPLACED.get(word.lower().translate(_ACCENTS))
    if replacement is None:
        return match[0]
    return replacement or " "
