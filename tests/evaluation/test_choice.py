"""The choice among candidates on the same out-of-fold predictions."""

import numpy as np
import pandas as pd
import pytest

from conveyorguard.evaluation.choice import choose

DEVICES, WINDOWS = 24, 60


def predicted(wrong, seed=0, devices=DEVICES):
    """Predictions of which a share of the windows is wrong, in the columns of predictions.parquet."""
    rng = np.random.default_rng(seed)
    device = np.repeat([f"d{i:02d}" for i in range(devices)], WINDOWS)
    y = np.tile(np.repeat([0, 1, 2, 3], WINDOWS // 4), devices)
    answer = np.where(np.random.default_rng(7).random(len(y)) < wrong, (y + 1) % 4, y)
    c = np.full((len(y), 4), 0.02)
    c[np.arange(len(y)), answer] = 0.94
    c += rng.random(c.shape) * 1e-3
    c /= c.sum(axis=1, keepdims=True)
    table = pd.DataFrame(
        {"session": device, "device": device, "start": np.tile(np.arange(WINDOWS), devices), "y_true": y}
    )
    return table.assign(**{f"c{k}": c[:, k] for k in range(4)})


def test_model_with_the_highest_score_is_taken_where_it_leads_clearly():
    choice = choose({"cheap": predicted(0.2), "dear": predicted(0.05)})
    assert choice.name == "dear" and "highest macro-F1" in choice.reason


def test_cheaper_model_is_taken_where_it_is_shown_to_be_as_good():
    choice = choose({"cheap": predicted(0.102), "dear": predicted(0.1)})
    table = choice.table().set_index("candidate")
    assert table.loc["dear", "macro_f1"] > table.loc["cheap", "macro_f1"]
    assert -0.01 < table.loc["cheap", "behind_low"] < 0
    assert choice.name == "cheap" and "cheaper than dear" in choice.reason
    assert table.index[table["chosen"]].tolist() == ["cheap"]


def test_dearer_model_is_never_taken_for_being_as_good():
    assert choose({"best": predicted(0.1), "dear": predicted(0.102)}).name == "best"


@pytest.mark.parametrize("devices", [2, 3])
def test_without_an_interval_the_highest_is_taken(devices):
    choice = choose({"cheap": predicted(0.2, devices=devices), "dear": predicted(0.1, devices=devices)})
    assert choice.name == "dear"
