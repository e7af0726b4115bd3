"""The experiment on the choice of `best`: the table's rows, and what is not run again."""

import pandas as pd
import pytest

from experiments import best_choice


def rows(tests, chosen):
    table = pd.DataFrame({"candidate": list(tests), "test": list(tests.values()), "test_devices": 5})
    table["chosen"] = table["candidate"] == chosen
    return table.assign(behind=100 * (table["test"].max() - table["test"]))


def test_draws_of_the_table_are_not_run_again(tmp_path, monkeypatch):
    ran = []

    def run_draw(words, models, minutes):
        ran.append(words[:3])
        if len(ran) == 3:
            raise KeyboardInterrupt
        return rows({"a": 0.9, "b": 0.91 if len(ran) == 1 else 0.904}, "a")

    monkeypatch.setattr(best_choice, "run_draw", run_draw)
    words = ["sessions=72,216", "draws=2", f"file={tmp_path / 'x.csv'}", f"out={tmp_path}", "threads=1"]
    with pytest.raises(KeyboardInterrupt):
        best_choice.main(words)
    table = best_choice.main(words)
    assert [w[:3] for w in ran[3:]] == [
        ["data.sessions=216", f"data.seed={2026 + d}", f"split.seed={42 + d}"] for d in (0, 1)
    ]
    assert list(zip(table["sessions"], table["draw"], strict=True))[::2] == [(72, 0), (72, 1), (216, 0), (216, 1)]
    assert best_choice.summary(table) == "within 0.5 points in 3 of 4 draws; most lost 1.00 points"


@pytest.mark.slow
def test_left_out_candidate_is_judged_on_the_same_devices(tmp_path, cache):
    """minutes=0 leaves all but LightGBM out of the plan."""
    words = ["sessions=16", "draws=1", "minutes=0", "models=lightgbm,logistic_regression", "modality=sensor"]
    more = ["threads=1", f"paths.cache={cache}", f"out={tmp_path / 'runs'}", f"file={tmp_path / 'x.csv'}"]
    table = best_choice.main([*words, *more]).set_index("candidate")
    assert set(table.index) == {"lightgbm", "logistic_regression"} and table["behind"].min() == 0
    assert table.loc["lightgbm", ["planned", "chosen"]].all()
    assert not table.loc["logistic_regression", ["planned", "chosen"]].any()
    assert table["test_devices"].nunique() == 1 and table[["out_of_fold", "test"]].notna().all().all()
