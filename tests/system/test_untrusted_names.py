"""Names that are markup stay text on every page, and pages reveal nothing about the machine."""

import html
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from markupsafe import escape
from omegaconf import OmegaConf

from conveyorguard.cli import main
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import read_json, write_json
from tests.support.places import ROOT
from tests.system.poison import SECRET

pytestmark = [
    pytest.mark.promise(
        "security",
        "A session, device, channel, unit, state or file called `<script>...` stays text, in the source of "
        "every page and in a browser.",
    ),
    pytest.mark.promise(
        "security",
        "Pages show no absolute path and no value of the environment. No file of a run holds a key. A config "
        "that holds a key, token or password is refused.",
    ),
]

MARKUP = "<script>window.pwned=1</script>"
IMAGE = '"><img src=x onerror="window.pwned=1">'


@pytest.fixture(scope="module")
def evil_site(tmp_path_factory, cache):
    """Run all verbs on data whose names are markup: sessions, devices, channels, states, units, labels, folders."""
    base = tmp_path_factory.mktemp("plant-of-somebody")
    rng = np.random.default_rng(0)
    for d in range(4):
        rows = []
        for s in range(4):
            state = np.repeat([0, 1, 2], [60, 20, 20]) if s % 2 == 0 else np.zeros(100, int)
            rows.append(
                pd.DataFrame(
                    {
                        "session": f"{MARKUP}{d}-{s}",
                        "device": f"{IMAGE}{d}",
                        "time": np.arange(100),
                        MARKUP: 20 + 10.0 * state + rng.normal(size=100),
                        "b": rng.normal(size=100),
                        "state": np.array([f"{MARKUP}fine", f"{IMAGE}worn", "broken"])[state],
                    }
                )
            )
        pd.concat(rows).to_csv(base / f"<img src=x onerror=window.pwned=1>{d}.csv", index=False)
    yaml = base / "conf" / "data" / "evil.yaml"
    yaml.parent.mkdir(parents=True)
    OmegaConf.save(
        {
            "defaults": ["table", "_self_"],
            "name": "evil",
            "root": str(base),
            "schema": {
                "columns": {"session": "session", "device": "device", "time": "time", "state": "state"},
                "channels": {MARKUP: {"unit": IMAGE}, "b": {"unit": "A"}},
                "states": [
                    {"name": f"{MARKUP}fine", "label": "정상"},
                    {"name": f"{IMAGE}worn"},
                    {"name": "broken", "label": MARKUP},
                ],
            },
        },
        yaml,
    )
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CONVEYORGUARD_CACHE": str(base / "cache"),
        "SECRET": SECRET,
        "WANDB_API_KEY": SECRET,
    }

    def run(*arguments):
        line = [sys.executable, "-m", "conveyorguard", *arguments]
        done = subprocess.run(line, cwd=base, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    common = [
        "--config-dir",
        str(base / "conf"),
        "data=evil",
        "split=kfold",
        "split.n_folds=4",
        "window.size=10",
        "window.thermal_frames=5",
        "model=lightgbm",
        "model.n_estimators=5",
        "trainer=cpu",
        "threads=1",
    ]
    first, second = runs = [f"{base}/runs/<u>run{number}" for number in (1, 2)]
    for number, folder in enumerate(runs):
        run("train", *common, f"seed={number}", f"hydra.run.dir='{folder}'")
    run("compare", first, second, f"out={base}/runs/comparison")
    run("ensemble", first, second, f"out={base}/runs/ensemble")
    run("predict", first, f"out={base}/runs/predicted")
    run("diagnose", first, f"out={base}/runs/diagnosis")
    run("eda", *common, f"out={base}/runs/eda")
    return base


def pages_of(base):
    pages = sorted((base / "runs").rglob("*.html"))
    assert {"report.html", "comparison.html", "ensemble.html", "predictions.html", "diagnose.html", "00_eda.html"} <= {
        path.name for path in pages
    }
    return pages


def own_text(page):
    """Return the source of a page without the plotting library."""
    return re.sub(r"<script>/\*\*.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.slow
def test_names_stay_text_on_pages(evil_site):
    for page in pages_of(evil_site):
        text = own_text(page)
        assert not any(markup in text for markup in (MARKUP, "<img src=x", "<u>run")), page.name
        if page.name != "index.html":
            assert any(name in text for name in (*map(str, map(escape, (MARKUP, IMAGE))), "\\u003cscript\\u003e")), (
                f"{page.name} shows no such name, so the test proves nothing"
            )
    for card in (evil_site / "runs").rglob("MODEL_CARD.md"):
        assert not re.search("<script|<img", card.read_text(encoding="utf-8")), card


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no chromium to open the pages with")
def test_browser_executes_no_name(evil_site):
    for page in pages_of(evil_site):
        probe = page.with_name(f"probe-{page.name}")
        probe.write_text(
            page.read_text(encoding="utf-8") + "<script>document.title = window.pwned ? 'PWNED' : 'sound'</script>",
            encoding="utf-8",
        )
        line = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--virtual-time-budget=4000",
            "--dump-dom",
            f"file://{probe}",
        ]
        dom = subprocess.run(line, capture_output=True, text=True, timeout=120).stdout
        probe.unlink()
        assert "<title>sound</title>" in dom, page.name


@pytest.mark.slow
def test_pages_show_no_folder_and_no_secret(evil_site):
    for page in pages_of(evil_site):
        text = html.unescape(own_text(page))
        assert SECRET not in text, page.name
        for folder in (str(evil_site), str(evil_site.parent), str(ROOT), str(Path.home()) + "/"):
            assert folder not in text, (page.name, folder)


@pytest.mark.slow
def test_files_of_run_hold_no_key(evil_site):
    for path in (evil_site / "runs").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path.name


def test_page_of_run_from_other_machine_shows_no_folder_of_it(copied):
    facts = read_json(copied / "provenance.json")
    command = "python train.py data=aihub 'data.root=/home/some one/secret plant/copy' paths.cache=/mnt/secret/cache"
    write_json(copied / "provenance.json", {**facts, "command": command})
    config = OmegaConf.load(copied / "config.yaml")
    config.data.root = "/home/some one/secret plant/copy"
    config.paths.cache = "~/secret/cache"
    OmegaConf.save(config, copied / "config.yaml")
    assert main(["report", str(copied)]) == 0
    text = own_text(copied / "report.html")
    assert "secret" not in text and "some one" not in text and "copy" in text
    assert SavedRun(copied).config.data.root == "/home/some one/secret plant/copy", "the run itself keeps its paths"
