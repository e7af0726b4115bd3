"""A sound run to be damaged, and a model that sees what it must not."""

import shutil

import pytest
import torch

from conveyorguard.models.fusion import Fusion


@pytest.fixture
def copied(finished_run, tmp_path):
    """A copy of a sound run, to be damaged."""
    return shutil.copytree(finished_run, tmp_path / "copy")


@pytest.fixture
def peeking(monkeypatch):
    """Let Fusion read the label that lies in the batch beside its inputs."""
    honest = Fusion.forward

    def forward(self, batch):
        logits = honest(self, batch)
        return {**logits, "window": logits["window"] + 20 * torch.nn.functional.one_hot(batch["window"], 4)}

    monkeypatch.setattr(Fusion, "forward", forward)
