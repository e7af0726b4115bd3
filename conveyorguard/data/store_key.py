"""The key of a store: digests of everything that decides its content, and why an older store cannot be used."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from pathlib import Path
from typing import Any

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.data.store import FORMAT
from conveyorguard.system.progress import track

INGREDIENTS = {  # as the summary names them
    "format": "the layout of stores",
    "code": "the code that reads and reduces the files",
    "schema": "data.schema",
    "settings": "data.reader",
    "files": "the files",
}
REDUCING = ("store_build", "reduce", "repair", "schema", "session", "store")  # modules of this package


def ingredients_of(reader: Any, recordings: list, root: str | Path | None, schema: Schema) -> dict[str, str]:
    """Compute digests of everything that decides the content of the store, without reading the recordings."""
    files = hashlib.sha256()
    for item in track(recordings, "looking at files", len(recordings)):
        files.update(f"{type(item).__name__} {item.name}".encode())
        for path in getattr(item, "files", ()):
            _stat(path, path.parent, files)
    if root is not None and any(isinstance(item, Session) for item in recordings):
        _stat(Path(root), Path(root), files)
    return {
        "format": str(FORMAT),
        "code": _code_digest(getattr(reader, "func", reader)),
        "schema": digest_of(schema.to_dict()),
        "settings": digest_of(sorted(getattr(reader, "keywords", {}).items())),
        "files": files.hexdigest(),
    }


def digest_of(value: Any) -> str:
    """Return the SHA-256 of a value written as json."""
    return hashlib.sha256(json.dumps(value, default=repr).encode()).hexdigest()


def _code_digest(reader: Any) -> str:
    """Hash the reader's package (a module outside any package: the module) and the modules that reduce sessions."""
    here = Path(__file__).parent
    module = Path(inspect.getfile(reader))
    in_package = (module.parent / "__init__.py").exists()
    files = [path for path in module.parent.iterdir() if path.suffix in (".py", ".csv")] if in_package else [module]
    digest = hashlib.sha256()
    for path in [*sorted(files), *(here / f"{name}.py" for name in REDUCING)]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def _stat(path: Path, base: Path, digest: Any) -> None:
    """Add name, size and time of a file, or of all files below a folder, to a digest; links to folders are skipped.

    A folder that may not be opened adds a constant; it is reported when the recording is read.
    """
    try:
        _stat_below(path, base, digest)
    except PermissionError:
        digest.update(b"locked")


def _stat_below(path: Path, base: Path, digest: Any) -> None:
    if path.is_dir():
        below = os.fsencode(path.relative_to(base).as_posix())
        for entry in sorted(os.scandir(path), key=lambda e: e.name):
            if entry.is_dir(follow_symlinks=False):
                _stat(Path(entry.path), base, digest)
            elif entry.is_file():  # scandir may know the status already; a data set may have 335,000 files
                status = entry.stat()
                digest.update(b"%s/%s %d %d" % (below, os.fsencode(entry.name), status.st_size, status.st_mtime_ns))
    elif path.exists():
        status = path.stat()
        digest.update(b"%s %d %d" % (os.fsencode(path.relative_to(base)), status.st_size, status.st_mtime_ns))


def reason_to_build_again(cache: Path, name: str, ingredients: dict[str, str]) -> str | None:
    """Return why the latest store of this name cannot be used; None if there is no such store."""
    manifests = [place for place in cache.iterdir() if place.name.startswith(f"{name}-")]
    manifests = [place / "manifest.json" for place in manifests if (place / "manifest.json").is_file()]
    if not manifests:
        return None
    latest = max(manifests, key=lambda path: path.stat().st_mtime_ns)
    try:
        known = json.loads(latest.read_text(encoding="utf-8"))["ingredients"]
        changed = [words for key, words in INGREDIENTS.items() if known[key] != ingredients[key]]
    except (OSError, ValueError, KeyError, TypeError):
        return f"{latest.parent.name} has an earlier layout"
    return f"{' and '.join(changed)} changed since {latest.parent.name}"
