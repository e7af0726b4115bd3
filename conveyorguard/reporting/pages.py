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

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

PLOTLY = "assets/plotly.min.js"  # of a folder of pages that share one
NUMBER = re.compile(r"[+\-−]?\.?\d[\d,.]*|–?$")  # how the cell of a column of numbers begins
FONTS = 'StateNames, system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK KR", "Malgun Gothic", sans-serif'
STYLE = """
:root { --ink: #1f2933; --soft: #52606d; --line: #e4e7eb; --blue: #2f6fab; --warn: #b3261e }
* { box-sizing: border-box }
body { font: 15px/1.5 FONTS; color: var(--ink); margin: 0; background: #f5f7fa }
main { max-width: 1320px; margin: 0 auto; padding: 24px }
header { background: #1f2933; color: white; padding: 20px 0 }
header div { max-width: 1320px; margin: 0 auto; padding: 0 24px }
header h1 { margin: 0; font-size: 24px } header p { margin: 4px 0 0; color: #cbd2d9 }
nav { margin: 12px 0 0; font-size: 13.5px; display: flex; flex-wrap: wrap; gap: 4px 16px }
nav a { color: #9fc5e8; text-decoration: none }
nav a:hover { text-decoration: underline } nav a[aria-current] { color: white; font-weight: 600 }
.banner { background: #fff6e0; border: 1px solid #e5c46b; border-radius: 8px; padding: 10px 16px; margin: 0 0 18px }
.csv { margin: 0 0 12px; font-size: 12.5px } a { color: var(--blue) }
.sortable td:first-child { white-space: nowrap } .prose td:first-child { white-space: normal }
.prose th, .prose td { text-align: left; vertical-align: top }
section { background: white; border: 1px solid var(--line); border-radius: 8px; padding: 18px 22px; margin: 0 0 18px }
h2 { font-size: 18px; margin: 0 0 10px } h3 { font-size: 15px; margin: 16px 0 6px }
p.note { color: var(--soft); margin: 4px 0 12px; max-width: 1000px }
table { border-collapse: collapse; margin: 6px 0; font-variant-numeric: tabular-nums }
th, td { padding: 5px 12px; border-bottom: 1px solid var(--line); text-align: right }
th { color: var(--soft); font-weight: 600; word-break: keep-all }
th:first-child, td:first-child { text-align: left }
TEXT_COLUMNS
.dense { font-size: 12px } .dense th, .dense td { padding: 4px 3px }
.dense td i { font-style: normal; color: var(--soft); display: block; white-space: nowrap }
td i { font-style: normal; color: var(--soft); white-space: nowrap }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px }
.tile { border: 1px solid var(--line); border-radius: 8px; padding: 10px 14px }
.tile b { font-size: 24px; display: block; font-variant-numeric: tabular-nums }
.tile span { color: var(--soft); font-size: 13px }
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 16px; align-items: start }
@media (max-width: 860px) { .pair { grid-template-columns: minmax(0, 1fr) } }
.pair > div { min-width: 0; overflow-x: auto } .pair table { font-size: 13px } .pair th, .pair td { padding: 5px 7px }
.film { display: grid; gap: 8px; grid-template-columns: repeat(auto-fill, minmax(128px, 1fr)) }
.film figure { margin: 0; text-align: center; font-size: 12px; color: var(--soft) }
.film img { image-rendering: pixelated; border-radius: 4px; display: block; width: 100% }
.wrong { color: var(--warn); font-weight: 600 }
details summary { cursor: pointer; color: var(--blue) }
pre { overflow: auto; background: #f5f7fa; padding: 12px; border-radius: 6px; font-size: 12.5px }
.wide { overflow-x: auto } .sortable th { cursor: pointer } .sortable th[aria-sort=ascending]::after { content: " ▲" }
.sortable th[aria-sort=descending]::after { content: " ▼" }
@media print { section { break-inside: avoid } }
""".replace("FONTS", FONTS).replace(
    "TEXT_COLUMNS",
    ", ".join(f'[data-text~="{i}"] :is(td, th):nth-child({i})' for i in range(1, 25)) + " { text-align: left }",
)

# a click on a head sorts by the number a cell begins with, else by its text
SORTING = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "descending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "ascending" : "descending");
      const key = row => { const text = row.cells[column].textContent, number = parseFloat(text.replace(/,/g, ""));
                           return isNaN(number) ? text : number; };
      const order = (a, b) => typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? 1 : -1;
      [...table.tBodies[0].rows].sort((a, b) => (down ? 1 : -1) * order(key(a), key(b)))
        .forEach(row => table.tBodies[0].append(row));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
  });
}
"""


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
    sorting = f"<script>{SORTING}</script>" if 'class="sortable' in body else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{STYLE}{_state_names_font()}</style>{script}</head>\n<body><header><div><h1>{escape(title)}</h1><p>{escape(subtitle)}</p>{nav}</div></header>\n"
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
        text = shown(first)
        link = f'<a href="{escape(quote(target), quote=True)}">{text}</a>' if target else text
        drawn.append([link, *map(shown, rest)])
    return _sortable(_table(header, drawn, list(origins) if origins else None))


def framed(
    frame: pd.DataFrame,
    formats: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    origins: Mapping[str, str] | None = None,
    look: str = "",
) -> str:
    """A `sortable` table of a frame. Columns `x low` and `x high` stand in brackets in the cells of `x`.

    Args:
        formats: column -> format of its numbers, e.g. `{"share": ".1%"}`; a missing number is a dash.
        links, origins: text of a first cell -> where it leads, relative to the page, and where the row's numbers come
            from.
        look: 'prose' for cells that are sentences, 'dense' for many columns.
    """
    known = formats or {}
    columns = [str(name) for name in frame]
    visible = [name for name in columns if not _is_bound(name, columns)]
    rows, keys = [], []
    for row in frame.to_dict("records"):
        keys.append(cell(row[visible[0]], known.get(visible[0])))
        cells = []
        for name in visible:
            low, high = (row.get(f"{name} {side}") for side in ("low", "high"))
            text = shown(cell(row[name], known.get(name)))
            if low is not None and low == low:
                bounds = ", ".join(cell(bound, known.get(name)).removesuffix("%") for bound in (low, high))
                text += f" <i>[{escape(bounds)}]</i>"
            cells.append(text)
        target = (links or {}).get(keys[-1])
        cells[0] = f'<a href="{escape(quote(target), quote=True)}">{cells[0]}</a>' if target else cells[0]
        rows.append(cells)
    drawn = _sortable(_table(visible, rows, [(origins or {}).get(key) for key in keys]))
    return drawn.replace('"wide"', f'"wide {look}"', 1) if look else drawn


def cell(value: Any, spec: str | None = None) -> str:
    """A value as a table shows it."""
    if value is None or (isinstance(value, float) and value != value):
        return "–"
    if isinstance(value, str) or spec is None:
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return format(value, spec)


def _is_bound(name: str, columns: list[str]) -> bool:
    return any(name.endswith(side) and name.removesuffix(side) in columns for side in (" low", " high"))


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
