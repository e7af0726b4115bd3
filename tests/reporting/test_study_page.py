"""The page of a study: counts, best trial, figures, links; names from the study are escaped."""

import json

import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from conveyorguard.reporting import pages, study_figures, study_page
from conveyorguard.reporting.study_page import write_study_page
from conveyorguard.sweeps.shared_study import ended

EVIL = '<script>alert("x")</script>'
SPACE = {
    "optimizer.lr": FloatDistribution(1e-4, 1e-3, log=True),
    "model.kind": CategoricalDistribution(("plain", EVIL)),
}


def add(study, folder, state=TrialState.COMPLETE, value=None, lr=3e-4, kind="plain", steps=(0.1, 0.2), **attrs):
    number = len(study.trials)
    there = folder / str(number)
    there.mkdir(parents=True)
    values = dict(enumerate(steps))
    user = {"dir": str(there), "owner": {"host": "secret", "pid": 1, "start": 0.0}, "folder": str(folder), **attrs}
    study.add_trial(
        create_trial(
            state=state,
            value=value,
            params={"optimizer.lr": lr, "model.kind": kind},
            distributions=SPACE,
            intermediate_values=values,
            user_attrs=user,
        )
    )
    return there


@pytest.fixture
def make(tmp_path):
    """A study of `complete` trials, a pruned, a failed and a withdrawn one; the best is trial 1."""

    def build(complete):
        study = optuna.create_study(study_name="s&p", direction="maximize")
        study.set_user_attr("retrain", ["python", "/home/me/train.py", "model=fusion", "objective=val/accuracy"])
        for i in range(complete):
            folder = add(
                study, tmp_path, value=0.9 if i == 1 else 0.5 + 0.01 * i, lr=1e-4 * (i + 1), kind=(EVIL, "plain")[i % 2]
            )
            (folder / "report.html").write_text("a page")
        (add(study, tmp_path, TrialState.PRUNED, steps=(0.3, 0.25)) / "trial.log").write_text("epoch 1")
        add(study, tmp_path, TrialState.FAIL, steps=(0.4,), reason=f"exit code 1: {EVIL}")
        add(study, tmp_path, TrialState.FAIL, steps=(), reason="withdrawn")
        return study

    return build


def test_page_shows_counts_best_parameters_and_links_to_trials(make, tmp_path, capsys):
    path = write_study_page(make(6), tmp_path)
    assert capsys.readouterr().out.splitlines()[-1] == str(path) and path == tmp_path / "study.html"
    html = path.read_text()
    for what, count in (("complete", 6), ("pruned", 1), ("failed", 1), ("epochs trained", 15)):
        assert f"<b>{count}</b><span>{what}</span>" in html
    assert "<b>0.9000</b><span>best objective, trial 1</span>" in html
    assert "python train.py model=fusion objective=val/accuracy optimizer.lr=0.0002 model.kind=plain" in html
    assert "fANOVA on 6 complete trials" in html
    assert "<td>0.0002</td><td>0.0001 to 0.001, logarithmic</td>" in html and "<td>plain, &lt;script&gt;" in html
    assert '<a href="1/report.html">1</a>' in html and '<a href="6/trial.log">6</a>' in html
    assert "<td>7</td><td>exit code 1: &lt;script&gt;" in html
    assert "<td>7</td><td>FAILED</td>" in html and "<td>8</td>" not in html  # a withdrawn trial never ran


def test_page_says_which_question_the_trials_answered(make, tmp_path):
    study = make(2)
    config = {
        "window": {"label": "majority", "thermal_frames": 10},
        "data": {},
        "objective": "val/accuracy",
        "test": True,
    }
    (tmp_path / "0" / "config.yaml").write_text(json.dumps(config))
    assert (
        "val/accuracy, maximize; the commonest state of a window of 30 s"
        in write_study_page(study, tmp_path).read_text()
    )


def test_page_escapes_names_loads_nothing_and_hides_machine(make, tmp_path):
    html = write_study_page(make(6), tmp_path).read_text()
    plain = html.replace(pages.get_plotlyjs(), "")
    assert EVIL not in html and "&lt;script&gt;" in plain and "s&amp;p" in plain
    assert "src=" not in plain and 'href="http' not in plain
    assert str(tmp_path) not in plain and "/home/me" not in plain and "secret" not in plain


def test_importances_of_too_few_trials_are_not_computed(make, tmp_path):
    html = write_study_page(make(4), tmp_path).read_text()
    assert "Not computed: 4 complete trials, at least 5 are needed." in html and "fANOVA" not in html


