"""What pages are made of: templates, tables, figures, and texts without folders of the machine.

A page is a template in `templates/` and the function that prepares its values:

    {% import "macros.html.jinja" as ui %}
    {% call ui.section("Result", note) %}
    {{ ui.tiles(tiles) }}
    {{ ui.pair(confusion, classes) }}
    {% endcall %}

    main = pages.render("result.html.jinja", note="Measured on …", tiles=[("accuracy", "94 %")],
                        confusion=pages.figure(plot, "confusion matrix"), classes=pages.framed(frame))
    write_text(path, pages.page(title, subtitle, main))

Templates hold all markup. They escape every text that they print, and absolute paths in it lose their folders. What a
function here draws (`figure`, `table`, `sortable`, `linked`, `framed`, `render` itself) is Markup, which a template
prints as it is; never join Markup with text by `+` or an f-string. A value that a template prints but is not given is
an error. `render(…, folder=…)` draws templates of another folder, which share the macros. `Site.write` writes a page
of a site.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from os.path import abspath, commonpath, relpath
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from conveyorguard.metrics.intervals import Interval
from conveyorguard.metrics.notation import MISSING, Notation

PLOTLY = "assets/plotly.min.js"  # the copy that the pages of one folder share
TEMPLATES = Path(__file__).with_name("templates")
NUMBER = re.compile(r"[+\-−]?\.?\d[\d,.]*|–?$")  # how a cell of a column of numbers begins


def _without_folders(value: Any) -> Any:
    """Return a value as a template prints it: text loses its folders, drawn markup stays."""
    return base_names(value) if isinstance(value, str) and not isinstance(value, Markup) else value


@cache
def _asset(name: str) -> Markup:
    """Return the text of a file that pages carry: site.css, their look, or site.js, which sorts tables."""
    return Markup(Path(__file__).with_name(name).read_text(encoding="utf-8"))


@cache
def _state_names_font() -> Markup:
    """Return the css of a font for Korean state names: a subset of Noto Sans KR (SIL Open Font License 1.1)."""
    font = base64.b64encode(Path(__file__).with_name("hangul.woff2").read_bytes()).decode()
    return Markup(
        f"@font-face {{ font-family: StateNames; src: url(data:font/woff2;base64,{font}); unicode-range: U+AC00-D7A3 }}"
    )


def environment(folder: Path = TEMPLATES, finalize: Callable[[Any], Any] = _without_folders) -> Environment:
    """Return the Jinja2 environment of the templates in a folder, in which those of this package are found as well.

    Args:
        finalize: applied to every value that a template prints, before it is escaped.
    """
    templates = Environment(
        loader=FileSystemLoader([folder, TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=finalize,
    )
    library = Markup(get_plotlyjs())
    templates.globals.update(asset=_asset, state_names_font=_state_names_font, plotly_library=library)
    templates.filters["base64"] = lambda data: Markup(base64.b64encode(data).decode())
    return templates


_html = cache(environment)  # so that templates are compiled once


def render(template: str, *, folder: Path = TEMPLATES, **values: Any) -> Markup:
    """Draw a template with these values.

    Args:
        template: name of a file in `folder`, or in this package's templates.
    """
    return Markup(_html(folder).get_template(template).render(values))


def page(
    title: str,
    subtitle: str,
    main: Markup,
    plotly: str | None = None,
    links: Sequence[tuple[str, str, bool]] = (),
    banner: str = "",
) -> Markup:
    """Draw a whole page around its content.

    Args:
        main: what `render` drew.
        plotly: relative path of the plotly.min.js that a site shares; None: the page carries the library itself.
        links: to other pages, below the title: text, relative path, whether it is this page.
        banner: a sentence above the content.
    """
    return render(
        "base.html.jinja", title=title, subtitle=subtitle, main=main, plotly=plotly, links=links, banner=banner
    )


def _macro(name: str) -> Any:
    """Return a macro of macros.html.jinja as a function that returns Markup."""
    return getattr(_html().get_template("macros.html.jinja").module, name)


@dataclass(frozen=True)
class HtmlCell:
    """A cell of a table: its text, the bounds of an interval behind it, and where it leads."""

    text: object
    bounds: str = ""
    target: str | None = None


@dataclass(frozen=True)
class HtmlRow:
    """A row of a table; hovering over it shows `origin`, which says what its numbers come from."""

    cells: list[HtmlCell]
    origin: str | None = None


@dataclass(frozen=True)
class HtmlTable:
    """What the macro `table` draws.

    Args:
        sortable: by a click on a column's head; such a table also scrolls where it is too wide.
        look: 'prose' for cells that are sentences, 'dense' for many columns.
        csv: relative path of the same table as csv, linked below it.
    """

    header: Sequence[str]
    rows: list[HtmlRow]
    sortable: bool = False
    look: str = ""
    csv: str = ""

    @property
    def text_columns(self) -> str:
        """Return the numbers, from 1, of the columns that hold text, which site.css aligns to the left."""
        columns = range(len(self.header))
        return " ".join(
            str(i + 1) for i in columns if any(not NUMBER.match(str(row.cells[i].text)) for row in self.rows)
        )

    @property
    def csv_name(self) -> str:
        """Return the file name of the csv."""
        return self.csv.rpartition("/")[2]

    def draw(self) -> Markup:
        """Draw the table."""
        return _macro("table")(self)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Markup:
    """Draw a table of plain text."""
    return HtmlTable(header, [HtmlRow([HtmlCell(text) for text in row]) for row in rows]).draw()


def sortable(header: Sequence[str], rows: Iterable[Sequence[Any]], look: str = "", csv: str = "") -> Markup:
    """Draw a table of plain text that sorts by a click on a column's head; for `look` and `csv` see `HtmlTable`."""
    return HtmlTable(header, [HtmlRow([HtmlCell(text) for text in row]) for row in rows], True, look, csv).draw()


