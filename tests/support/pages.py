"""Open pages in a browser, and check their links."""

import html.parser
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote

import pytest


class Links(html.parser.HTMLParser):
    """Collects everything that a page loads or links to."""

    def __init__(self):
        super().__init__()
        self.targets = []

    def handle_starttag(self, tag, attrs):
        self.targets += [value for name, value in attrs if name in ("src", "href") and value]


def missing_of(page: Path) -> list[str]:
    """Return the relative links of a page to missing files."""
    links = Links()
    links.feed(page.read_text(encoding="utf-8"))
    outside = ("data:", "http:", "https:", "#")
    return [
        link for link in links.targets if not link.startswith(outside) and not (page.parent / unquote(link)).is_file()
    ]


def console_of(page: Path, profile: Path) -> tuple[str, list[str]]:
    """Return the document that Chromium builds from a page, and its console lines."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not browser:
        pytest.skip("no chromium on this machine: pages are not opened")
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--enable-logging=stderr",
        "--virtual-time-budget=5000",
        f"--user-data-dir={profile}",
    ]
    done = subprocess.run(
        [browser, *flags, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture
def opens(tmp_path):
    """Open every page below a folder.

    Fails on console output, missing or external assets, and figures that are not drawn or lack a title or an
    alternative text.
    """

    def check(folder: Path, *names: str) -> None:
        assert {page.stem for page in folder.glob("*.html")} >= set(names)
        for page in sorted(folder.rglob("*.html")):
            source = page.read_text(encoding="utf-8")
            assert not missing_of(page), page
            assert not re.findall(r'(?:src|href)="(?:https?:)?//[^"]*', source), page
            document, console = console_of(page, tmp_path / "profile")
            assert not console, (page, console)
            plots = source.count("Plotly.newPlot(")
            titles = [title for title in re.findall(r'class="gtitle"[^>]*>([^<]*)', document) if title.strip()]
            assert document.count('class="plot-container') >= plots and len(titles) >= plots, (page, plots, titles)
            assert len(re.findall(r'<div role="img" aria-label="[^"]+"', source)) == plots, page

    return check


@pytest.fixture
def sorted_by(tmp_path):
    """Click the head of a column in a page's first sortable table; return the first cell of each row."""

    def click(page: Path, column: int, clicks: int = 1) -> list[str]:
        copy = page.with_name(f"clicked-{page.name}")
        press = (
            f"for (let i = 0; i < {clicks}; i++) "
            f"document.querySelector('table.sortable').tHead.rows[0].cells[{column}].click();"
        )
        text = page.read_text(encoding="utf-8").replace("</body>", f"<script>{press}</script></body>")
        copy.write_text(text, encoding="utf-8")
        document, _ = console_of(copy, tmp_path / "profile")
        copy.unlink()
        table = document[document.index('class="sortable"') :].partition("</table>")[0]
        return [re.sub("<[^>]*>", "", row) for row in re.findall(r"<tr[^>]*><td>(.*?)</td>", table)]

    return click
