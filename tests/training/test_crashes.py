"""Writing that is broken off: what was whole stays whole, half of it is never read. Kills at random moments: tests/crash/kill.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from conveyorguard.cli import main
from conveyorguard.errors import RunError
from conveyorguard.run import SavedRun, read_json, write_json, write_text
from conveyorguard.training.checkpoints import WholeFiles, read_checkpoint

ROOT = Path(__file__).parents[2]


def checkpoint(value):
    return {"state_dict": {"w": torch.full((1000,), float(value))}, "conveyorguard": {}}


def test_a_checkpoint_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
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
        assert [p.name for p in path.parent.glob("*.ckpt")] == ["last.ckpt"], (
            "what is half-written is not called a checkpoint"
        )
    WholeFiles().save_checkpoint(checkpoint(3), path)
    assert read_checkpoint(path)["state_dict"]["w"][0] == 3
    assert [p.name for p in path.parent.iterdir()] == ["last.ckpt"], "what a killed process left is cleared away"


def test_a_run_that_is_not_finished_is_not_read_as_one(finished_run, tmp_path, capsys):
    import shutil

    copy = shutil.copytree(finished_run, tmp_path / "copy")
    facts = read_json(copy / "provenance.json")
    for status in ("running", "failed: KeyboardInterrupt"):
        write_json(copy / "provenance.json", {**facts, "status": status})
        with pytest.raises(RunError, match=f"not finished .*{status}.*ckpt_path"):
            SavedRun(copy)
        assert main(["report", str(copy)]) == 2
        assert "not finished" in capsys.readouterr().err


def test_text_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_text(path, "old")

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    assert path.read_text() == "old"


@pytest.mark.slow
def test_a_disk_that_fills_up_while_training_is_told_and_old_files_are_whole(finished_run, tmp_path, cache):
    """The checkpoint of this network needs more than is left."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=500k", "tmpfs", str(disk)], capture_output=True
        ).returncode
    ):
        pytest.skip("a small tmpfs needs the right to mount")
    try:
        old = disk / "old.json"
        old.write_bytes((finished_run / "metrics.json").read_bytes())
        line = [sys.executable, str(ROOT / "train.py"), "data=simulated", "data.sessions=12", "modality=sensor", "trainer=cpu", "threads=1",
                "trainer.max_epochs=2", "model.width=96", f"hydra.run.dir={disk / 'run'}"]  # fmt: skip
        env = {**os.environ, "CONVEYORGUARD_CACHE": str(cache)}
        done = subprocess.run(line, cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "cannot be written (No space left on device)" in done.stderr and "Free space" in done.stderr
        assert "Traceback" not in done.stderr
        assert old.read_bytes() == (finished_run / "metrics.json").read_bytes()
        with pytest.raises(RunError):
            SavedRun(disk / "run")
        assert not list((disk / "run").glob("checkpoints/best.ckpt"))
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
