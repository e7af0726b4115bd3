"""Pages: self-contained html, every string from data or config escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from os.path import abspath, commonpath, relpath
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from conveyorguard.metrics.bootstrap import Interval
from conveyorguard.metrics.notation import MISSING, Notation

PLOTLY = "assets/plotly.min.js"  # of a folder of pages that share one
NUMBER = re.compile(r"[+\-−]?\.?\d[\d,.]*|–?$")  # how the cell of a column of numbers begins


def page(title: str, subtitle: str, sections: Iterable[str], plotly: str | None = None, nav: str = "") -> str:
    """A whole page; sections are html.

    Args:
        plotly: relative path of plotly.min.js where a site keeps one for all its pages; without it the page carries its
            own.
        nav: html of links to other pages, below the title.
    """
    body = "\n".join(sections)
    library = (
        f'<script src="{escape(plotly, quote=True)}"></script>' if plotly else f"<script>{get_plotlyjs()}</script>"
    )
    script = library if "Plotly.newPlot" in body else ""
    sorting = f"<script>\n{_text_of('site.js')}</script>" if 'class="sortable' in body else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>\n{_text_of('site.css')}{_state_names_font()}</style>{script}</head>\n"
        f"<body><header><div><h1>{escape(title)}</h1><p>{escape(subtitle)}</p>{nav}</div></header>\n"
        f"<main>{body}</main>{sorting}</body></html>\n"
    )


def section(title: str, *parts: str, note: str = "") -> str:
    """A block with a heading; `note` is plain text."""
    told = f'<p class="note">{shown(note)}</p>' if note else ""
    return f"<section><h2>{shown(title)}</h2>{told}{''.join(parts)}</section>"


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """Large figures with what they are."""
    return (
        '<div class="tiles">'
        + "".join(f'<div class="tile"><b>{shown(value)}</b><span>{shown(what)}</span></div>' for what, value in values)
        + "</div>"
    )


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of plain text."""
    return _table(header, [[shown(cell) for cell in row] for row in rows])