def linked(
    header: Sequence[str], rows: Iterable[Sequence[Any]], targets: Iterable[str | None], look: str = ""
) -> Markup:
    """Draw a sortable table whose first cells lead somewhere.

    Args:
        targets: for each row a relative path, or None. look: see `HtmlTable`.
    """
    drawn = [
        HtmlRow([HtmlCell(first, target=target), *map(HtmlCell, rest)])
        for (first, *rest), target in zip(rows, targets, strict=True)
    ]
    return HtmlTable(header, drawn, True, look).draw()


def framed(
    frame: pd.DataFrame,
    formats: Mapping[str, str] | None = None,
    links: Mapping[str, str] | None = None,
    origins: Mapping[str, str] | None = None,
    look: str = "",
    csv: str = "",
) -> Markup:
    """Draw a data frame as a sortable table; a cell that is an `Interval` shows its bounds in brackets.

    Args:
        formats: column -> format of its numbers, e.g. `{"share": ".1%"}`; a missing number is a dash.
        links: text of a first cell -> relative path it leads to.
        origins: text of a first cell -> what the row's numbers come from.
        look, csv: see `HtmlTable`.
    """
    columns = [str(name) for name in frame]
    specs = [(formats or {}).get(name) for name in columns]
    rows = []
    for values in frame.to_dict("split")["data"]:
        key = cell(values[0], specs[0])
        first, *rest = (_cell(value, spec) for value, spec in zip(values, specs, strict=True))
        first = HtmlCell(first.text, first.bounds, (links or {}).get(key))
        rows.append(HtmlRow([first, *rest], (origins or {}).get(key)))
    return HtmlTable(columns, rows, True, look, csv).draw()


def _cell(value: Any, spec: str | None) -> HtmlCell:
    if not isinstance(value, Interval):
        return HtmlCell(cell(value, spec))
    return HtmlCell(cell(value.value, spec), Notation(spec or "").bounds(value))


def figure(plot: go.Figure, alt: str) -> Markup:
    """Draw a plotly figure with its text alternative."""
    drawn = plot.to_html(full_html=False, include_plotlyjs=False, config={"displayModeBar": False, "responsive": True})
    return _macro("figure")(Markup(drawn), alt)


def cell(value: Any, spec: str | None = None) -> str:
    """Write a value as a table shows it."""
    if value is None or (isinstance(value, float) and value != value):
        return MISSING
    if isinstance(value, str) or spec is None:
        return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return format(value, spec)


def flat(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame without intervals: a column `x` of them becomes `x`, `x low` and `x high`."""
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
    """Return a column and its bounds, by default in `name_low` and `name_high`, as intervals."""
    return pd.Series([Interval.of(row, name, low, high) for row in table.to_dict("records")], table.index, object)


def gathered(table: pd.DataFrame, names: Iterable[str], low: str = "_low", high: str = "_high") -> pd.DataFrame:
    """Return the table with each named column and its two bounds merged into a column of intervals.

    Args:
        low, high: endings of the names of the columns that hold the bounds.
    """
    for name in names:
        bounds = [f"{name}{low}", f"{name}{high}"]
        table = table.assign(**{name: intervals_of(table, name, *bounds)}).drop(columns=bounds)
    return table


def plotly_around(folder: Path) -> str | None:
    """Return the relative path of the plotly that a study keeps for its pages, if the folder lies in STUDY/runs/."""
    home = folder.resolve()
    shared = next((parent / PLOTLY for parent in list(home.parents)[:3] if (parent / PLOTLY).is_file()), None)
    return path_between(home, shared) if shared else None


def path_between(page: Path, target: Path) -> str | None:
    """Return the relative path from a page's folder to a file.

    Returns:
        None where the file does not exist, and where only the root of the disk holds both: that link would show the
        file's whole path.
    """
    here, there = Path(abspath(page)), Path(abspath(target))
    if not target.exists() or here.anchor != there.anchor or commonpath([here, there]) == here.anchor:
        return None
    return relpath(there, here).replace("\\", "/")


# a path from the root of a disk or a home, quoted with spaces or bare without; not the // of an address on the web
PATH = re.compile(
    r"""(?P<quote>['"])(?:[\w.+-]+=)?(?P<quoted>(?:\w+:///?)?(?:~?/|[A-Za-z]:[\\/]|\\\\[\w.$-]+\\)[^'"]*)(?P=quote)
      | (?<![\w/.~])(?<!:(?=//))(?P<bare>(?:sqlite:///|file://)?(?:~?/|[A-Za-z]:[\\/]|\\\\[\w.$-]+\\)[^\s'",;)\]}]+)""",
    re.VERBOSE,
)


def base_names(text: str) -> str:
    """Reduce absolute paths in a text to their last part, so that a page shows no folders of the machine."""

    def last(match: re.Match[str]) -> str:
        path = match["quoted"] or match["bare"]
        return match[0].replace(path, path.replace("\\", "/").rstrip("/").rpartition("/")[2])

    return PATH.sub(last, text)


def base_names_within(value: Any) -> Any:
    """Apply `base_names` to every text in a tree of plain values; a text that is one path may hold spaces."""
    if isinstance(value, dict):
        return {key: base_names_within(below) for key, below in value.items()}
    if isinstance(value, list):
        return [base_names_within(below) for below in value]
    if isinstance(value, str) and re.match(r"~?/|[A-Za-z]:[\\/]", value):
        return value.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return base_names(value) if isinstance(value, str) else value
