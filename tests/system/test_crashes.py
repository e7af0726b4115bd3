"""Interrupted writing: old files stay whole, half-written ones are never read. Random kills: tests/system/kill."""

import os
import subprocess
import sys
import zipfile

import pytest
import torch

from conveyorguard.cli import main
from conveyorguard.errors import RunError
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import read_json, write_json, write_text
from conveyorguard.training.checkpoints import WholeFiles, read_checkpoint
from tests.support.places import ROOT

pytestmark = pytest.mark.promise(
    "crashes",
    "A checkpoint is replaced whole or not at all. A run counts as finished only when its provenance says "
    "so. A disk that fills up during training ends in an error.",
)


def checkpoint(value):
    return {"state_dict": {"w": torch.full((1000,), float(value))}, "conveyorguard": {}}


def test_checkpoint_is_replaced_atomically(tmp_path, monkeypatch):
    path = tmp_path / "checkpoints" / "last.ckpt"
    WholeFiles().save_checkpoint(checkpoint(1), path)
    before = path.read_bytes()

    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    for moment in ("fsync", "replace"):
        monkeypatch.setattr(os, moment, killed)
        with pytest.raises(Killed):
            WholeFiles().save_checkpoint(checkpoint(2), path)
        monkeypatch.undo()
        assert path.read_bytes() == before
        assert [p.name for p in path.parent.glob("*.ckpt")] == ["last.ckpt"], "a half-written file is not named .ckpt"
    WholeFiles().save_checkpoint(checkpoint(3), path)
    assert read_checkpoint(path)["state_dict"]["w"][0] == 3
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"], "leftovers of a killed process are removed"


def test_unfinished_run_is_refused(finished_run, tmp_path, capsys):
    import shutil

    copy = shutil.copytree(finished_run, tmp_path / "copy")
    facts = read_json(copy / "provenance.json")
    for status in ("running", "failed: KeyboardInterrupt"):
        write_json(copy / "provenance.json", {**facts, "status": status})
        with pytest.raises(RunError, match=f"not finished .*{status}.*ckpt_path"):
            SavedRun(copy)
        assert main(["report", str(copy)]) == 2
        assert "not finished" in capsys.readouterr().err


def test_text_is_replaced_atomically(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_text(path, "old")

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path], "the half-written file is removed"


@pytest.fixture
def small_disk(tmp_path):
    """Mount a folder of 500 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    line = ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(line, capture_output=True).returncode:
        pytest.skip("a small tmpfs needs the right to mount")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def full(cache, folder, *command):
    """Run a command that needs more space than there is; return its stderr."""
    env = {**os.environ, "CONVEYORGUARD_CACHE": str(cache)}
    done = subprocess.run([sys.executable, *map(str, command)], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "cannot be written (No space left on device)" in done.stderr and "Free space" in done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.mark.slow
def test_full_disk_while_training_is_an_error_and_old_files_stay_whole(finished_run, small_disk, tmp_path, cache):
    """The checkpoint of this network is larger than the disk."""
    old = small_disk / "old.json"
    old.write_bytes((finished_run / "metrics.json").read_bytes())
    full(
        cache,
        tmp_path,
        ROOT / "train.py",
        "data=simulated",
        "data.sessions=12",
        "modality=sensor",
        "trainer=cpu",
        "threads=1",
        "trainer.max_epochs=2",
        "model.width=96",
        f"hydra.run.dir={small_disk / 'run'}",
    )
    assert old.read_bytes() == (finished_run / "metrics.json").read_bytes()
    with pytest.raises(RunError):
        SavedRun(small_disk / "run")
    assert not list((small_disk / "run").glob("checkpoints/best.ckpt"))


@pytest.mark.promise(
    "input",
    "A read-only root is only read. A full or read-only disk ends in a clear error; what was there stays "
    "whole, and nothing half-written is left.",
)
@pytest.mark.slow
def test_full_disk_under_any_verb_is_an_error_and_leaves_no_half_written_file(
    finished_run, small_disk, tmp_path, cache
):
    verb = ["-m", "conveyorguard"]
    full(cache, tmp_path, *verb, "predict", finished_run, f"out={small_disk / 'predicted'}")
    full(cache, tmp_path, *verb, "eda", "data=simulated", "data.sessions=12", f"out={small_disk / 'eda'}")
    full(cache, tmp_path, *verb, "simulate", small_disk / "data", "data.sessions=12", "data.archive=zip")
    for path in small_disk.rglob("*"):
        assert not path.name.startswith("."), f"{path.name} is half-written"
        if path.suffix == ".zip":
            assert zipfile.ZipFile(path).testzip() is None
