"""A folder with the toy application, and `python train.py` in a folder."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tests.sweeps.real import Trainer
from tests.sweeps.toy import APP, CONFIG


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    """A folder with the toy application."""
    (tmp_path / "app.py").write_text(APP)
    for name, text in CONFIG.items():
        path = tmp_path / "conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return tmp_path


@pytest.fixture
def trainer(tmp_path: Path, cache: Path):
    found = Trainer(tmp_path, cache)
    yield found
    for process in found.living():
        process.kill()
