"""Checkpoint files: written whole or not at all, and read without executing anything."""

from __future__ import annotations

import io
import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from conveyorguard.errors import RunError
from conveyorguard.system.files import replacing


class WholeFiles(TorchCheckpointIO):
    """Checkpoints written beside their place and renamed.

    Lightning's own way leads through the folder of temporary files: where that is another disk the last step is a copy,
    which a kill cuts in two.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        for left in place.parent.glob(
            f".{place.name}.*"
        ):  # by a process that was killed; a run directory has one at a time
            left.unlink(missing_ok=True)
        content = io.BytesIO()  # torch tells of a full disk in words of its own
        torch.save(checkpoint, content)
        with replacing(place) as aside, aside.open("wb") as stream:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors and plain values, on the CPU; nothing in the file is executed.

    Raises:
        RunError: it is missing or damaged, or holds objects that would run code when they are unpickled.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if {"state_dict", "conveyorguard"} <= set(state):
            return state
    except UnpicklingError as error:
        raise RunError(
            f"{path}: holds more than tensors and plain values, or is damaged; not loaded. Use a checkpoint that "
            f"a run of ConveyorGuard wrote ({str(error).splitlines()[0]})"
        ) from error
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, KeyError, AttributeError) as error:
        raise RunError(
            f"{path}: cannot be read as a checkpoint ({error}); it is damaged, train the run again"
        ) from error
    raise RunError(f"{path}: no checkpoint of ConveyorGuard; give RUN/checkpoints/best.ckpt or last.ckpt")
