"""The journal of a study: other files are not changed, an incomplete line is cut off."""

from __future__ import annotations

from pathlib import Path
from threading import Thread

import optuna
import pytest
from filelock import lock_descriptor
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from conveyorguard.sweeps.trial import Journal, StorageError, find_study, open_storage
from conveyorguard.system import processes


@pytest.mark.parametrize("content", [b"a text\n", b"a text", b'{"half": '])
def test_file_that_is_no_journal_is_not_changed(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    if content.startswith(b"{"):  # a kill can leave this of a first line
        assert find_study(str(path), "s") is None
        return
    with pytest.raises(StorageError, match=r"notes\.txt: not an Optuna journal"):
        open_storage(str(path))
    assert path.read_bytes() == content


def test_incomplete_journal_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "j"
    study = optuna.create_study(storage=open_storage(str(path)), study_name="s")
    study.ask()
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code": 5, "half')
    optuna.load_study(study_name="s", storage=open_storage(str(path))).ask()
    read = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(path))))
    assert len(read.trials) == 2
    assert path.read_bytes().startswith(whole)
    assert isinstance(study._storage._backend, Journal)


def test_append_to_journal_waits_for_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "j"
    study = optuna.create_study(storage=open_storage(str(path)), study_name="s")
    before = path.read_bytes()
    with path.open("rb") as holder:
        lock_descriptor(holder.fileno())
        append = Thread(target=study.ask)
        append.start()
        append.join(0.5)
        assert append.is_alive() and path.read_bytes() == before
    append.join(30)
    assert not append.is_alive() and path.read_bytes().startswith(before) and len(study.trials) == 1


def test_gpus_are_limited_to_visible_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert processes.find_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert processes.find_gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert processes.find_gpus() == []
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\nprintf 'GPU 0: H200 (UUID: x)\\n  MIG 1g Device 0\\nGPU 1: H200 (UUID: y)\\n'\n")
    tool.chmod(0o755)
    assert processes.find_gpus() == ["0", "1"]
