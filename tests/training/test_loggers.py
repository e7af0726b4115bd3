"""What W&B, TensorBoard and MLflow record of a run, read from the files they write."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
import wandb
from omegaconf import OmegaConf
from wandb.proto import wandb_internal_pb2

from conveyorguard.commands import train as job
from conveyorguard.config.checks import check, resolve_window_of
from conveyorguard.config.saved import plain_values
from conveyorguard.errors import ConfigError
from conveyorguard.metrics.scores import METRICS
from conveyorguard.sweeps.trial import current_trial
from conveyorguard.system.files import read_json
from conveyorguard.training import loggers
from conveyorguard.training.loggers import Job, JobLoggers, has_key

pytestmark = pytest.mark.promise(
    "security",
    "Pages show no absolute path and no value of the environment. No file of a run holds a key. A config "
    "that holds a key, token or password is refused.",
)

KEY = "0123456789abcdef" * 5
SMALLEST = ("modality=sensor", "trainer.max_epochs=1")


def records(path):
    """Yield the records of a .wandb file: a LevelDB log of protocol buffers in 32 KiB blocks after a 7-byte header."""
    data, at, record = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            yield wandb_internal_pb2.Record.FromString(record)
            record = b""


def named(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def read_wandb(folder):
    """Return the single W&B run of a run directory."""
    (path,) = (folder / "wandb").glob("offline-run-*/*.wandb")
    run = SimpleNamespace(config={}, history=[], summary={}, artifacts={}, exit=None)
    for record in records(path):
        match record.WhichOneof("record_type"):
            case "run":
                run.run = record.run
            case "config":
                run.config |= named(record.config.update)
            case "history":
                run.history.append(named(record.history.item))
            case "summary":
                run.summary |= named(record.summary.update)
            case "artifact":
                files = {file.path: Path(file.local_path) for file in record.artifact.manifest.contents}
                run.artifacts.setdefault(record.artifact.type, {}).update(files)
            case "exit":
                run.exit = record.exit.exit_code
    run.keys = {key for row in run.history for key in row}
    run.files = path.parent / "files"
    return run


def assert_complete(folder):
    """Check that a finished run's W&B run matches its run directory, and return the W&B run."""
    run, metrics = read_wandb(folder), read_json(folder / "metrics.json")
    assert run.exit == 0 and run.summary["status"] == "complete"
    assert {"train/loss", "val/loss", "val/macro_f1", "epoch"} <= run.keys
    deployed = metrics.pop("now")
    for part, values in {**metrics, **{f"now_{part}": values for part, values in deployed.items()}}.items():
        for name in METRICS:
            assert run.summary.get(f"final/{part}/{name}") == values[name]
        for row in values["per_class"]:
            assert run.summary[f"final/{part}/recall/{row['class']}"] == row["recall"]
        tables = [key for key in run.keys if key.startswith(f"final/{part}/per_class")]
        assert tables
        (table,) = run.files.glob(f"media/table/final/{part}/per_class_*.table.json")
        table = json.loads(table.read_text())
        assert [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] == values["per_class"]
        (chart,) = run.files.glob(f"media/table/Custom Chart Tables/final/{part}/confusion_table_*.table.json")
        counts = {(actual, predicted): n for actual, predicted, n in json.loads(chart.read_text())["data"]}
        names = [row["class"] for row in values["per_class"]]
        assert [[counts[a, p] for p in names] for a in names] == values["confusion"]
    assert run.artifacts["model"] == {"best.ckpt": (folder / "checkpoints" / "best.ckpt").absolute()}
    assert run.artifacts["predictions"] == {"predictions.parquet": (folder / "predictions.parquet").absolute()}
    for files in run.artifacts.values():  # everything waiting for upload is in the run directory
        assert all(path.is_relative_to(folder.absolute()) and path.is_file() for path in files.values())
    config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    assert {name: run.config[name] for name in config} == config
    return run


@pytest.fixture
def no_key(monkeypatch, tmp_path):
    """A machine on which W&B was never set up; its home directory."""
    for name in (
        "WANDB_API_KEY",
        "WANDB_IDENTITY_TOKEN_FILE",
        "WANDB_MODE",
        "WANDB_BASE_URL",
        "WANDB_DATA_DIR",
        "NETRC",
    ):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    wandb.teardown()  # W&B reads the environment once
    yield tmp_path / "home"
    wandb.teardown()


@pytest.fixture
def in_trial(monkeypatch, tmp_path):
    """Make this process trial 7 of a sweep."""
    folder = tmp_path / "trial"
    folder.mkdir()
    for name, value in {"DIR": folder, "NUMBER": 7, "ID": 7}.items():
        monkeypatch.setenv(f"SWEEP_TRIAL_{name}", str(value))
    monkeypatch.setenv("SWEEP_STUDY", "fusion-sensor")


