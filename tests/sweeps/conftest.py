"""Fixtures: the toy application in a folder, and `python train.py` in a folder."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.sweeps.real import Trainer
from tests.sweeps.toy import APP, CONFIG


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """Write the toy application to a folder; returns the folder."""
    (tmp_path / "app.py").write_text(APP)
    for name, text in CONFIG.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


@pytest.fixture
def trainer(tmp_path: Path, cache: Path):
    """Run `python train.py` in a folder; its processes are killed at the end."""
    runner = Trainer(tmp_path, cache)
    yield runner
    for process in runner.living():
        process.kill()