def test_study_without_complete_trial_has_page_with_epochs_only(make, tmp_path):
    html = write_study_page(make(0), tmp_path).read_text()
    assert "No trial is complete" in html and "<b>1</b><span>pruned</span>" in html and "after each epoch" in html
    assert "Best parameters" not in html and "Objective by parameter" not in html


def test_page_and_terminal_say_how_trials_were_trained_and_what_command_repeats(make, tmp_path, capsys):
    study = make(2)
    config = "objective: val/accuracy\ntest: false\ntrainer: {max_epochs: 7}\n"
    (tmp_path / "1/config.yaml").write_text(config)
    html = write_study_page(study, tmp_path).read_text()
    training = (
        "at most 7 epochs and kept the epoch with the best val/accuracy. The command that retrains the best trial has "
        "the same settings."
    )
    untouched = "The sweep did not use the test data; the command evaluates on them"
    printed = capsys.readouterr().out
    for text in (training, untouched):
        assert text in html and text in printed
    assert "<b>7</b><span>epochs trained, of at most 28</span>" in html
    (tmp_path / "1/config.yaml").write_text(config.replace("false", "true"))
    assert untouched not in write_study_page(study, tmp_path).read_text()


def test_trials_failed_or_added_by_hand_are_listed(make, tmp_path):
    """The sweeper advises study.tell(number, state=FAIL) when another host is gone."""
    study = make(2)
    study.add_trial(
        create_trial(
            state=TrialState.RUNNING,
            params={"optimizer.lr": 1e-4, "model.kind": "plain"},
            distributions=SPACE,
            user_attrs={"folder": str(tmp_path)},
        )
    )
    study.tell(5, state=TrialState.FAIL)
    study.add_trial(create_trial(params={"optimizer.lr": 2e-4, "model.kind": "plain"}, distributions=SPACE, value=0.7))
    html = write_study_page(study, tmp_path).read_text()
    assert "<td>5</td><td>FAILED</td>" in html and "<td>6</td><td>COMPLETE</td>" in html
    assert "<td>5</td><td>marked as failed by hand</td>" in html


def test_study_without_trials_has_page(tmp_path):
    html = write_study_page(optuna.create_study(), tmp_path).read_text()
    assert "<b>0</b><span>complete</span>" in html


def test_trials_csv_has_row_a_trial_and_hides_machine(make, tmp_path):
    write_study_page(make(2), tmp_path)
    text = (tmp_path / "trials.csv").read_text()
    table = pd.read_csv(tmp_path / "trials.csv")
    assert list(table["state"]) == ["COMPLETE"] * 2 + ["PRUNED", "FAIL"]
    assert list(table["params_optimizer.lr"][:2]) == [1e-4, 2e-4] and table["value"][1] == 0.9
    assert str(tmp_path) not in text and "secret" not in text


def test_sweep_over_folds_has_value_of_each_fold_and_says_what_command_trains(tmp_path, capsys):
    study = optuna.create_study(study_name="s", direction="maximize")
    study.set_user_attr("retrain", ["python", "train.py", "split=kfold", "split.n_folds=4", "trainer.max_epochs=9"])
    retrain = ["split=out_of_fold", "split.fold=null", "split.runs=studies/s/0", "trainer.max_epochs=3"]
    for values in ((0.5, 0.7, 0.9), (0.4, 0.5, 0.6)):
        means = [sum(values[: k + 1]) / (k + 1) for k in range(3)]
        add(study, tmp_path, value=means[-1], steps=means, info={"folds": list(values), "retrain": retrain})
    add(study, tmp_path, TrialState.PRUNED, steps=(0.3, 0.25), info={"folds": [0.3, 0.2]})
    (tmp_path / "0/fold0").mkdir()
    (tmp_path / "0/fold0/config.yaml").write_text(
        "objective: val/macro_f1\ntest: false\ntrainer: {max_epochs: 9}\nsweep: {folds: 3}\n"
    )
    html = write_study_page(study, tmp_path).read_text()
    assert "<b>8</b><span>folds trained, of at most 9</span>" in html and "Folds of the trials" in html
    assert "<b>0.7000</b><span>best val/macro_f1, trial 0</span>" in html
    assert "trained on 3 folds" in html and "on all of train and validation" in capsys.readouterr().out
    command = (
        "python train.py optimizer.lr=0.0003 model.kind=plain split=out_of_fold split.fold=null "
        "split.runs=studies/s/0 trainer.max_epochs=3</pre>"
    )
    assert command in html
    assert "<th>fold 1</th><th>fold 2</th><th>fold 3</th>" in html
    table = pd.read_csv(tmp_path / "trials.csv")
    assert table["value"][0] == pytest.approx(0.7) and list(table.loc[0, ["fold0", "fold1", "fold2"]]) == [
        0.5,
        0.7,
        0.9,
    ]
    assert table["fold1"][2] == 0.2 and pd.isna(table["fold2"][2]) and "user_attrs_info" not in table