def sortable(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table of plain text that sorts by a column when its head is clicked, and scrolls where it is too wide."""
    return _sortable(_table(header, [[shown(cell) for cell in row] for row in rows]))


def linked(
    header: Sequence[str],
    rows: Iterable[Sequence[Any]],
    targets: Iterable[str | None],
    origins: Iterable[str | None] | None = None,
) -> str:
    """A `sortable` table whose first cells lead somewhere.

    Args:
        targets: a relative path a row, or None. origins: what a row's numbers come from, told where the mouse rests.
    """
    drawn = []
    for (first, *rest), target in zip(rows, targets, strict=True):
        drawn.append([_link(shown(first), target), *map(shown, rest)])
    return _sortable(_table(header, drawn, list(origins) if origins else None))


def framed(
    frame: pd.DataFrame,
    formats: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    origins: Mapping[str, str] | None = None,
    look: str = "",
) -> str:
    """A `sortable` table of a frame; a cell may be an `Interval`, whose bounds stand in brackets behind its value.

    Args:
        formats: column -> format of its numbers, e.g. `{"share": ".1%"}`; a missing number is a dash.
        links, origins: text of a first cell -> where it leads, relative to the page, and where the row's numbers come
            from.
        look: 'prose' for cells that are sentences, 'dense' for many columns.
    """
    columns = [str(name) for name in frame]
    specs = [(formats or {}).get(name) for name in columns]
    rows, keys = [], []
    for values in frame.to_dict("split")["data"]:
        first, *rest = (_html_cell(value, spec) for value, spec in zip(values, specs, strict=True))
        keys.append(cell(values[0], specs[0]))
        rows.append([_link(first, (links or {}).get(keys[-1])), *rest])
    drawn = _sortable(_table(columns, rows, [(origins or {}).get(key) for key in keys]))
    return drawn.replace('"wide"', f'"wide {look}"', 1) if look else drawn


def cell(value: Any, spec: str | None = None) -> str:
    """A value as a table shows it."""
    if value is None or (isinstance(value, float) and value != value):
        return MISSING
    if isinstance(value, str) or spec is None:
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return format(value, spec)


def _html_cell(value: Any, spec: str | None) -> str:
    if not isinstance(value, Interval):
        return shown(cell(value, spec))
    bounds = Notation(spec or "").bounds(value)
    return shown(cell(value.value, spec)) + (f" <i>[{escape(bounds)}]</i>" if bounds else "")


def _link(text: str, target: str | None) -> str:
    """Html that leads to a relative path, if there is one."""
    return f'<a href="{escape(quote(target), quote=True)}">{text}</a>' if target else text


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with numbers alone: a column `x` of intervals becomes `x`, `x low` and `x high`."""
    columns: dict[str, Any] = {}
    for name, column in frame.items():
        intervals = [value for value in column if isinstance(value, Interval)]
        if not intervals:
            columns[str(name)] = column
            continue
        known = [value if isinstance(value, Interval) else Interval(np.nan, np.nan, np.nan) for value in column]
        columns[str(name)] = [interval.value for interval in known]
        columns[f"{name} low"] = [interval.low for interval in known]
        columns[f"{name} high"] = [interval.high for interval in known]
    return pd.DataFrame(columns, index=frame.index)


def intervals_of(table: pd.DataFrame, name: str, low: str = "", high: str = "") -> pd.Series:
    """A column with its bounds, by default in `name_low` and `name_high`, as intervals."""
    return pd.Series([Interval.of(row, name, low, high) for row in table.to_dict("records")], table.index, object)


def gathered(table: pd.DataFrame, names: Iterable[str], low: str = "_low", high: str = "_high") -> pd.DataFrame:
    """The table with each named column and its two bounds, called after it with these ends, as one of intervals."""
    for name in names:
        bounds = [f"{name}{low}", f"{name}{high}"]
        table = table.assign(**{name: intervals_of(table, name, *bounds)}).drop(columns=bounds)
    return table


def _sortable(drawn: str) -> str:
    return '<div class="wide">' + drawn.replace("<table", '<table class="sortable"', 1) + "</div>"


def _table(header: Sequence[str], rows: list[list[str]], origins: list[str | None] | None = None) -> str:
    """A table of html cells; columns of text, which `data-text` counts from 1, are aligned to the left."""
    text = [i for i in range(len(header)) if any(not NUMBER.match(re.sub("<[^>]*>", "", row[i])) for row in rows)]
    mark = f' data-text="{" ".join(str(i + 1) for i in text)}"' if text else ""
    head = "".join(f"<th>{shown(name)}</th>" for name in header)
    body = []
    for row, origin in zip(rows, origins or [None] * len(rows), strict=True):
        told = f' title="{shown(origin)}"' if origin else ""
        body.append(f"<tr{told}>" + "".join(f"<td>{text}</td>" for text in row) + "</tr>")
    return f"<table{mark}><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


@cache
def _text_of(name: str) -> str:
    """A file that every page carries: site.css, its look, or site.js, which sorts a table by the column whose head is
    clicked."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


@cache
def _state_names_font() -> str:
    """Syllables of state names, for machines without a Korean font: a subset of Noto Sans KR (SIL Open Font License
    1.1)."""
    font = base64.b64encode(Path(__file__).with_name("hangul.woff2").read_bytes()).decode()
    return (
        f"@font-face {{ font-family: StateNames; src: url(data:font/woff2;base64,{font}); unicode-range: U+AC00-D7A3 }}"
    )


def plotly_around(folder: Path) -> str | None:
    """Relative path of the plotly that a study keeps for all its pages, if the folder lies in one (STUDY/runs/NAME)."""
    home = folder.resolve()
    found = next((place / PLOTLY for place in list(home.parents)[:3] if (place / PLOTLY).is_file()), None)
    return path_between(home, found) if found else None


def path_between(page: Path, target: Path) -> str | None:
    """What a page in the folder `page` calls a file; None where there is no such file, or only the disk's root holds
    both:
    such a link would tell the file's whole place."""
    here, there = Path(abspath(page)), Path(abspath(target))
    if not target.exists() or here.anchor != there.anchor or commonpath([here, there]) == here.anchor:
        return None
    return relpath(there, here).replace("\\", "/")


def figure(plot: go.Figure, alt: str) -> str:
    """A plotly figure with its text alternative."""
    drawn = plot.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    return f'<div role="img" aria-label="{escape(alt, quote=True)}">{drawn}</div>'


def pair(*parts: str) -> str:
    """Parts side by side where there is room."""
    return '<div class="pair">' + "".join(f"<div>{part}</div>" for part in parts) + "</div>"


def film(images: Iterable[tuple[bytes, str]]) -> str:
    """PNG images in a row, each with its caption."""
    return (
        '<div class="film">'
        + "".join(
            f'<figure><img alt="{escape(caption, quote=True)}" '
            f'src="data:image/png;base64,{base64.b64encode(png).decode()}">'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
            for png, caption in images
        )
        + "</div>"
    )


# a path from the root of a disk or a home, quoted with spaces or bare without; not the // of an address on the web
PATH = re.compile(
    r"""(?P<quote>['"])(?:[\w.+-]+=)?(?P<quoted>(?:\w+:///?)?(?:~?/|[A-Za-z]:[\\/]|\\\\[\w.$-]+\\)[^'"]*)(?P=quote)
      | (?<![\w/.~])(?<!:(?=//))(?P<bare>(?:sqlite:///|file://)?(?:~?/|[A-Za-z]:[\\/]|\\\\[\w.$-]+\\)[^\s'",;)\]}]+)""",
    re.VERBOSE,
)


def shown(text: object) -> str:
    """Text as it may stand on a page: no markup of its own, no folders."""
    return escape(base_names(str(text)))


def base_names(text: str) -> str:
    """Absolute paths in a text reduced to their last part: a page shows no folders of the machine it was made on."""

    def last(match: re.Match[str]) -> str:
        path = match["quoted"] or match["bare"]
        return match[0].replace(path, path.replace("\\", "/").rstrip("/").rpartition("/")[2])

    return PATH.sub(last, text)


def base_names_within(value: Any) -> Any:
    """The same of every text in a tree of plain values; one that is a path as a whole may hold spaces."""
    if isinstance(value, dict):
        return {key: base_names_within(below) for key, below in value.items()}
    if isinstance(value, list):
        return [base_names_within(below) for below in value]
    if isinstance(value, str) and re.match(r"~?/|[A-Za-z]:[\\/]", value):
        return value.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return base_names(value) if isinstance(value, str) else value
