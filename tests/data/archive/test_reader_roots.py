"""Roots at any level of the set, wrong roots, and reading in other processes."""

import functools
import os
import shutil
from pathlib import Path

import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.data.archive import quirks


def file_counts(root, schema):
    """Return the number of files of each session: 1 without labels, 2 with."""
    return {item.name: len(item.files) for item in archive.sessions(root, schema)}


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_root_may_be_any_level_of_the_set(kind, sets, schema):
    root = sets[kind].root
    name, opened, data = quirks.NAME.split("/")
    whole = file_counts(root, schema)
    assert set(whole) == {*sets[kind].sessions, *sets[kind].skipped}
    assert {session for session, files in whole.items() if files == 1} == {quirks.UNLABELLED}
    for level in (Path(name), Path(name, opened), Path(name, opened, data)):
        assert file_counts(root / level, schema) == whole, level
    for part in ("Training", "Validation"):
        of_part = {session: files for session, files in whole.items() if session[0] == part[0]}
        for level in (Path(name, opened, data, part), Path(name, opened, data, part, quirks.SOURCE)):
            assert file_counts(root / level, schema) == of_part, level


def test_root_may_be_a_relative_path_or_one_session(sets, schema, monkeypatch):
    source = sets["folder"].root / quirks.NAME / "Training" / quirks.SOURCE
    assert file_counts(source / quirks.CLEAN_OHT, schema) == {quirks.CLEAN_OHT: 2}
    monkeypatch.chdir(source)
    assert len(file_counts(".", schema)) == 10 and quirks.CLEAN_OHT in file_counts(".", schema)


@pytest.mark.parametrize("make", ["missing", "file", "empty", "other", "labels"])
def test_wrong_root_is_refused_with_what_was_looked_for_and_where(make, sets, schema, tmp_path):
    root = tmp_path / "root"
    if make == "labels":
        root = sets["zip"].root / quirks.NAME / "Training" / quirks.LABELS
    elif make == "file":
        root.write_text("")
    elif make != "missing":
        root.mkdir()
        if make == "other":
            (root / "holiday.jpg").write_text("")
    with pytest.raises(DataError) as caught:
        list(archive.sessions(root, schema))
    message = str(caught.value)
    assert str(root) in message
    if make in ("missing", "file"):
        assert "no such folder" in message
    else:
        assert "TS_" in message and "looked for" in message and "remedy" in message
    if make == "other":
        assert "holiday.jpg" in message
    if make == "labels":
        assert "Only label archives" in message


def test_loop_of_links_does_not_hang(sets, schema, tmp_path):
    shutil.copytree(sets["zip"].root, tmp_path / "set")
    before = file_counts(tmp_path / "set", schema)
    (tmp_path / "set" / "again").symlink_to(tmp_path / "set", target_is_directory=True)
    next((tmp_path / "set").rglob("01.*")).joinpath("up").symlink_to(tmp_path, target_is_directory=True)
    assert file_counts(tmp_path / "set", schema) == before


def test_reader_gives_the_same_store_in_other_processes(sets, schema, tmp_path):
    """The store reads in parallel, so that what the reader yields must pickle."""
    reader = functools.partial(archive.sessions)
    serial, parallel = (
        prepare(reader, schema, sets["zip"].root, tmp_path / f"{jobs}", "aihub", jobs=jobs) for jobs in (1, 2)
    )
    assert serial.fingerprint == parallel.fingerprint
    assert os.listdir(serial.path.parent) == os.listdir(parallel.path.parent)
