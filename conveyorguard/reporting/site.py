"""Pages in one folder, with links between them, an index, a shared copy of plotly, and every table also as csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from conveyorguard.data.windows import Windows
from conveyorguard.errors import RunError
from conveyorguard.reporting import pages
from conveyorguard.runs.provenance import commit_of, git_state
from conveyorguard.system.files import read_json, write_json, write_text


class Site:
    """A folder of pages.

    Args:
        titles: the site's pages in their order: {file stem: title}. Those not written yet are left out of the links.
        banner: a sentence at the top of every page.
        origin: what the pages were made from, as (what, value).
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
    ) -> Markup:
        """Draw a table as `pages.framed` does, and write tables/<name>.csv, which it links and which has all digits."""
        csv = f"tables/{name}.csv"
        path = self.folder / csv
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, pages.flat(frame).to_csv(index=False))
        return pages.framed(frame, formats, links, origins, look, csv)

    def write(self, stem: str, subtitle: str, main: Markup, sentences: Sequence[str] = ()) -> Path:
        """Write a page and the index, and draw the other pages' links anew.

        Args:
            main: the page's content, as `pages.render` drew it.
            sentences: those that the index repeats.
        """
        keep_plotly(self.folder)
        kept = {"subtitle": subtitle, "said": list(sentences), "main": self._with_origin(main)}
        write_json(self.folder / "assets" / f"{stem}.json", kept)
        for written in self._written():
            self._frame(written)
        self._write_index()
        return self._path(stem)

    def _path(self, stem: str) -> Path:
        return self.folder / f"{stem}.html"

    def _written(self) -> list[str]:
        """Return the stems of the pages that are there, in the site's order."""
        places = {stem: (self._path(stem), self.folder / "assets" / f"{stem}.json") for stem in self.titles}
        return [stem for stem, files in places.items() if any(path.exists() for path in files)]

    def _frame(self, stem: str) -> None:
        """Write a page around its stored content. A page of an earlier layout, without stored content, stays."""
        facts = self._facts(stem)
        if facts["main"]:
            self._write_page(stem, f"{stem[:2]} {self.titles[stem]}", facts["subtitle"], Markup(facts["main"]))

    def _with_origin(self, main: Markup) -> Markup:
        """Append the command and the data of the page, which may differ from those of the site's other pages."""
        return pages.render("site_page.html.jinja", main=main, origin=pages.table(["", ""], self.origin))

    def _write_page(self, stem: str, title: str, subtitle: str, main: Markup) -> None:
        stems = {"index": "Overview", **{written: self.titles[written] for written in self._written()}}
        links = [(text, f"{target}.html", target == stem) for target, text in stems.items()]
        write_text(self._path(stem), pages.page(title, subtitle, main, pages.PLOTLY, links, self.banner))

    def _write_index(self) -> None:
        written, last = self._written(), list(self.titles)[-1]
        stages = [
            {
                "title": f"{stem[:2]} {self.titles[stem]}",
                "target": f"{stem}.html",
                "subtitle": self._facts(stem)["subtitle"],
                "said": self._facts(stem)["said"],
            }
            for stem in written
        ]
        main = pages.render(
            "index.html.jinja",
            stages=stages,
            last={**stages[-1], "title": self.titles[last]} if len(self.titles) > 1 and last in written else None,
            missing=", ".join(title for stem, title in self.titles.items() if stem not in written),
        )
        self._write_page("index", self.name, "What each page found", self._with_origin(main))

    def _facts(self, stem: str) -> dict[str, Any]:
        """Return what is kept of a page: its subtitle, the sentences of the index, its content."""
        empty = {"subtitle": "", "said": [], "main": ""}
        try:
            return empty | read_json(self.folder / "assets" / f"{stem}.json")
        except RunError:  # a page of an earlier layout, without it
            return empty


def origin_of(data: Windows, name: str, command: str) -> list[tuple[str, str]]:
    """Return the rows at the foot of each page, (title, text): command, data fingerprint, split and commit."""
    return [
        ("command", pages.base_names(command)),
        ("data", f"{name}, fingerprint {data.store.fingerprint[:12]}"),
        ("split", f"{data.split.settings['name']}, {data.split.hash}"),
        ("commit", commit_of(git_state())),
    ]


def keep_plotly(folder: Path) -> None:
    """Write the copy of plotly that all pages of a folder share, those of its runs included."""
    path, text = folder / pages.PLOTLY, get_plotlyjs()
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.stat().st_size != len(text.encode()):
        write_text(path, text)
