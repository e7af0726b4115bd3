"""Sweeps that are refused, and folders and names with special characters."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from optuna.trial import TrialState

from conveyorguard.sweeps.sweeper import StudySweeper
from tests.sweeps.toy import finished, start, sweep, trials


def test_invalid_sweep_lists_all_errors_with_remedies(toy: Path) -> None:
    output = sweep(
        toy,
        "seed=0,1",
        "group=a,b",
        "sweep.direction=up",
        "sweep.workers=0",
        "hydra/sweeper/sampler=grid",
        "sweep.pruner={_target_:os.system}",
        "x=glob(*)",
        "hydra/launcher=joblib",
        code=1,
    )
    assert output.startswith("Nothing was started:")
    for part in (
        "Set seed=0,",
        "Set group=a,",
        "direction=up is unknown: use minimize or maximize",
        "workers=0: set 1 or more",
        "sampler=grid",
        "the pruner cannot be built",
        "hydra/launcher=joblib: a study starts its trials itself. Set sweep.workers=N",
        "x=glob(*): not a search space",
    ):
        assert part in output, part
    assert not (toy / "studies").exists()


def test_sweep_is_refused_where_there_are_no_process_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "killpg")
    with pytest.raises(SystemExit, match=r"(?s)^Nothing was started:.*POSIX process groups.*run it on Linux or macOS$"):
        StudySweeper(folder=str(tmp_path / "study"), storage=None).sweep([])
    assert not (tmp_path / "study").exists()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sweep.params=null"], "the search space is empty: add for example"),
        (["+y.z=choice(1,2)", "missing=choice(1,2)"], "Could not override 'missing'"),
        (["sweep.validate=__main__.check", "layers=choice(1,3)"], "no layers=3 here: write 1 or 2"),
        (["sweep.n_trials=4,5"], "a study does not tune sweep.n_trials"),
    ],
)
def test_invalid_override_is_refused_before_anything_starts(toy: Path, overrides: list[str], message: str) -> None:
    output = sweep(toy, *overrides, code=1)
    assert message in output
    assert not (toy / "studies").exists()


def test_study_with_other_settings_is_refused(toy: Path) -> None:
    sweep(toy, "sweep.n_trials=2", "seconds=0", "steps=1")
    journal = toy / "studies/toy/journal.log"
    before = journal.read_bytes()
    output = sweep(
        toy,
        "sweep.n_trials=1",
        "seed=1",
        "group=a",
        "sweep.direction=minimize",
        "layers=choice(1,3)",
        "word=choice(a,b)",
        "+more=1",
        code=1,
    )
    for part in (
        "n_trials=1, but 2 trials have finished: set 2 or more",
        "seed=1, but the study was started with seed=0",
        "group=a, but the study was started with group=b",
        "direction=minimize, but",
        "layers: the study searches",
        "word=tuned, but the study was started with word=plain",
        "more=1, but the study was started with more=nothing",
    ):
        assert part in output, part
    assert "group.one" not in output and "group.two" not in output  # the group itself is listed
    assert "layers=2, but the study was started with layers=tuned" in sweep(toy, "layers=2", code=1)
    assert journal.read_bytes() == before
    sweep(toy, "sweep.n_trials=3", "seconds=0", "steps=2", "seed=1", "sweep.free=[se*,steps]")
    assert len(trials(toy)) == 3
    journal.unlink()
    output = sweep(toy, code=1)
    assert f"{toy}/studies/toy/2 exists, but the storage has 0 trials" in output
    assert not journal.exists()


@pytest.mark.slow
def test_two_different_sweeps_started_in_one_folder_leave_one_refused(toy: Path) -> None:
    both = [
        start(toy, "sweep.n_trials=2", "sweep.pruner=null", "seconds=1", f"word={word}") for word in ("left", "right")
    ]
    outputs = [process.communicate(timeout=300)[0] for process in both]
    assert sorted(process.returncode for process in both) == [0, 1], outputs
    (refused,) = [output for output in outputs if "but the study was started with word=" in output]
    assert "Nothing was started:" in refused and "trial  " not in refused
    words = {OmegaConf.load(path).word for path in toy.glob("studies/toy/*/.hydra/config.yaml")}
    assert len(words) == 1 and len(finished(trials(toy))) == 2


@pytest.mark.slow
def test_sweep_runs_in_folder_of_any_name(toy: Path) -> None:
    there = toy.rename(toy.with_name("공장 1호기, it's [a] {b} $x=1"))
    sweep(there, "sweep.n_trials=2", "sweep.study='이송 장치'", "seconds=0", "sweep.pruner=null")
    assert [trial.state for trial in trials(there, "이송 장치")] == [TrialState.COMPLETE] * 2
    sqlite = f"sweep.storage='sqlite:///{there}/x.db'".replace("it's", "it\\'s")
    sweep(there, "sweep.n_trials=1", sqlite, "seconds=0", "sweep.pruner=null")
    assert (there / "x.db").exists()


@pytest.mark.slow
def test_trial_with_removed_directory_stays_counted(toy: Path) -> None:
    sweep(toy, "sweep.n_trials=3", "seconds=0", "sweep.pruner=null")
    for number in (1, 2):
        shutil.rmtree(toy / "studies/toy" / str(number))
    output = sweep(toy, "sweep.n_trials=4", "seconds=0", "sweep.pruner=null")
    assert "4 COMPLETE, 0 PRUNED, 0 FAILED" in output and (toy / "studies/toy/3/trial.json").exists()
    assert not (toy / "studies/toy/2").exists()


def test_unusable_storage_is_refused_by_name(toy: Path) -> None:
    journal = toy / "studies/toy/journal.log"
    sweep(toy, "sweep.n_trials=2", "seconds=0")
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:3], lines[3][:20] + b"\n", *lines[4:]]))
    damaged = journal.read_bytes()
    output = sweep(toy, code=1)
    assert f"storage={journal}: not an Optuna journal, or damaged" in output and "Traceback" not in output
    assert journal.read_bytes() == damaged
    output = sweep(
        toy, "sweep.storage='nosuch://me:secret@host/x'", "sweep.folder=studies/b", "sweep.workers=0", code=1
    )
    assert "storage=nosuch://me:***@host/x: cannot be opened" in output and "workers=0: set 1" in output
    assert not (toy / "studies/b").exists()


def test_binding_key_of_the_sweep_may_not_change(toy: Path) -> None:
    """A key of the sweep's own may, and null is not recorded: older studies, which lack the key, go on."""
    binding = ["+sweep.binding=[sweep.folds]", "sweep.n_trials=1"]
    sweep(toy, *binding, "+sweep.folds=null")
    output = sweep(toy, *binding, "+sweep.folds=3", code=1)
    assert "sweep.folds=3, but the study was started with sweep.folds=nothing" in output
    sweep(toy, *binding, "+sweep.folds=null", "+sweep.other=3")
