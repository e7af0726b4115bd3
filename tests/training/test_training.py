"""Training as a user starts it: determinism, resuming, two processes, refusals."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from conveyorguard.commands.train import train, unfinished
from conveyorguard.config.checks import check, sweep_problems
from conveyorguard.config.compose import build, compose_config
from conveyorguard.config.saved import merge_saved
from conveyorguard.data.datamodule import BatchSampler
from conveyorguard.errors import ConfigError
from conveyorguard.models.fusion import Fusion
from conveyorguard.training.callbacks import moving_average
from conveyorguard.training.loss import WindowLoss, class_weight
from conveyorguard.training.module import WindowClassifier
from conveyorguard.training.setup import device_name
from tests.support.places import ROOT


def predictions(run):
    return pd.read_parquet(run / "predictions.parquet")


def test_repeated_training_gives_identical_predictions_and_another_seed_does_not(train_run):
    first, again, other = (train_run(seed, "trainer.max_epochs=1") for seed in ("seed=3", "seed=3", "seed=4"))
    assert predictions(first).equals(predictions(again))
    assert not predictions(first).equals(predictions(other))
    assert predictions(first)["y_true"].equals(predictions(other)["y_true"]), "the split does not depend on the seed"


@pytest.mark.promise(
    "crashes", "After an interruption the same command ends with the weights of an uninterrupted training, bit for bit."
)
@pytest.mark.parametrize(
    ("model", "resume"),
    [
        ("fusion", "in this process"),
        pytest.param("fusion", "the same command", marks=pytest.mark.slow),
        pytest.param("cnn_transformer", "ckpt_path", marks=pytest.mark.slow),
    ],
)
def test_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    model, resume, command, compose, tmp_path, cache
):
    arguments = [f"model={model}", "modality=sensor", "trainer.max_epochs=6"]
    train(compose(*arguments), tmp_path / "whole", arguments)
    killed = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, *_train_line(arguments), f"hydra.run.dir={killed}"],
        cwd=tmp_path,
        env={**os.environ, "CONVEYORGUARD_CACHE": str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    last = killed / "checkpoints" / "last.ckpt"
    deadline = time.time() + 120
    while not (last.exists() and (killed / "history.csv").exists() and len(pd.read_csv(killed / "history.csv")) >= 2):
        assert process.poll() is None and time.time() < deadline, process.communicate()[0]
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (killed / "metrics.json").exists(), "killed too late: the run has finished"
    if resume == "in this process":
        train(compose(*arguments), killed, arguments)
    else:
        out = command(*arguments, f"ckpt_path={last}" if resume == "ckpt_path" else f"hydra.run.dir={killed}")
        assert out.stdout.strip().splitlines()[-1] == str(killed)
    assert json.loads((killed / "provenance.json").read_text())["resumed_from"] == "last.ckpt"
    weights = [torch.load(r / "checkpoints" / "last.ckpt", weights_only=True) for r in (tmp_path / "whole", killed)]
    assert weights[0]["epoch"] == weights[1]["epoch"] == 5
    for name, tensor in weights[0]["state_dict"].items():
        assert torch.equal(tensor, weights[1]["state_dict"][name]), name
    assert predictions(tmp_path / "whole").equals(predictions(killed))
    histories = [pd.read_csv(r / "history.csv").drop(columns="seconds") for r in (tmp_path / "whole", killed)]
    pd.testing.assert_frame_equal(*histories)


def _train_line(arguments):
    small = ["data=simulated", "data.sessions=12", "trainer=cpu", "trainer.max_epochs=2", "threads=1"]
    return [str(ROOT / "train.py"), *small, *arguments]


@pytest.mark.slow
def test_two_processes_train_like_one(command, compose, tmp_path):
    """Without randomness the gradients of 32 + 32 windows average to those of 64; metrics count each window once."""
    arguments = [
        "model.dropout=0",
        "model.sequence_drop=0",
        "modality=sensor",
        "augment=none",
        "mixup=0",
        "loss.worst_weight=1",
        "average=null",
    ]
    train(compose(*arguments), tmp_path / "one", arguments)
    command(*arguments, "trainer=ddp_cpu", f"hydra.run.dir={tmp_path / 'two'}")
    history, ddp_history = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two"))
    assert np.allclose(
        history[["train/loss", "val/loss", "val/macro_f1"]],
        ddp_history[["train/loss", "val/loss", "val/macro_f1"]],
        atol=2e-3,
    )
    a, b = predictions(tmp_path / "one"), predictions(tmp_path / "two")
    assert len(a) == len(b) and np.allclose(a[["p0", "p1", "p2", "p3"]], b[["p0", "p1", "p2", "p3"]], atol=5e-3)


def test_missing_gpus_are_refused_before_training(compose):
    if torch.cuda.device_count() >= 2:
        pytest.skip("this machine has the devices")
    with pytest.raises(ConfigError, match=r"trainer=ddp_2xT4 needs 2 CUDA devices, this machine has \d: use trainer="):
        check(compose("trainer=ddp_2xT4"))


def test_moving_average_forgets_early_steps_faster_and_copies_counters():
    for count, kept in ((5, 6 / 15), (10_000, 0.98)):
        averages, counters = [torch.ones(2), torch.full((1,), 3.0)], [torch.tensor(1)]
        moving_average(averages, [torch.zeros(2), torch.full((1,), 2.0)], torch.tensor(count), decay=0.98)
        moving_average(counters, [torch.tensor(7)], torch.tensor(count), decay=0.98)
        torch.testing.assert_close(averages, [torch.full((2,), kept), torch.full((1,), 2 + kept)])
        assert int(counters[0]) == 7


def test_device_name_is_cpu_for_cpu_trainer_and_trees_beside_a_gpu(compose, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: "NVIDIA H100")
    for overrides, name in ((["trainer=cpu"], "cpu"), (["model=lightgbm"], "cpu"), (["trainer=auto"], "NVIDIA H100")):
        assert device_name(compose(*overrides)) == name


@pytest.mark.parametrize(
    ("trainer", "workers", "fits"), [("ddp_2xT4", 2, True), ("ddp_2xT4", 3, False), ("gpu", 9, True)]
)
def test_sweep_with_more_workers_than_gpus_allow_is_refused(trainer, workers, fits, compose, monkeypatch):
    import conveyorguard.sweeps.sweeper  # noqa: F401  registers its settings

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    cfg = compose("sweep=optuna", "model=fusion", f"trainer={trainer}", f"sweep.workers={workers}")
    wrong = [] if fits else ["sweep.workers=3 share 4 GPUs, a trial needs 2: write sweep.workers=2"]
    assert sweep_problems({}, [], cfg) == wrong


def test_all_config_errors_are_reported_at_once(compose):
    cfg = compose(
        "window.size=0",
        "window.label=first",
        "window.thermal_frames=40",
        "objective=val/f2",
        "batch_size=0",
        "film=maybe",
        "model=cnn_transformer",
        "model.num_heads=7",
    )
    with pytest.raises(ConfigError) as error:
        check(cfg)
    text = str(error.value)
    assert text.count("\n  - ") == 7, text
    assert "val/macro_f1" in text and "majority" in text and "does not divide" in text


def test_missing_data_root_names_the_setting_to_add():
    with pytest.raises(ConfigError, match=r"add data\.root=PATH"):
        check(compose_config(["data=aihub"]))


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.run", "builtins.eval", "conveyorguard.system.files.os.system"]
)
def test_target_outside_whitelist_is_refused_and_not_run(target, compose, tmp_path, monkeypatch):
    cfg = compose()
    marker = tmp_path / "executed"
    cfg.scaling = {"_target_": target, "_args_": [f"touch {marker}"]}
    with pytest.raises(ConfigError, match="whitelist"):
        build(cfg.scaling)
    monkeypatch.setenv("CONVEYORGUARD_WHITELIST", "other.*")
    with pytest.raises(ConfigError):
        build(cfg.scaling)
    assert not marker.exists()


def test_environment_variable_extends_the_whitelist(compose, monkeypatch):
    cfg = compose()
    cfg.scaling = {"_target_": "fractions.Fraction", "_args_": [3, 4]}
    with pytest.raises(ConfigError, match="CONVEYORGUARD_WHITELIST"):
        build(cfg.scaling)
    monkeypatch.setenv("CONVEYORGUARD_WHITELIST", "fractions.Fraction")
    assert float(build(cfg.scaling)) == 0.75


def test_saved_config_takes_value_overrides_and_refuses_groups(compose):
    saved = compose()
    assert merge_saved(saved, ["seed=5", "model.width=32"], {}).model.width == 32
    for wrong in ("model=cnn_transformer", "no.such=1"):
        with pytest.raises(ConfigError):
            merge_saved(saved, [wrong], {})


def test_optimizer_step_shrinks_sparse_weights(schema):
    """Without a gradient the optimizer's own step moves nothing, so all shrinking is the hook's."""
    model = Fusion(schema, ["sensors"], bins=4, sparsity=2.0)
    module = WindowClassifier(model, nn.Identity(), nn.Identity(), partial(torch.optim.SGD, lr=0.05), 5, 4, 0)
    optimizer = module.configure_optimizers()["optimizer"]
    weight = model.statistics.linear.weight
    norms = lambda: weight.detach().view(len(weight), -1, 4).norm(dim=(0, 2))  # noqa: E731
    before = norms()
    optimizer.step()
    torch.testing.assert_close(before - norms(), torch.full_like(before, 2.0 * 0.05))


def test_balanced_class_weights_equal_those_of_the_seed_study():
    weights = class_weight(np.array([3623, 1691, 1663, 404]))
    assert weights.sum() == pytest.approx(4)
    assert weights.numpy() == pytest.approx(np.array([0.28, 0.60, 0.61, 2.51]), abs=0.01)
    assert class_weight(np.array([5, 0, 5, 5]))[1] == 0


@pytest.mark.parametrize(
    ("severe", "enough", "weight"),
    [
        (400, 320, 1),
        (320, 320, 1),
        (160, 320, 2),
        (90, 320, 320 / 90),
        (20, 320, 4),
        (0, 320, 0),
        (400, 0, 4),
        (20, 0, 4),
    ],
)
def test_extra_weight_of_worst_state_fades_as_its_windows_grow(severe, enough, weight):
    loss = WindowLoss(np.array([1000, 500, 500, severe]), "none", worst_weight=4.0, worst_enough=enough)
    assert loss.weights[3] / loss.weights[0] == pytest.approx(weight)
    assert (loss.weights[:3] == loss.weights[0]).all()


def test_impossible_loss_settings_are_refused():
    with pytest.raises(ValueError, match=r"loss\.worst_enough=-1: must be a number of windows"):
        WindowLoss(np.ones(4), worst_enough=-1)
    with pytest.raises(ValueError, match=r"loss\.class_weights=heavy: must be one of balanced, sqrt, none"):
        WindowLoss(np.ones(4), "heavy")


def test_second_weight_adds_the_loss_of_the_seconds():
    counts, logits = (
        np.array([1, 1]),
        {"window": torch.tensor([[2.0, 0.0]]), "second": torch.tensor([[[0.0, 1.0], [0.0, 3.0]]])},
    )
    batch = {"window": torch.tensor([0]), "second": torch.tensor([[1, 1]])}
    window = np.log1p(np.exp(-2))
    second = (np.log1p(np.exp(-1)) + np.log1p(np.exp(-3))) / 2
    assert WindowLoss(counts, "none")(logits, batch).item() == pytest.approx(window, abs=1e-6)
    assert WindowLoss(counts, "none", 0.5)(logits, batch).item() == pytest.approx(window + 0.5 * second, abs=1e-6)


def test_batches_depend_on_seed_and_epoch_and_are_split_between_processes():
    def order(epoch, rank=0, world=1):
        sampler = BatchSampler(101, 16, seed=3, rank=rank, world=world)
        sampler.set_epoch(epoch)
        return [list(batch) for batch in sampler]

    assert order(0) == order(0) != order(1)
    assert sorted(i for batch in order(0) for i in batch) == list(range(101))
    both = [sorted(set(a) | set(b)) for a, b in zip(order(0, 0, 2), order(0, 1, 2), strict=True)]
    assert [set(b) for b in both[:-1]] == [set(b) for b in order(0)[:-1]]
    assert all(len(a) == len(b) for a, b in zip(order(0, 0, 2), order(0, 1, 2), strict=True))


@pytest.mark.slow
def test_six_jobs_write_six_complete_run_directories(command, tmp_path):
    done = command(
        "-m",
        "modality=sensor,image,both",
        "film=true,false",
        "trainer.max_epochs=1",
        f"hydra.sweep.dir={tmp_path / 'multi'}",
    )
    runs = sorted(path for path in (tmp_path / "multi").iterdir() if path.is_dir())
    assert [path.name for path in runs] == list("012345"), done.stdout
    cells = set()
    for run in runs:
        assert {p.name for p in run.iterdir()} >= {
            "config.yaml",
            "metrics.json",
            "predictions.parquet",
            "report.html",
            "history.csv",
        }
        p = json.loads((run / "provenance.json").read_text())
        assert p["status"] == "complete"
        cells.add(p["command"].split("modality=")[1].split(" trainer")[0])
    assert len(cells) == 6
    assert len({predictions(run)[["session", "start", "y_true"]].to_json() for run in runs}) == 1


def test_only_unfinished_training_of_the_same_config_and_code_is_resumed(compose, tmp_path, monkeypatch):
    arguments = ["modality=sensor", "trainer.max_epochs=2"]
    folder = tmp_path / "run"
    cfg = compose(*arguments)
    train(cfg, folder, arguments)
    assert unfinished(cfg, folder) is None, "finished"
    provenance = json.loads((folder / "provenance.json").read_text())
    (folder / "provenance.json").write_text(json.dumps({**provenance, "status": "running"}))  # as after kill -9
    assert unfinished(cfg, folder) == folder / "checkpoints" / "last.ckpt"
    assert unfinished(compose(*arguments, "seed=1"), folder) is None, "another config"
    (folder / "provenance.json").write_text(json.dumps({**provenance, "status": "running", "code": "0" * 16}))
    assert unfinished(cfg, folder) is None, "other code: its weights may not fit"
    (folder / "provenance.json").write_text(json.dumps({**provenance, "status": "running"}))
    (folder / "checkpoints" / "last.ckpt").unlink()
    assert unfinished(cfg, folder) is None and unfinished(cfg, tmp_path / "none") is None