def test_job_name_holds_model_modality_film_seed_and_fold(compose, tmp_path):
    cfg = compose("modality=image", "film=false", "seed=3", "split=kfold", "split.fold=2")
    resolve_window_of(cfg)
    job = Job.of(plain_values(cfg), tmp_path)
    assert job.tags == ["fusion", "image", "no-film", "seed=3", "fold=2"]
    assert (job.name, job.group) == ("fusion-image-no-film-seed3-fold2", None)
    assert job.config["cell"] == "fusion image no-film" and job.config["window"]["stride"] == 10


def test_trial_is_named_by_number_and_grouped_by_study(compose, tmp_path, in_trial):
    job = Job.of(plain_values(compose()), tmp_path)
    assert job.name == "fusion-both-film-seed0-trial7"
    assert (job.group, job.config["trial"]) == ("fusion-sensor", 7)


@pytest.mark.parametrize(
    "folder, name", [("multirun/2026-01-02/03-04-05", "2026-01-02-03-04-05"), ("multirun/ablation", "ablation")]
)
def test_multirun_jobs_are_grouped_by_multirun_directory(folder, name, monkeypatch):
    hydra = SimpleNamespace(mode=job.RunMode.MULTIRUN, sweep=SimpleNamespace(dir=folder))
    monkeypatch.setattr(job, "HydraConfig", SimpleNamespace(initialized=lambda: True, get=lambda: hydra))
    assert job.multirun_name() == name
    hydra.mode = job.RunMode.RUN
    assert job.multirun_name() is None


@pytest.mark.parametrize(
    "overrides",
    [["logger=wandb", f"+logger.api_key={KEY}"], ["logger=mlflow", f"logger.tracking_uri='https://me:{KEY}@plant/'"]],
)
def test_key_in_config_is_refused_and_not_repeated(overrides, compose):
    with pytest.raises(ConfigError, match=r"logger\.(api_key|tracking_uri): a config is saved") as error:
        check(compose(*overrides))
    assert KEY not in str(error.value)


def test_key_is_read_from_netrc_or_environment(no_key, monkeypatch):
    assert not has_key("https://plant.example")
    netrc = no_key / ".netrc"
    netrc.write_text(f"machine plant.example login user password {KEY}\n")
    assert has_key("https://plant.example") and not has_key("https://other.example")
    netrc.write_text("")
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    assert has_key("https://plant.example")


@pytest.mark.parametrize("key, mode, expected", [(None, None, "offline"), (KEY, None, None), (KEY, "offline", None)])
def test_wandb_is_offline_only_without_key_and_mode(key, mode, expected, no_key, monkeypatch, compose, tmp_path):
    for name, value in {"WANDB_API_KEY": key, "WANDB_MODE": mode}.items():
        if value:
            monkeypatch.setenv(name, value)
    (logger,) = JobLoggers(plain_values(compose("logger=wandb")), tmp_path)
    assert logger._wandb_init["mode"] == expected
    assert not list(tmp_path.glob("wandb"))  # nothing starts before the run directory does


def test_disabled_wandb_writes_nothing(no_key, monkeypatch, train_run):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    folder = train_run("logger=wandb", *SMALLEST)
    assert (folder / "metrics.json").exists() and not list(folder.glob("wandb/*run*"))


