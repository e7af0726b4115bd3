"""The page of a study: counts, the best, what is drawn, links; nothing in it is taken for markup."""

import optuna
import pandas as pd
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from conveyorguard.reporting import pages, study_page
from conveyorguard.reporting.study_page import (
    intermediate_values,
    last_value,
    optimization_history,
    slices,
    write_study_page,
)

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
    """A study of `complete` trials, one pruned and one failed, whose best is trial 1."""

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


def test_the_page_says_what_came_out(make, tmp_path, capsys):
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
    assert "<td>7</td><td>FAILED</td>" in html and "<td>8</td>" not in html  # one that lost a race never ran


def test_nothing_is_taken_for_markup_or_loaded_from_elsewhere(make, tmp_path):
    html = write_study_page(make(6), tmp_path).read_text()
    plain = html.replace(pages.get_plotlyjs(), "")
    assert EVIL not in html and "&lt;script&gt;" in plain and "s&amp;p" in plain
    assert "src=" not in plain and 'href="http' not in plain
    assert str(tmp_path) not in plain and "/home/me" not in plain and "secret" not in plain


def test_too_few_trials_have_no_importances(make, tmp_path):
    few = write_study_page(make(4), tmp_path).read_text()
    assert "4 complete trials are too few to tell (5 or more are needed)" in few and "fANOVA" not in few


def test_a_study_without_a_complete_trial_has_a_page(make, tmp_path):
    html = write_study_page(make(0), tmp_path).read_text()
    assert "No trial is complete" in html and "<b>1</b><span>pruned</span>" in html and "after each epoch" in html


def test_what_the_sweep_trained_and_what_the_command_does(make, tmp_path, capsys):
    study = make(2)
    config = "objective: val/accuracy\ntest: false\ntrainer: {max_epochs: 7}\n"
    (tmp_path / "1/config.yaml").write_text(config)
    html = write_study_page(study, tmp_path).read_text()
    told = (
        "at most 7 epochs and kept the best by val/accuracy. The command that retrains the best has the same settings"
    )
    untouched = "The sweep did not touch the test data; the command evaluates on them"
    printed = capsys.readouterr().out
    for text in (told, untouched):
        assert text in html and text in printed
    assert "<b>7</b><span>epochs trained, of at most 28</span>" in html
    (tmp_path / "1/config.yaml").write_text(config.replace("false", "true"))
    assert untouched not in write_study_page(study, tmp_path).read_text()


def test_trials_that_were_told_or_added_by_hand_are_on_the_page(make, tmp_path):
    """As the sweeper says to do when another host is gone: study.tell(number, state=FAIL)."""
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
    assert "<td>5</td><td>told by hand</td>" in html


def test_a_study_without_trials_has_a_page(tmp_path):
    html = write_study_page(optuna.create_study(), tmp_path).read_text()
    assert "<b>0</b><span>complete</span>" in html


def test_trials_csv_has_a_row_a_trial_without_folders_of_the_machine(make, tmp_path):
    write_study_page(make(2), tmp_path)
    text = (tmp_path / "trials.csv").read_text()
    table = pd.read_csv(tmp_path / "trials.csv")
    assert list(table["state"]) == ["COMPLETE"] * 2 + ["PRUNED", "FAIL"]
    assert list(table["params_optimizer.lr"][:2]) == [1e-4, 2e-4] and table["value"][1] == 0.9
    assert str(tmp_path) not in text and "secret" not in text


def test_pruned_trials_are_told_from_complete_ones(make):
    study = make(3)
    trials = study.trials[:5]
    figure = intermediate_values(trials, trials[1], "v")
    assert [(trace.name, trace.line.dash, trace.marker.symbol) for trace in figure.data] == [
        ("pruned", "dot", "x"),
        ("failed", "dot", "x"),
        ("complete", None, "circle"),
        ("complete", None, "circle"),
        ("best", None, "circle"),
    ]
    assert list(figure.data[0].x) == [1, 2] and list(figure.data[0].y) == [0.3, 0.25]
    assert [last_value(trial) for trial in trials] == [0.5, 0.9, 0.52, 0.25, None]


@pytest.mark.parametrize(("maximize", "line"), [(True, [0.5, 0.9, 0.9, 0.9]), (False, [0.5] * 4)])
def test_history_keeps_the_best_so_far_in_the_studys_direction(make, maximize, line):
    figure = optimization_history(make(3).trials[:5], maximize, "v")
    assert list(figure.data[0].y) == line and list(figure.data[0].x) == [0, 1, 2, 4]
    assert list(figure.data[1].x) == [0, 1, 2] and list(figure.data[2].x) == [3]


def test_slices_have_the_axis_of_their_parameter(make):
    trials = make(3).trials[:4]
    figure = slices(trials, trials[1], "v")
    kinds = {figure.layout[axis].title.text: figure.layout[axis].type for axis in ("xaxis", "xaxis2")}
    assert kinds == {"optimizer.lr": "log", "model.kind": "category"}
    assert list(figure.layout.xaxis.tickvals) == pytest.approx([1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3])
    assert figure.layout.yaxis.title.text == "v"
    assert figure.layout.xaxis.range == pytest.approx((-4.05, -2.95)) and figure.layout.xaxis2.range == (-0.5, 1.5)
    assert "model.kind &lt;script&gt;" in figure.data[0].hovertext[0]  # plotly takes some markup in these
    assert figure.layout.xaxis2.categoryarray[1].startswith("&lt;script")


def test_a_sweep_calls_it_by_name():
    from hydra.utils import instantiate

    from conveyorguard.config.compose import whitelist

    target = {"_target_": "conveyorguard.reporting.study_page.write_study_page", "_partial_": True}
    assert instantiate(target, _execution_whitelist_=whitelist()).func is study_page.write_study_page