@pytest.fixture
def copied(make):
    """The copy of a study of 3 complete trials, a pruned and a failed one that figures are drawn of."""
    study = make(3)
    return study_figures.plottable(study, ended(study.trials))


def test_plottable_study_keeps_numbers_escapes_choices_and_drops_attributes(make):
    study = make(3)
    copy = study_figures.plottable(study, [trial for trial in study.trials if trial.number in (1, 3)])
    assert [trial.state.name for trial in copy.trials] == ["FAIL", "COMPLETE", "FAIL", "PRUNED"]
    assert copy.trials[1].value == 0.9 and copy.trials[1].params["optimizer.lr"] == 2e-4
    assert copy.trials[3].distributions["model.kind"].choices[1].startswith("&lt;script")
    assert not any(trial.user_attrs for trial in copy.trials)


def test_epochs_figure_tells_best_complete_and_pruned_trials_apart(copied):
    figure = study_figures.intermediate_values(copied, 1, "v")
    assert [(line.name, line.line.dash, line.showlegend) for line in figure.data] == [
        ("complete", None, True),
        ("best", None, True),
        ("complete", None, False),
        ("pruned", "dot", True),
    ]
    assert list(figure.data[3].x) == [1, 2] and list(figure.data[3].y) == [0.3, 0.25]


def test_history_follows_best_value_in_direction_of_study(make):
    study = make(3)
    figure = study_figures.optimization_history(study_figures.plottable(study, ended(study.trials)), "v")
    points, line = figure.data[:2]
    assert list(points.x) == [0, 1, 2] and list(points.y) == [0.5, 0.9, 0.52]
    assert list(line.y)[:3] == [0.5, 0.9, 0.9] and line.name == "best so far"
    minimized = optuna.create_study(direction="minimize")
    minimized.add_trials(study.trials)
    figure = study_figures.optimization_history(study_figures.plottable(minimized, ended(minimized.trials)), "v")
    assert list(figure.data[1].y)[:3] == [0.5, 0.5, 0.5]


def test_slices_have_axis_of_their_parameter(copied):
    rate, kind = study_figures.slices(copied, ["optimizer.lr", "model.kind"], "v")
    assert (rate.layout.xaxis.type, kind.layout.xaxis.type) == ("log", "category")
    assert rate.layout.xaxis.title.text == "optimizer.lr" and rate.layout.yaxis.title.text == "v"
    assert list(rate.data[0].x) == pytest.approx([1e-4, 2e-4, 3e-4]) and list(rate.data[0].y) == [0.5, 0.9, 0.52]
    assert any("&lt;script" in label for label in kind.layout.xaxis.categoryarray)


def test_parallel_coordinates_have_full_names_of_parameters_of_complete_trials(copied):
    copied.add_trial(
        create_trial(state=TrialState.PRUNED, params={"a": 1.0}, distributions={"a": FloatDistribution(0, 2)})
    )
    figure = study_figures.parallel_coordinate(copied, "val/accuracy")
    assert list(figure.layout.xaxis.ticktext) == ["val/accuracy", "model.<br>kind", "optimizer.<br>lr"]
    labels = [label for label, _ in figure.data[0].customdata]
    assert labels == ["val/accuracy", "model.kind", "optimizer.lr"]


def test_importances_are_shares_of_one(make):
    study = make(6)
    bars = study_figures.importances(study_figures.plottable(study, ended(study.trials))).data[0]
    assert set(bars.y) == {"optimizer.lr", "model.kind"} and sum(bars.x) == pytest.approx(1)
    assert all(text.endswith("%") for text in bars.text)


def test_sweep_can_instantiate_page_writer_by_name():
    from hydra.utils import instantiate

    from conveyorguard.config.compose import whitelist

    target = {"_target_": "conveyorguard.reporting.study_page.write_study_page", "_partial_": True}
    assert instantiate(target, _execution_whitelist_=whitelist()).func is study_page.write_study_page
