"""MODEL_CARD.md: every figure follows from the run's files, and text from data is escaped."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from conveyorguard.cli import main
from conveyorguard.metrics.scores import METRICS
from conveyorguard.reporting.model_card import plain, write_card
from conveyorguard.runs.derive import data_facts


@pytest.fixture
def card_of(finished_run, tmp_path):
    """The card of a copy of the run, after changes to its files."""

    def make(change=lambda folder: None):
        folder = tmp_path / "a copy"
        shutil.copytree(finished_run, folder)
        change(folder)
        return write_card(folder).read_text()

    return make


def test_a_run_has_a_card_and_its_page_leads_to_it(finished_run):
    card = (finished_run / "MODEL_CARD.md").read_text()
    provenance = json.loads((finished_run / "provenance.json").read_text())
    for heading in ("Trained on", "Protocol", "Results", "Shortcuts", "Alarms", "Limits", "Using it"):
        assert re.search(f"^##+ {heading}$", card, re.MULTILINE), heading
    assert provenance["store"]["fingerprint"] in card and provenance["split"] in card
    assert "arbitrary midpoint" in card and "simulated" in card and "load_run" in card
    assert all(device in card for devices in provenance["data"]["devices"].values() for device in devices)
    assert '<a href="MODEL_CARD.md">' in (finished_run / "report.html").read_text()


def test_hours_and_devices_are_counted_from_the_seconds(store_of, session_of, plain_schema):
    sessions = [
        session_of("a", range(60), [0] * 50 + [3] * 10, device="x"),
        session_of("b", range(30), [1] * 30, device="y"),
        session_of("c", range(40), None, device="z"),
    ]
    store = store_of(sessions, plain_schema)
    facts = data_facts(store, {"train": ["a"], "val": ["b"], "test": ["c"]})
    assert facts["devices"] == {"train": ["x"], "val": ["y"], "test": ["z"]}
    assert facts["hours"]["train"] == {
        "normal": round(50 / 3600, 4),
        "minor": 0.0,
        "moderate": 0.0,
        "severe": round(10 / 3600, 4),
    }
    assert sum(facts["hours"]["test"].values()) == 0


def test_card_has_the_figures_of_the_metrics(card_of, finished_run):
    metrics = json.loads((finished_run / "metrics.json").read_text())["test"]
    assert f"| accuracy | {100 * metrics['accuracy']:.1f} % |" in card_of()


def test_a_changed_prediction_changes_the_card(card_of):
    def all_right(folder):
        table = pd.read_parquet(folder / "predictions.parquet")
        for k in range(4):
            table[f"c{k}"] = np.where(table["y_true"] == k, np.float32(0.97), np.float32(0.01))
        table.to_parquet(folder / "predictions.parquet")

    assert "| accuracy | 100.0 % |" in card_of(all_right)


def test_card_without_shortcuts_alarms_or_model_says_so(card_of):
    def bare(folder):
        for name in ("shortcuts.parquet", "alarms.json", "calibration.json", "history.csv"):
            (folder / name).unlink()
        shutil.rmtree(folder / "checkpoints")

    card = card_of(bare)
    assert "Shortcuts" not in card and "no operating point" in card and "no model of its own" in card


def test_report_verb_draws_a_missing_card(finished_run, tmp_path):
    shutil.copytree(finished_run, tmp_path / "run")
    (tmp_path / "run" / "MODEL_CARD.md").unlink()
    assert main(["report", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "MODEL_CARD.md").exists() and "MODEL_CARD.md" in (
        tmp_path / "run" / "report.html"
    ).read_text()


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "a|b", "[x](http://y)", "line\nbreak", "`code`", "*bold*"]
)
def test_markup_in_text_from_data_is_escaped(text):
    escaped = plain(text)
    assert "<" not in escaped and "\n" not in escaped and not re.search(r"(?<!\\)[|*`\[]", escaped)


def test_titles_name_the_states_of_the_data(card_of):
    def renamed(folder):
        path = folder / "config.yaml"
        path.write_text(path.read_text().replace("name: severe", "name: broken"))

    card = card_of(renamed)
    assert (
        "| broken recall |" in card
        and "severe recall" not in card
        and METRICS["severe_recall"].named(["normal", "severe"]) == "severe recall"
    )