@pytest.mark.parametrize("name, remedy", [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_missing_logger_package_is_named_with_pip_command(name, remedy, compose, monkeypatch, tmp_path):
    monkeypatch.setattr(loggers, "find_spec", lambda package: None)
    with pytest.raises(ConfigError, match=rf"pip install 'conveyorguard\[{remedy}\]'"):
        JobLoggers(plain_values(compose(f"logger={name}")), tmp_path)


@pytest.mark.slow
def test_failed_job_ends_its_wandb_run_and_the_next_job_starts_another(no_key, monkeypatch, train_run, tmp_path):
    def crash(*arguments):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr("conveyorguard.commands.train.fit_by_settings", crash)
        with pytest.raises(ZeroDivisionError):
            train_run("logger=wandb", *SMALLEST)
    failed = read_wandb(tmp_path / "run0")
    assert failed.exit == 1 and failed.summary["status"] == "failed" and failed.config["modality"] == "sensor"
    following = assert_complete(train_run("logger=wandb", *SMALLEST))
    assert following.run.run_id != failed.run.run_id
    assert not list(no_key.rglob("staging"))


def test_pruned_trial_ends_its_wandb_run_as_pruned(no_key, in_trial, monkeypatch, train_run):
    def prune(*arguments):
        current_trial().finish("PRUNED", 0.2)

    monkeypatch.setattr("conveyorguard.commands.train.fit_by_settings", prune)
    run = read_wandb(train_run("logger=wandb", *SMALLEST))
    assert run.exit == 0 and run.summary["status"] == "pruned"
    assert run.run.run_group == "fusion-sensor" and run.config["trial"] == 7 and "trial=7" in run.run.tags
    assert run.run.job_type == "trial"


def read_tensorboard(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    return {name: [event.value for event in events.Scalars(name)] for name in events.Tags()["scalars"]}, events


def test_tensorboard_records_curves_final_metrics_and_settings(train_run):
    folder = train_run("logger=tensorboard", "modality=sensor")
    scalars, events = read_tensorboard(folder)
    assert len(scalars["val/macro_f1"]) == len(scalars["train/loss"]) == 2
    metrics = read_json(folder / "metrics.json")
    assert scalars["final/test/macro_f1"] == [pytest.approx(metrics["test"]["macro_f1"])]
    assert scalars["final/val/recall/minor"] == [pytest.approx(metrics["val"]["per_class"][1]["recall"])]
    settings = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"window/stride" in settings and b"cell" in settings


def read_mlflow(database):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{database}")
    experiment = client.get_experiment_by_name("conveyorguard")
    return client, client.search_runs([experiment.experiment_id])


@pytest.mark.slow
def test_mlflow_records_curves_final_metrics_settings_and_failure(train_run, monkeypatch, tmp_path):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    folder = train_run("logger=mlflow", "modality=sensor")
    with monkeypatch.context() as patch:
        patch.setattr("conveyorguard.commands.train.load_windows", lambda cfg: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train_run("logger=mlflow", "modality=sensor", "seed=1")
    client, runs = read_mlflow("mlruns/mlflow.db")
    failed, run = runs
    assert failed.info.status == "FAILED" and failed.data.tags["seed"] == "1"
    assert run.info.status == "FINISHED" and run.info.run_name == "fusion-sensor-film-seed0"
    assert len(client.get_metric_history(run.info.run_id, "val/macro_f1")) == 2
    assert run.data.metrics["final/test/nll"] == read_json(folder / "metrics.json")["test"]["nll"]
    assert run.data.params["window/stride"] == "10" and run.data.params["cell"] == "fusion sensor film"


@pytest.mark.slow
def test_two_multirun_jobs_make_two_wandb_runs_without_leaking_the_key(command, no_key, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    done = command("-m", "logger=wandb", *SMALLEST, "film=true,false", "hydra.sweep.dir=cells")
    runs = [assert_complete(tmp_path / "cells" / number) for number in "01"]
    assert len({run.run.run_id for run in runs}) == 2
    assert [run.run.display_name for run in runs] == ["fusion-sensor-film-seed0", "fusion-sensor-no-film-seed0"]
    tags = [["fusion", "sensor", film, "seed=0"] for film in ("film", "no-film")]
    assert [list(run.run.tags) for run in runs] == tags
    assert {run.run.run_group for run in runs} == {"cells"} and {run.run.project for run in runs} == {"conveyorguard"}
    assert "wandb:" not in done.stdout + done.stderr and KEY not in done.stdout + done.stderr
    assert "wandb sync cells/1/wandb/offline-run-" in done.stderr
    files = [path for path in tmp_path.rglob("*") if path.is_file()]  # of the runs and the home directory
    assert len(files) > 40 and not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not (tmp_path / "home" / ".local").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "tensorboard", "mlflow"])
def test_two_ddp_processes_make_one_run(name, command, no_key, tmp_path):
    command(f"logger={name}", *SMALLEST, "trainer=ddp_cpu", "trainer.max_epochs=2", "hydra.run.dir=run")
    folder = tmp_path / "run"
    loss = read_json(folder / "metrics.json")["val"]["nll"]
    if name == "wandb":
        run = assert_complete(folder)
        steps = [row["trainer/global_step"] for row in run.history if "train/loss" in row]
        assert len(steps) == 2 and steps[0] < steps[1]
        assert [row["_step"] for row in run.history] == sorted({row["_step"] for row in run.history})
    elif name == "tensorboard":
        scalars, _ = read_tensorboard(folder)
        assert len(scalars["train/loss"]) == 2 and scalars["final/val/nll"] == [pytest.approx(loss)]
    else:
        client, (run,) = read_mlflow(tmp_path / "mlruns" / "mlflow.db")
        assert len(client.get_metric_history(run.info.run_id, "train/loss")) == 2
        assert run.data.metrics["final/val/nll"] == loss and run.info.status == "FINISHED"


@pytest.mark.slow
def test_sweep_trials_are_grouped_and_have_no_test_metrics(command, no_key, tmp_path):
    command("-m", "sweep=optuna", "model=fusion", "logger=wandb", *SMALLEST, "sweep.n_trials=2")
    (study,) = (tmp_path / "studies").iterdir()
    runs = [assert_complete(study / number) for number in "01"]
    assert [run.config["trial"] for run in runs] == [0, 1] and {run.run.run_group for run in runs} == {study.name}
    assert runs[0].config["model"]["dropout"] != runs[1].config["model"]["dropout"] or (
        runs[0].config["optimizer"]["lr"] != runs[1].config["optimizer"]["lr"]
    )
    assert not [key for run in runs for key in run.keys if key.startswith("final/test")]


@pytest.mark.slow
def test_unreachable_server_is_an_error_with_remedy(command, no_key, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "3")
    done = command("logger=wandb", *SMALLEST, expect=2)
    assert "WANDB_MODE=offline" in done.stderr and "Traceback" not in done.stderr
