"""Pages in one folder: one look, one copy of plotly, links between them, an index, every table also as csv."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
from plotly.offline import get_plotlyjs

from conveyorguard.data.windows import Windows
from conveyorguard.errors import RunError
from conveyorguard.reporting import pages
from conveyorguard.runs.provenance import commit_of, git_state
from conveyorguard.system.files import read_json, write_json, write_text

NAV = re.compile("<nav>.*?</nav>", re.DOTALL)


class Site:
    """A folder of pages.

    Args:
        titles: the site's pages in their order: {file stem: title}. Those not written yet are left out of the links.
        banner: a sentence that stands on every page.
        origin: where every page comes from, as (what, value).
    """

    def __init__(
        self, folder: Path, name: str, titles: Mapping[str, str], banner: str, origin: Sequence[tuple[str, str]]
    ):
        self.folder, self.name, self.titles, self.banner, self.origin = folder, name, titles, banner, origin

    def table(
        self,
        name: str,
        frame: pd.DataFrame,
        formats: Mapping[str, str] | None = None,
        links: Mapping[str, str] | None = None,
        origins: Mapping[str, str] | None = None,
        look: str = "",
    ) -> str:
        """Html of a table that sorts, as `pages.framed` draws it; tables/<name>.csv has it with all digits."""
        path = self.folder / "tables" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, pages.flat(frame).to_csv(index=False))
        drawn = pages.framed(frame, formats, links, origins, look)
        return f'{drawn}<p class="csv"><a href="tables/{name}.csv">{name}.csv</a></p>'

    def write(self, stem: str, subtitle: str, blocks: Sequence[str], said: Sequence[str] = ()) -> Path:
        """Write a page and the index, and link all pages anew.

        Args:
            said: sentences that the index repeats.
        """
        keep_plotly(self.folder)
        path = self.folder / f"{stem}.html"
        self._write_page(path, f"{stem[:2]} {self.titles[stem]}", subtitle, [*blocks, self._origin()])
        write_json(self.folder / "assets" / f"{stem}.json", {"subtitle": subtitle, "said": list(said)})
        self._write_index()
        for other in self._pages():
            text = other.read_text(encoding="utf-8")
            write_text(other, NAV.sub(lambda _, own=other: self._nav(own), text, count=1))  # type: ignore[misc]
        return path

    def _write_page(self, path: Path, title: str, subtitle: str, blocks: Sequence[str]) -> None:
        banner = f'<p class="banner">{escape(self.banner)}</p>' if self.banner else ""
        write_text(path, pages.page(title, subtitle, [banner, *blocks], pages.PLOTLY, "<nav></nav>"))

    def _origin(self) -> str:
        return pages.section("Where it comes from", pages.table(["", ""], self.origin))

    def _write_index(self) -> None:
        blocks = []
        last = list(self.titles)[-1]
        if len(self.titles) > 1 and (self.folder / f"{last}.html").exists():
            items = "".join(f"<li>{escape(sentence)}</li>" for sentence in self._facts(last)["said"])
            link = f'<p><a href="{last}.html">How this was found: {escape(self.titles[last])}</a></p>'
            blocks.append(pages.section("In short", f"<ul>{items}</ul>", link))
        for path in self._pages()[1:]:
            told = self._facts(path.stem)
            items = "".join(f"<li>{escape(sentence)}</li>" for sentence in told["said"])
            link = f'<p><a href="{path.name}">Open the page</a></p>'
            blocks.append(
                pages.section(
                    f"{path.stem[:2]} {self.titles[path.stem]}", f"<ul>{items}</ul>{link}", note=told["subtitle"]
                )
            )
        missing = [title for stem, title in self.titles.items() if not (self.folder / f"{stem}.html").exists()]
        rest = [pages.section("Not there yet", note=", ".join(missing))] if missing else []
        self._write_page(
            self.folder / "index.html",
            self.name,
            "What each stage found, and where to read it",
            [*blocks, *rest, self._origin()],
        )

    def _facts(self, stem: str) -> dict[str, Any]:
        try:
            return read_json(self.folder / "assets" / f"{stem}.json")
        except RunError:  # the page is there without it: an older one
            return {"subtitle": "", "said": []}

    def _pages(self) -> list[Path]:
        stages = [self.folder / f"{stem}.html" for stem in self.titles]
        return [self.folder / "index.html", *(path for path in stages if path.exists())]

    def _nav(self, current: Path) -> str:
        links = []
        for path in self._pages():
            name = self.titles.get(path.stem, "Overview")
            here = ' aria-current="page"' if path == current else ""
            links.append(f'<a href="{path.name}"{here}>{escape(name)}</a>')
        return f"<nav>{''.join(links)}</nav>"


def origin_of(data: Windows, name: str, command: str) -> list[tuple[str, str]]:
    """Where the pages about a data set of this name come from, for `Site`."""
    return [
        ("command", pages.base_names(command)),
        ("data", f"{name}, fingerprint {data.store.fingerprint[:12]}"),
        ("split", f"{data.split.settings['name']}, {data.split.hash}"),
        ("commit", commit_of(git_state())),
    ]


def keep_plotly(folder: Path) -> None:
    """One copy of plotly for all pages of a folder, those of its runs included."""
    path, text = folder / pages.PLOTLY, get_plotlyjs()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.stat().st_size != len(text.encode()):
        write_text(path, text)
