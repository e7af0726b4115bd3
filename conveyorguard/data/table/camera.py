"""Read a camera's frames stored next to a table: one array, or one grey picture per second."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from conveyorguard.data.schema import Thermal
from conveyorguard.data.session import Dropped, Session
from conveyorguard.errors import DataError

SECOND = re.compile("[0-9]{1,18}")
PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
FORMATS = ("PNG", "TIFF", "JPEG")  # otherwise Pillow opens any format by content, even PostScript, which runs programs
GREY = ("L", "I", "F", "I;16", "I;16B", "I;16L")  # Pillow's modes with one number per pixel


class LazyFrames:
    """Frames of n rows in degC, read when sliced, since the frames of a large camera do not fit into memory.

    Args:
        read: returns frame i, (H, W), as stored.
        index: (n,) number of the frame of each row.
        scale, offset: degC = scale * value + offset.
    """

    def __init__(self, read: Callable[[int], np.ndarray], index: np.ndarray, scale: float, offset: float):
        self.read, self.index, self.scale, self.offset = read, index, scale, offset

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Return the frames of a slice of rows, (k, H, W) float32 [degC]."""
        with np.errstate(over="ignore", invalid="ignore"):  # too large values become Inf or NaN, repaired later
            frames = np.stack([self.read(int(i)) for i in self.index[rows]]).astype(np.float32)
        return frames * np.float32(self.scale) + np.float32(self.offset)


def add_frames(
    session: Session, path: Path, camera: Thermal, scale: float, offset: float, place: np.ndarray, rows: int
) -> None:
    """Add the frames to a session, in place; a second without a usable picture is left out.

    Args:
        session: n rows.
        path: a .npy file, or a folder of pictures.
        camera: shape of the frames.
        scale, offset: degC = scale * value + offset.
        place: (n,) position of each row of the session among all rows of its file.
        rows: number of all rows, including bad ones.

    Raises:
        DataError: the frames have another shape, an array has not one frame per row or per second, or no second has
            a usable picture.
    """
    if path.is_file():
        array = open_frames(path, camera.shape)
        length = int(session.time[-1]) + 1
        if len(array) not in (rows, length):
            raise DataError(
                f"{path.name}: expected a frame for each of {rows} rows, or for each of {length} seconds, found "
                f"{len(array)}"
            )
        session.thermal = LazyFrames(array.__getitem__, place if len(array) == rows else session.time, scale, offset)
        return
    pictures = _pictures(path)
    problems = {int(t): _picture_problem(pictures.get(int(t), []), camera.shape) for t in session.time}
    _leave_out(session, path.name, {t: problem for t, problem in problems.items() if problem})
    session.thermal = LazyFrames(lambda t: _picture(pictures[t][0], camera.shape), session.time, scale, offset)


def _pictures(folder: Path) -> dict[int, list[Path]]:
    """Return the pictures of a folder by the second that their name states."""
    pictures: dict[int, list[Path]] = {}
    for picture in sorted(folder.iterdir()):
        if picture.suffix.lower() in PICTURES and SECOND.fullmatch(picture.stem):
            pictures.setdefault(int(picture.stem), []).append(picture)
    return pictures


def _leave_out(session: Session, folder: str, problems: dict[int, str]) -> None:
    """Drop the periods without a usable picture from a session, in place.

    Args:
        folder: name of the pictures' folder, for messages.
        problems: message by period, counted from the start of the session.

    Raises:
        DataError: no period is left.
    """
    session.dropped += [Dropped("bad_picture", f"{folder}: second {t}", why) for t, why in problems.items()]
    keep = np.array([int(t) not in problems for t in session.time], bool)
    if not keep.any():
        second, why = next(iter(problems.items()))
        raise DataError(f"{folder}: no usable picture ({folder}: second {second}: {why})")
    for name in ("time", "sensors", "environment", "state"):
        if getattr(session, name) is not None:
            setattr(session, name, getattr(session, name)[keep])
    if session.where:
        session.where = partial(_kept, session.where, np.flatnonzero(keep))


def _kept(where: Callable[[str, int], str], kept: np.ndarray, what: str, second: int) -> str:
    """Return the place of a remaining row, whose index before others were dropped is `kept[second]`."""
    return where(what, int(kept[second]))


def open_frames(path: Path, shape: tuple[int, int] | None = None) -> np.ndarray:
    """Return the frames of a .npy file, (T, H, W), memory-mapped; pickled objects are refused.

    Args:
        shape: expected (H, W); None accepts any.

    Raises:
        DataError: the file is not an array of numbers of this shape.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy parses headers as Python literals, so damaged ones raise many kinds of errors
        raise DataError(f"{path.name}: cannot be read as a .npy array ({error}); write it with numpy.save") from error
    if array.dtype.kind not in "fiu" or array.ndim != 3 or (shape and array.shape[1:] != tuple(shape)):
        size = f"{shape[0]} x {shape[1]}" if shape else "rows x columns"
        raise DataError(
            f"{path.name}: expected numbers, frames x {size} (data.schema.thermal.shape), found {array.dtype} "
            f"of shape {array.shape}"
        )
    return array


@contextmanager
def open_picture(path: Path) -> Iterator[Image.Image]:
    """Open a png, tiff or jpeg.

    Raises:
        DataError: the file is damaged or of another format; damage may also show while the pixels are read.
    """
    try:
        with Image.open(path, formats=FORMATS) as picture:
            yield picture
    except Exception as error:  # Pillow's parsers raise many kinds of errors
        raise DataError(
            f"{path.name}: expected a png, tiff or jpeg, found a damaged or another file ({error})"
        ) from error


def _picture_problem(pictures: list[Path], shape: tuple[int, int]) -> str | None:
    """Return why the pictures of a second give no frame; None if there is exactly one, grey and of this shape."""
    if len(pictures) != 1:
        pictures_found = " and ".join(picture.name for picture in pictures)
        remedy = "; remove or rename the one that is wrong" if pictures else ""
        return f"expected a picture named by the second, e.g. 0.png, found {pictures_found or 'none'}{remedy}"
    (path,) = pictures
    try:
        with open_picture(path) as picture:
            size, mode = (picture.height, picture.width), picture.mode
    except DataError as error:
        return str(error)
    if mode not in GREY:
        return (
            f"{path.name}: expected one value per pixel, found colours ({mode}): export temperatures or grey values "
            "instead"
        )
    if size != tuple(shape):
        return (
            f"{path.name}: expected {shape[0]} x {shape[1]} pixels (data.schema.thermal.shape), found {size[0]} x "
            f"{size[1]}"
        )
    return None


def _picture(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Return the pixels of a picture, (H, W) float32; all NaN if it is truncated, which the store counts as bad."""
    try:
        with open_picture(path) as picture:
            return np.asarray(picture, np.float32)
    except DataError:
        return np.full(shape, np.nan, np.float32)
