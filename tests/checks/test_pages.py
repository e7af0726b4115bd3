"""Model card, page and the windows they show: figures unlike those of the files fail."""

import json

import numpy as np
import pytest

from tests.checks.spoiled import CARD, PAGE, edit_json, failed, failure, redraw, verdicts

pytestmark = pytest.mark.promise(
    "numbers",
    "`check` notices a session or device in two parts; scaling or ranges fitted outside train; metrics, "
    "windows, sizes, pages or cards that do not follow from the data; a model that knows the labels when "
    "they are shuffled or the input is constant; an input without gradient.",
)


def test_card_or_page_with_other_figures_fails(copied):
    value = f"{100 * json.loads((copied / 'metrics.json').read_text())['test']['accuracy']:.1f} %"
    for name, check in (("MODEL_CARD.md", CARD), ("report.html", PAGE)):
        text = (copied / name).read_text(encoding="utf-8")
        assert value in text
        (copied / name).write_text(text.replace(value, "99.9 %"), encoding="utf-8")
        wrong = failed(copied, "files")
        assert list(wrong) == [check] and "99.9 %" in wrong[check] and value in wrong[check]
        (copied / name).write_text(text, encoding="utf-8")


def test_page_worded_by_another_version_is_not_checked(copied):
    page = copied / "report.html"
    page.write_text(page.read_text(encoding="utf-8").replace("By state", "State by state"), encoding="utf-8")
    assert "'By state' in report.html" in failed(copied, "files")[PAGE]
    edit_json(copied / "provenance.json", lambda p: p.update(code="0" * 16))
    assert verdicts(copied, "files")[PAGE].verdict == "not checked"
    page.unlink()
    assert "write it with" in verdicts(copied, "files")[PAGE].message


def edit_examples(folder, **changes):
    """Change arrays of examples.npz, each by a function of all arrays."""
    with np.load(folder / "examples.npz") as arrays:
        content = dict(arrays)
    changed = {name: change(content) for name, change in changes.items()}
    np.savez_compressed(folder / "examples.npz", **{**content, **changed})


def test_examples_unlike_predictions_and_data_fail(copied):
    """A forger makes the page look better, and writes it again."""
    edit_examples(copied, y_pred=lambda arrays: arrays["y_true"])
    redraw(copied)
    assert list(failed(copied)) == ["examples match predictions", "examples match the data"]


@pytest.mark.parametrize("name", ["sensors", "thermal", "state", "seconds"])
def test_examples_unlike_the_data_fail(name, copied):
    edit_examples(copied, **{name: lambda arrays: np.zeros_like(arrays[name])})
    assert failure(copied, "examples match predictions") is None
    assert f"{name} of the" in failure(copied, "examples match the data")
