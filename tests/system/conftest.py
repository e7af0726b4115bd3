"""A run to be poisoned."""

import shutil

import pytest


@pytest.fixture
def copied(finished_run, tmp_path):
    """A copy of a sound run, to be poisoned; afterwards nothing of it may have been executed."""
    folder, mark = shutil.copytree(finished_run, tmp_path / "copy"), tmp_path / "executed"
    yield folder
    assert not mark.exists(), "code from a file was executed"


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "executed"
