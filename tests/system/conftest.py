"""Fixtures: a copy of a run to put code into, and the file that such code would create."""

import shutil

import pytest


@pytest.fixture
def copied(finished_run, tmp_path):
    """Return a copy of a finished run; fails if code from its files was executed."""
    folder, mark = shutil.copytree(finished_run, tmp_path / "copy"), tmp_path / "executed"
    yield folder
    assert not mark.exists(), "code from a file was executed"


@pytest.fixture
def mark(tmp_path):
    """Return the path of the file that executed code would create."""
    return tmp_path / "executed"
