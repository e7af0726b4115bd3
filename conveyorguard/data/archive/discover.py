"""Lists the archives below a folder, and reports files that are misnamed, duplicated or out of reach."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from conveyorguard.data.archive.names import ARCHIVE, INCOMPLETE, NEARLY, ZIP, archive_stem
from conveyorguard.data.session import Unreadable
from conveyorguard.system.text import printable, without_path

Key = tuple[str, str, str]  # part (T, V), role (S, L) and the rest of an archive's stem


@dataclass
class Inventory:
    """Archives below a root, and what was not read.

    Attributes:
        archives: path of the archive of each key.
        copies: further archives of a key.
        nearly: paths whose name resembles an archive's, by the key they resemble; these are not read.
        locked: errors of folders that cannot be listed.
    """

    archives: dict[Key, Path] = field(default_factory=dict)
    copies: list[tuple[Key, Path]] = field(default_factory=list)
    nearly: dict[Key, list[Path]] = field(default_factory=dict)
    locked: list[OSError] = field(default_factory=list)

    def keys(self, role: str) -> list[Key]:
        """Return the keys of the source archives (S) or the label archives (L), sorted."""
        return sorted(key for key in self.archives if key[1] == role)

    def add(self, path: Path) -> None:
        """Record a path if its name is, or resembles, that of an archive."""
        stem = archive_stem(path.name)
        match = ARCHIVE.match(stem)
        if match and (os.path.isdir(path) or path.name != stem):
            self._add_archive((match["part"], match["role"], match["rest"]), path)
        elif match := NEARLY.match(path.name):
            key = (match["part"].upper(), match["role"].upper(), match["rest"].lower())
            self.nearly.setdefault(key, []).append(path)

    def _add_archive(self, key: Key, path: Path) -> None:
        """Keep a whole archive rather than an incomplete download; record a further whole one as a copy."""
        first, whole = self.archives.get(key), not INCOMPLETE.search(path.name)
        if first is None or (whole and INCOMPLETE.search(first.name)):
            self.archives[key] = path
        elif whole and not path.resolve().is_relative_to(first.resolve()):  # else unpacked into a folder of its name
            self.copies.append((key, path))


def find_archives(top: Path) -> Inventory:
    """Return the inventory of a folder at any depth, the folder itself included."""
    inventory, seen = Inventory(), set()
    for folder, folders, files in os.walk(top, followlinks=True, onerror=inventory.locked.append):
        real = os.path.realpath(folder)
        if real in seen:  # a loop of symbolic links
            folders.clear()
            continue
        seen.add(real)
        here = Path(folder)
        if here == top:
            inventory.add(top.resolve())
        for name in [*sorted(folders), *sorted(files)]:  # thousands, in an unpacked archive
            if NEARLY.match(name):
                inventory.add(here / name)
        folders[:] = [] if here != top and ARCHIVE.match(here.name) else sorted(folders)
    return inventory


def labels_next_door(top: Path) -> dict[Key, Path]:
    """Return the label archives beside a root that is the folder of the source archives, or one of these archives."""
    folder = top.resolve()
    if folder.name[:3] == "01.":
        levels = [folder.parent]
    else:
        levels = [folder.parent, folder.parent.parent] if ARCHIVE.match(top.name) else []
    return {key: path for level in levels for key, path in find_archives(level).archives.items() if key[1] == "L"}


def copies(top: Path, inventory: Inventory) -> Iterator[Unreadable]:
    """Report further archives of the same name."""
    for key, path in inventory.copies:
        message = (
            f"two archives of the same name: {_below(top, inventory.archives[key])} was read, {_below(top, path)} was "
            "not; remove or rename the wrong one"
        )
        yield Unreadable(_name(key), "duplicate_session", message)


def misnamed(top: Path, inventory: Inventory) -> Iterator[Unreadable]:
    """Report paths that may be archives by their name but are not read."""
    for key, paths in sorted(inventory.nearly.items()):
        name = _name(key)
        if key in inventory.archives:  # checksums and the like may lie beside it
            paths = [path for path in paths if ZIP.search(path.name)]
        if paths:
            more = f" and {len(paths) - 1} more like it" if len(paths) > 1 else ""
            message = (
                f"{_below(top, paths[0])}{more}: expected {name}.zip or a folder {name}, found another name, not read; "
                "join numbered parts in order, download incomplete files again, rename or remove copies"
            )
            yield Unreadable(name, "bad_archive_name", message)


def locked(top: Path, inventory: Inventory) -> Iterator[Unreadable]:
    """Report folders that cannot be listed; an unreadable archive is reported when it is read."""
    for error in inventory.locked:
        folder = Path(os.fsdecode(error.filename))
        if folder == top or not ARCHIVE.match(folder.name):
            message = (
                f"{_below(top, folder)}: this folder cannot be listed ({without_path(error)}) and was not read; "
                "give yourself permission to read it, or move it elsewhere"
            )
            yield Unreadable(_below(top, folder), "unreadable_folder", message)


def labels_alone(top: Path, inventory: Inventory) -> list[Unreadable]:
    """Report label archives without a source archive."""
    reports = []
    for part, role, rest in inventory.keys("L"):
        source = (part, "S", rest)
        if source not in inventory.archives and source not in inventory.nearly:
            message = (
                f"{_below(top, inventory.archives[part, role, rest])}: expected the source archive {part}S_{rest} as "
                "well, found only its labels; download it, or remove them"
            )
            reports.append(Unreadable(_name((part, role, rest)), "missing_source", message))
    return reports


def no_session(top: Path, inventory: Inventory) -> str:
    """Return the message for a root without source archives: what was looked for, and what is there instead."""
    unread = "".join(
        f"\n  not read:   {item.message}" for item in [*misnamed(top, inventory), *locked(top, inventory)][:8]
    )
    inside = [] if unread and inventory.locked else sorted(path.name for path in top.iterdir())[:8]
    labels = len(inventory.archives)
    only_labels = f" Only label archives were found ({labels}); the source archives are needed too." if labels else ""
    return (
        f"data.root={top}: no session of AI Hub #71802 found.{only_labels}{unread}\n"
        "  looked for: TS_<kind>_<nn>_<device>_<MMDD>_<HHMM>.zip (or VS_..., or folders of that name) at any depth,\n"
        "              with TL_... / VL_... of the same stem for the labels\n"
        f"  looked in:  {top} (first entries: "
        f"{', '.join(inside) or ('unknown' if inventory.locked else 'none, it is empty')})\n"
        "  remedy:     point data.root at the folder that holds Training and Validation, or at one inside it"
    )


def _name(key: Key) -> str:
    part, role, rest = key
    return f"{part}{role}_{rest}"


def _below(top: Path, path: Path) -> str:
    return printable(str(path.relative_to(top) if path.is_relative_to(top) else path.name))
