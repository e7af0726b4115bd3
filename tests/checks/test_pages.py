"""Model card, page and the windows they show: other figures than those of the files are told."""

import json

import numpy as np
import pytest

from tests.checks.spoiled import CARD, PAGE, edit_json, failed, redraw, told, verdicts


def test_card_and_page_with_other_figures_are_told(copied):
    value = f"{100 * json.loads((copied / 'metrics.json').read_text())['test']['accuracy']:.1f} %"
    for name, check in (("MODEL_CARD.md", CARD), ("report.html", PAGE)):
        text = (copied / name).read_text(encoding="utf-8")
        assert value in text
        (copied / name).write_text(text.replace(value, "99.9 %"), encoding="utf-8")
        wrong = failed(copied, "files")
        assert list(wrong) == [check] and "99.9 %" in wrong[check] and value in wrong[check]
        (copied / name).write_text(text, encoding="utf-8")


def test_a_page_of_another_version_is_not_held_against_this_ones_words(copied):
    page = copied / "report.html"
    page.write_text(page.read_text(encoding="utf-8").replace("By state", "State by state"), encoding="utf-8")
    assert "'By state' in report.html" in failed(copied, "files")[PAGE]
    edit_json(copied / "provenance.json", lambda p: p.update(code="0" * 16))
    assert verdicts(copied, "files")[PAGE].verdict == "not checked"
    page.unlink()
    assert "draws it" in verdicts(copied, "files")[PAGE].told


def edit_examples(folder, **changes):
    with np.load(folder / "examples.npz") as arrays:
        found = dict(arrays)
    np.savez_compressed(
        folder / "examples.npz", **{**found, **{name: change(found) for name, change in changes.items()}}
    )


def test_examples_that_are_not_of_predictions_and_data_are_told(copied):
    """As one would who wanted the page to look better, page drawn again."""
    edit_examples(copied, y_pred=lambda found: found["y_true"])
    redraw(copied)
    assert list(failed(copied)) == ["examples are of the predictions", "examples show the data"]


@pytest.mark.parametrize("name", ["sensors", "thermal", "state", "seconds"])
def test_examples_that_show_something_else_are_told(name, copied):
    edit_examples(copied, **{name: lambda found: np.zeros_like(found[name])})
    assert told(copied, "examples are of the predictions") is None
    assert f"{name} of the" in told(copied, "examples show the data")
