"""Draft the `thermal` block of a data set's yaml from the camera's frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.draft.sample import Sample
from conveyorguard.data.table.camera import GREY, PICTURES, open_frames, open_picture
from conveyorguard.errors import DataError

STORED = (30, 40)  # rows and columns [pixels] to which frames are reduced, approximately


def camera_block(sample: Sample, reader: dict[str, Any]) -> dict[str, Any] | None:
    """Return the `thermal` block of the yaml, or None without frames.

    Whole-number pixels that look like kelvin get their conversion to degC; other whole numbers get a note in
    `sample.odd`.

    Args:
        sample: its recordings name the camera files; notes are added to its `odd`.
        reader: keys of `data.reader`; thermal_scale and thermal_offset are added for kelvin.
    """
    folder = (sample.root if sample.root.is_dir() else sample.root.parent) / "thermal"
    if not folder.is_dir():
        return None
    shapes, samples, whole = Counter[tuple[int, int]](), [], False
    for name in sample.tables:
        for frames in _some_frames(folder, name, sample.odd):
            shapes[frames.shape[1], frames.shape[2]] += 1
            whole = frames.dtype.kind in "iu"
            samples.append(np.asarray(frames[:: max(len(frames) // 10, 1)], np.float64).ravel())
    if not samples:
        sample.odd.append("there is a folder thermal, but no frames of these recordings in it: thermal/<session>.npy")
        return None
    if len(shapes) > 1:
        sample.odd.append(f"frames differ in size: {', '.join(f'{r} x {c} ({n})' for (r, c), n in shapes.items())}")
    pixels = np.concatenate(samples)
    pixels = pixels[np.isfinite(pixels)]
    middle = float(np.median(pixels))
    scale = next((s for s in (0.01, 0.1) if whole and 250 <= middle * s <= 450), None)
    if scale:
        reader |= {"thermal_scale": scale, "thermal_offset": -273.15}
        pixels = pixels * scale - 273.15
        sample.odd.append(
            f"pixels look like kelvin in steps of {scale}: thermal_scale and thermal_offset convert them to degC"
        )
    elif whole:
        sample.odd.append(
            f"pixels are whole numbers, {pixels.min():g} to {pixels.max():g}: if they are not degC, set "
            "reader.thermal_scale and thermal_offset from the camera's range"
        )
    low, high = (float(q) for q in np.percentile(pixels, [1, 99]))
    (rows, cols), _ = shapes.most_common(1)[0]
    step = max(round(rows / STORED[0]), round(cols / STORED[1]), 1)
    span = max(high - low, 1.0)
    return {
        "shape": [rows, cols],
        "stored": [-(-rows // step), -(-cols // step)],
        "reduce": "${data.thermal.reduce}",
        "range": [int(np.floor(low)), int(np.floor(low) + np.ceil(span))],
        "valid": [min(-40, int(pixels.min() - span)), max(150, int(2 * pixels.max()))],
    }


def _some_frames(folder: Path, name: str, odd: list[str]) -> Iterable[np.ndarray]:
    """Yield frames of a recording as stored, (n, rows, columns): a whole array, or single pictures, fewer than 10.

    Camera files that cannot be read are reported in `odd`.
    """
    path = folder / f"{name}.npy"
    try:
        if path.is_file():
            yield open_frames(path)
        elif (folder / name).is_dir():
            pictures = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in PICTURES)
            for path in pictures[:: max(len(pictures) // 5, 1)]:
                with open_picture(path) as picture:
                    mode, frame = picture.mode, np.asarray(picture)
                if mode not in GREY:
                    raise DataError(f"{path.name}: colours ({mode}), not one value a pixel")
                yield frame[None]
    except (DataError, OSError) as error:
        odd.append(f"frames of {name}: {error}")
