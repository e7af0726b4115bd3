"""Checkpoint files: written whole or not at all, and read without executing code."""

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
    """Write each checkpoint to a temporary file beside its path, then rename it.

    Lightning writes through the system's temporary folder: where that is another disk, the last step is a copy, which a
    kill can cut short.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint and remove the temporary files that killed processes left.

        Args:
            checkpoint: what `torch.save` writes.
            path: the final path.
            storage_options: not used; part of Lightning's interface.
        """
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # left by a killed process: only one at a time writes into a run directory
        for leftover in target.parent.glob(f".{target.name}.*"):
            leftover.unlink(missing_ok=True)
        content = io.BytesIO()  # in memory first: torch would report a full disk by an error of its own
        torch.save(checkpoint, content)
        with replacing(target) as aside, aside.open("wb") as stream:
            stream.write(content.getbuffer())
            stream.flush()
            os.fsync(stream.fileno())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's tensors and plain values, on the CPU; no code in the file is executed.

    Raises:
        RunError: the file is missing or damaged, or holds objects that would run code when unpickled.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        if {"state_dict", "conveyorguard"} <= set(state):
            return state
    except UnpicklingError as error:
        raise RunError(
            f"{path}: damaged, or holds objects other than tensors and plain values; it was not loaded. Use a "
            f"checkpoint written by ConveyorGuard ({str(error).splitlines()[0]})"
        ) from error
    except (OSError, ValueError, TypeError, RuntimeError, EOFError, KeyError, AttributeError) as error:
        raise RunError(
            f"{path}: cannot be read as a checkpoint ({error}). If the file is damaged, train the run again"
        ) from error
    raise RunError(f"{path}: not a checkpoint of ConveyorGuard; give RUN/checkpoints/best.ckpt or last.ckpt")
