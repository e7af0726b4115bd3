"""Reproducing a run from its saved config: equal numbers, or the first input that differs by name."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from omegaconf import OmegaConf

from conveyorguard.cli import main
from conveyorguard.commands.train import train
from conveyorguard.config.compose import compose_config
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import read_json, write_json
from tests.support.places import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def reproduce(tmp_path, monkeypatch, capsys):
    """Run the verb in an empty folder; returns exit status, output and the new run directory."""

    def run(folder, *overrides):
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        try:
            status = main(["reproduce", str(folder), *overrides])
        except SystemExit as end:
            status = end.code
        captured = capsys.readouterr()
        folders = sorted((tmp_path / "outputs").glob("*/*"))
        return status, captured.out + captured.err, folders[-1] if folders else None

    return run


def edit_provenance(folder, **facts):
    write_json(folder / "provenance.json", {**read_json(folder / "provenance.json"), **facts})


def test_unchanged_run_is_equal_bit_for_bit(train_run, reproduce):
    run = train_run("modality=sensor")
    status, output, new = reproduce(run)
    assert status == 0 and "Equal, bit for bit" in output and "differs" not in output.replace("differ by", "")
    assert SavedRun(new).predictions.equals(SavedRun(run).predictions)


def test_run_with_other_settings_than_the_defaults_keeps_them(train_run, reproduce):
    run = train_run("modality=sensor", "model.width=24", "window.stride=15", "average=null")
    status, output, new = reproduce(run)
    assert status == 0, output
    assert SavedRun(new).config.model.width == 24


def test_other_seed_is_a_variation_and_not_equal(train_run, reproduce):
    status, output, _ = reproduce(train_run("modality=sensor"), "seed=1")
    assert status == 1 and "variation" in output and "The first input that differs: override seed" in output


def test_edited_config_is_named_first(train_run, reproduce):
    run = train_run("modality=sensor")
    config = OmegaConf.load(run / "config.yaml")
    config.data.seed = 1
    OmegaConf.save(config, run / "config.yaml")
    status, output, _ = reproduce(run)
    assert status == 1 and "The first input that differs: config.yaml was edited after the run" in output
    assert "differs: data fingerprint" in output and "Not equal" in output


def test_data_changed_on_disk_are_named_first(cache, reproduce, tmp_path):
    plant = tmp_path / "plant"
    assert main(["simulate", str(plant), "data.sessions=12", "data.archive=folder"]) == 0
    run = tmp_path / "run"
    settings = ["data=aihub", f"data.root={plant}", "modality=sensor", "trainer=cpu", "trainer.max_epochs=1"]
    train(compose_config([*settings, f"paths.cache={cache}"]), run, settings)
    assert reproduce(run)[0] == 0
    for path in sorted(plant.rglob("*.csv"))[:100]:
        head, row = path.read_text().splitlines()
        values = row.split(",")
        values[head.split(",").index("NTC")] = "99.9"
        path.write_text(f"{head}\n{','.join(values)}\n")
    status, output, _ = reproduce(run)
    assert status == 1 and "The first input that differs: data fingerprint" in output and "Not equal" in output


def test_changed_code_is_named_first(train_run, tmp_path):
    run = train_run("modality=sensor")
    copy = tmp_path / "copy"
    for name in ("conveyorguard", "conf"):
        shutil.copytree(ROOT / name, copy / name)
    env = {**os.environ, "PYTHONPATH": str(copy)}

    def reproduced():
        line = [sys.executable, "-m", "conveyorguard", "reproduce", str(run)]
        return subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=500)

    with (copy / "conveyorguard/models/film.py").open("a") as file:
        file.write("# a comment\n")
    same = reproduced()
    assert same.returncode == 0 and "The first input that differs: code" in same.stdout, same.stdout + same.stderr
    film = copy / "conveyorguard/models/film.py"
    assert "(gamma + 1)" in film.read_text()
    film.write_text(film.read_text().replace("(gamma + 1)", "(gamma + 2)"))
    other = reproduced()
    assert other.returncode == 1 and "The first input that differs: code" in other.stdout, other.stdout + other.stderr
    assert "Not equal." in other.stdout


def test_changed_versions_and_processor_are_named(train_run, reproduce):
    run = train_run("modality=sensor")
    versions = read_json(run / "provenance.json")["versions"]
    edit_provenance(run, versions={**versions, "torch": "1.0"}, processor="another")
    status, output, _ = reproduce(run)
    assert "The first input that differs: version of torch" in output and "processor: another ->" in output
    assert status == 0 and "Equal, bit for bit" in output  # the change did not alter the numbers


@pytest.mark.parametrize(
    ("facts", "status"), [({"processor": "another"}, 0), ({}, 1), ({"processor": "another", "split": "0" * 16}, 1)]
)
def test_nearly_equal_numbers_pass_where_only_the_stack_differs(train_run, reproduce, facts, status):
    run = train_run("modality=sensor")
    table = SavedRun(run).predictions
    table["p0"] = table["p0"] * 0.999
    table.to_parquet(run / "predictions.parquet", index=False)
    edit_provenance(run, **facts)
    exit_status, output, _ = reproduce(run)
    assert (exit_status, "Equal within the tolerance for another stack" in output) == (status, status == 0), output


def test_other_numbers_from_the_same_inputs_are_not_equal(train_run, reproduce):
    run = train_run("modality=sensor")
    table = SavedRun(run).predictions
    table["p0"] = table["p0"] * 0.999
    table.to_parquet(run / "predictions.parquet", index=False)
    status, output, _ = reproduce(run)
    assert status == 1 and "although no input differs" in output


def test_thread_count_is_that_of_the_run(train_run, reproduce):
    run = train_run("modality=sensor")
    assert read_json(run / "provenance.json")["threads"] == 1
    config = OmegaConf.load(run / "config.yaml")
    config.threads = None  # the default: the count comes from the machine
    OmegaConf.save(config, run / "config.yaml")
    _, _, new = reproduce(run)
    assert json.loads((new / "provenance.json").read_text())["threads"] == 1


def test_override_reaches_the_keys_derived_from_it(train_run, reproduce):
    status, _, new = reproduce(train_run("modality=sensor", "model=cnn_transformer", "average=null"), "window.size=20")
    assert status == 1 and SavedRun(new).config.model.window_size == 20
    status, output, _ = reproduce(new)
    assert status == 0, output


def test_folder_without_a_run_and_override_of_a_group_are_refused(train_run, reproduce, tmp_path):
    status, output, _ = reproduce(tmp_path)
    assert status == 2 and "no config.yaml" in output
    status, output, _ = reproduce(train_run("modality=sensor"), "model=cnn_transformer")
    assert status == 2 and "start a new run to change the group" in output
