"""Pages, cards and terminal lines about a user's own data take every name from these data."""

import contextlib
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from conveyorguard.cli import main
from conveyorguard.commands.train import train
from conveyorguard.config.compose import compose_config

# words of the data set that the project began with; `severe` also as a part of a metric's key
OTHER_DATA = re.compile(r"\b(AI Hub|seed study|341|OHT|AGV|hoist)\b|severe", re.IGNORECASE)


def write_pumps(folder: Path) -> None:
    """12 recordings of 6 pumps that wear: a csv file each."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    lengths = (60, 40, 30)
    worn = np.repeat([0.0, 1.0, 2.0], lengths)
    for i in range(12):
        columns = {
            "time": np.arange(len(worn)),
            "pump": f"pump{i % 6 + 1}",
            "pressure_bar": 5 + worn + rng.normal(0, 1, len(worn)),
            "flow_l_min": 40 - 4 * worn + rng.normal(0, 3, len(worn)),
            "state": np.repeat(["ok", "worn", "broken"], lengths),
        }
        pd.DataFrame(columns).to_csv(folder / f"shift{i:02d}.csv", index=False)


@pytest.fixture(scope="module")
def pumps(tmp_path_factory):
    """The folder in which a user of pumps went through all verbs, and the terminal output, by verb."""
    home = tmp_path_factory.mktemp("pumps")
    write_pumps(home / "plant")
    data = ["--config-dir", str(home / "conf"), "data=plant", "threads=1", f"paths.cache={home / 'cache'}"]
    run, other = home / "run", home / "other"
    output = {}

    @contextlib.contextmanager
    def captured(verb: str):
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            yield
        output[verb] = out.getvalue()

    def call(*arguments: str) -> None:
        with captured(arguments[0]):
            assert main(list(arguments)) == 0

    call("schema", str(home / "plant"), f"out={home / 'conf' / 'data' / 'plant.yaml'}")
    with captured("train"):
        train(compose_config([*data, "model=lightgbm", "model.n_estimators=20"]), run, [])
    shutil.copytree(run, other)  # a second model for less than a training
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("n_estimators: 20", "n_estimators: 21"))
    call("eda", *data, f"out={home / 'eda'}")
    call("compare", str(run), str(other), f"out={home / 'comparison'}")
    call("ensemble", str(run), str(other), f"out={home / 'ensemble'}")
    call("report", str(run))
    call("predict", str(run), f"data.root={home / 'plant'}", f"out={home / 'predicted'}")
    return home, output


def text_of(page: Path) -> str:
    """A page without its style and the plotting library."""
    html = re.sub(r"<style>.*?</style>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    scripts = re.findall(r"<script\b[^>]*>(.*?)</script>", html, flags=re.DOTALL)
    for library in [script for script in scripts if "plotly.js v" in script]:
        html = html.replace(library, "")
    return html


def test_pages_and_cards_of_own_data_name_no_other_data(pumps):
    home, _ = pumps
    pages = {path: text_of(path) for path in home.rglob("*.html")}
    cards = {path: path.read_text(encoding="utf-8") for path in home.rglob("MODEL_CARD.md")}
    names = {path.name for path in pages}
    assert names == {"report.html", "00_eda.html", "index.html", "comparison.html", "ensemble.html", "predictions.html"}
    assert len(cards) >= 2
    for path, text in {**pages, **cards}.items():
        match = OTHER_DATA.search(text)
        assert not match, f"{path.name}: {text[max(0, match.start() - 80) : match.end() + 80]}"
    for path in (home / "run" / "report.html", home / "comparison" / "comparison.html", home / "run" / "MODEL_CARD.md"):
        text = {**pages, **cards}[path]
        assert "broken recall" in text and "broken windows called ok" in text, path.name
    assert "camera" not in cards[home / "run" / "MODEL_CARD.md"].partition("## Trained on")[0]


def test_terminal_lines_of_own_data_name_no_other_data(pumps):
    _, output = pumps
    assert set(output) == {"schema", "train", "eda", "compare", "ensemble", "report", "predict"}
    for verb, text in output.items():
        match = OTHER_DATA.search(text)
        assert not match, f"{verb}: {text[max(0, match.start() - 80) : match.end() + 80]}"
    assert "broken recall" in output["train"] and "broken recall" in output["compare"]
