"""A signal ends a command as an outcome of its own: exit status, provenance, and how to go on."""

import json
import signal

import pytest

from conveyorguard.system.interruption import Interrupted, interruptible
from tests.sweeps.real import Trainer, wait_for

pytestmark = pytest.mark.promise(
    "crashes", "A training that Ctrl-C or SIGTERM ends exits with 130 or 143 and says how to go on."
)
LONG = ["trainer.max_epochs=5000", "patience=5000"]


@pytest.fixture
def trainer(tmp_path, cache):
    return Trainer(tmp_path, cache)


def status_of(run):
    return json.loads((run / "provenance.json").read_text(encoding="utf-8"))["status"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_raises_with_the_status_of_shells_and_the_handler_returns(number):
    before = signal.signal(number, signal.SIG_DFL)  # another test's library may have set one
    try:
        with pytest.raises(Interrupted, match=number.name) as caught, interruptible():
            signal.raise_signal(number)
        assert caught.value.status == 128 + number and signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)


def test_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_training_exits_with_the_signal_and_goes_on_from_its_last_epoch(trainer, number):
    process = trainer.start(*LONG, "hydra.run.dir=run")
    last = trainer.folder / "run" / "checkpoints" / "last.ckpt"
    wait_for(last.exists)
    process.send_signal(number)
    assert process.wait(timeout=120) == 128 + number and not trainer.living()
    printed = (trainer.folder / "output.txt").read_text()
    assert f"interrupted by {number.name}; go on with: python train.py ckpt_path={last}" in printed
    assert "Traceback" not in printed and status_of(trainer.folder / "run") == "interrupted"


@pytest.mark.slow
def test_interrupted_trees_say_that_there_is_nothing_to_go_on_from(trainer):
    process = trainer.start("model=lightgbm", "model.n_estimators=100000", "hydra.run.dir=run")
    wait_for((trainer.folder / "run" / "ranges.json").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143 and status_of(trainer.folder / "run") == "interrupted"
    assert "start it again" in (trainer.folder / "output.txt").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("words", [[], ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]], ids=["basic", "joblib"])
def test_interrupted_grid_starts_no_further_job_and_leaves_no_worker(trainer, words):
    process = trainer.start("-m", *words, "seed=0,1,2", *LONG, "hydra.sweep.dir=grid")
    wait_for((trainer.folder / "grid/0/checkpoints/last.ckpt").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    wait_for(lambda: not trainer.living())
    assert not (trainer.folder / "grid/2").exists()


@pytest.mark.slow
def test_interrupted_training_of_several_processes_ends_all_of_them(trainer):
    process = trainer.start("trainer=ddp_cpu", *LONG, "hydra.run.dir=run")
    wait_for((trainer.folder / "run" / "history.csv").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143 and status_of(trainer.folder / "run") == "interrupted"
    wait_for(lambda: not trainer.living())


@pytest.mark.slow
def test_interrupted_best_ends_its_workers(trainer):
    trainer.program = ["-m", "conveyorguard", "best"]
    process = trainer.start("workers=2", "out=best")
    wait_for(lambda: list((trainer.folder / "best").glob("folds/*/fold*/provenance.json")))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 143
    wait_for(lambda: not trainer.living())
