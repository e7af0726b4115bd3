"""Which archives are found below a root, and which paths are reported as misnamed."""

import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.data.archive.spoiled import AGV, LABELS, NAME, assert_in_order, listed, touch

pytestmark = pytest.mark.promise(
    "input",
    "Misnamed archives and frames, labels without frames and unreadable folders are named. No frame of "
    "another device or day enters a session. `data.strict=true` stops at the first.",
)


def test_recordings_at_any_depth_are_listed_in_order_with_their_labels(small, tmp_path):
    root = touch(
        tmp_path,
        f"Validation/01.source/VS_{AGV}.zip",
        f"Validation/02.label/VL_{AGV}.zip",
        f"Training/01.source/{NAME}.zip",
        f"Training/01.source/TS_{AGV}.zip",
        f"Training/02.label/{LABELS}.zip",
        f"Training/01.source/X{NAME}.zip",
        f"Training/01.source/{NAME}",  # a file without a suffix is not an archive
        "Training/notes.txt",
    )
    train = [(f"TS_{AGV}", [f"TS_{AGV}.zip"]), (NAME, [f"{NAME}.zip", f"{LABELS}.zip"])]
    assert listed(root, small) == [*train, (f"VS_{AGV}", [f"VS_{AGV}.zip", f"VL_{AGV}.zip"])]
    assert listed(root / "Training", small) == train
    assert listed(root / "Training" / "01.source", small) == train, "the labels are next door"


def test_linked_folders_are_searched_and_a_loop_of_links_ends(small, tmp_path):
    touch(tmp_path, f"elsewhere/{NAME}.zip")
    root = touch(tmp_path / "set", f"z/{LABELS}.zip")
    (root / "a").symlink_to(root)
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert listed(root, small) == [(NAME, [f"{NAME}.zip", f"{LABELS}.zip"])]


def test_labels_of_a_numbered_source_folder_are_searched_beside_it_only(small, tmp_path):
    touch(tmp_path, f"far/01.source/{NAME}.zip", f"labels/{LABELS}.zip")
    assert listed(tmp_path / "far" / "01.source", small) == [(NAME, [f"{NAME}.zip"])]


def test_labels_beside_the_folder_are_ignored_if_it_holds_some(small, tmp_path):
    root = touch(tmp_path, f"01.source/{NAME}.zip", f"02.label/{LABELS}.zip", f"01.source/TL_{AGV}.zip") / "01.source"
    message = (
        f"TL_{AGV}.zip: expected the source archive TS_{AGV} as well, found only its labels; download it, "
        "or remove them"
    )
    assert listed(root, small) == [(NAME, [f"{NAME}.zip"]), (f"TL_{AGV}", f"missing_source: {message}")]
    (root / f"TL_{AGV}.zip").unlink()
    assert listed(root, small) == [(NAME, [f"{NAME}.zip", f"{LABELS}.zip"])]


def test_unpacked_archive_is_not_searched_for_others(small, tmp_path):
    root = touch(
        tmp_path,
        f"sensors/{NAME}/x.csv",
        f"sensors/{NAME}/deeper/TS_{AGV}.zip",
        "sensors/other/deeper/TS_agv_03_agv03_0828_0900.zip",
    )
    assert [name for name, _ in listed(root, small)] == ["TS_agv_03_agv03_0828_0900", NAME]


def test_labels_of_an_unpacked_recording_are_searched_two_folders_up(small, tmp_path):
    touch(tmp_path, f"01.source/{NAME}/x.csv", f"02.label/{LABELS}/x.json", f"02.label/TL_{AGV}.zip")
    assert listed(tmp_path / "01.source" / NAME, small) == [(NAME, [NAME, LABELS])]
    plain = touch(tmp_path / "set", f"sensors/{NAME}.zip", f"labels/{LABELS}.zip") / "sensors"
    assert listed(plain, small) == [(NAME, [f"{NAME}.zip"])], "only a folder named 01.* is taken for the source folder"


def test_recording_unpacked_into_a_folder_of_its_name_counts_once(small, tmp_path):
    root = touch(tmp_path / "set" / "sensors", f"{NAME}/{NAME}/x.csv")
    assert listed(root, small) == [(NAME, [NAME])]
    assert listed(root / NAME, small) == [(NAME, [NAME])]


def test_whole_archive_is_preferred_to_a_part_and_the_first_to_a_copy(small, tmp_path):
    part_first = touch(tmp_path / "part first", f"a/{NAME}.zip.part0", f"b/{NAME}.zip")
    whole_first = touch(tmp_path / "whole first", f"a/{NAME}.zip", f"b/{NAME}.zip.part0")
    for root in (part_first, whole_first):
        assert listed(root, small) == [(NAME, [f"{NAME}.zip"])]
    twice = touch(tmp_path / "twice", f"a/{NAME}.zip", f"b/{NAME}.zip", f"{LABELS}.zip", f"c/{LABELS}.zip")
    duplicate = (
        "duplicate_session: two archives of the same name: {0} was read, {1} was not; remove or rename the wrong one"
    )
    assert listed(twice, small) == [
        (NAME, [f"{NAME}.zip", f"{LABELS}.zip"]),
        (NAME, duplicate.format(f"a/{NAME}.zip", f"b/{NAME}.zip")),
        (LABELS, duplicate.format(f"{LABELS}.zip", f"c/{LABELS}.zip")),
    ]


@pytest.mark.parametrize(
    "name",
    [
        f"{NAME} (1).zip",
        f"{NAME}.zip.part",
        f"{NAME}.zip.crdownload",
        f"{NAME}.7z",
        f"{NAME}.ZIP.part0",
        NAME,
        f"{NAME.lower()}.zip",
        f"{NAME} - copy/x.csv",
    ],
)
def test_misnamed_archive_is_reported(name, small, tmp_path):
    root = touch(tmp_path, f"sensors/{name}", f"labels/{LABELS}.zip", f"TS_{AGV}.zip")
    (sound, (name_of_report, message)) = listed(root, small)
    assert sound == (f"TS_{AGV}", [f"TS_{AGV}.zip"]) and name_of_report == NAME
    assert message.startswith(
        f"bad_archive_name: sensors/{name.split('/')[0]}: expected {NAME}.zip or a folder {NAME}, found"
    )
    assert "rename" in message
    with pytest.raises(DataError, match=r"data\.strict=true: sensors/"):
        prepare(archive.sessions, small, root, tmp_path / "cache", "x", strict=True, jobs=1)
    (root / f"TS_{AGV}.zip").unlink()
    with pytest.raises(DataError, match=r"no session of AI Hub[^\0]*not read:   sensors/[^\0]*rename"):
        list(archive.sessions(root, small))


def test_parts_are_reported_together_and_files_beside_an_archive_only_if_zips(small, tmp_path):
    touch(
        tmp_path,
        f"{NAME}.zip.001",
        f"{NAME}.zip.002",
        f"{LABELS}.zip",
        f"{LABELS} (1).zip",
        f"{LABELS}.zip.md5",
        f"TS_{AGV}.zip",
    )
    reports = dict(listed(tmp_path, small))
    assert list(reports) == [f"TS_{AGV}", LABELS, NAME]
    assert f"{NAME}.zip.001 and 1 more like it: expected {NAME}.zip" in reports[NAME]
    assert "join numbered parts" in reports[NAME] and f"{LABELS} (1).zip: expected" in reports[LABELS]


def test_zip_with_an_upper_case_suffix_is_read(recording, small):
    recording.write()
    for path in (recording.source, recording.labels):
        path.rename(path.with_suffix(".ZIP"))
    (item,) = archive.sessions(recording.root, small)
    assert_in_order(item.read())


def test_parts_of_a_label_archive_are_reported(small, tmp_path):
    touch(tmp_path, f"{NAME}.zip", f"{LABELS}.zip.part0")
    assert listed(tmp_path, small) == [(NAME, [f"{NAME}.zip", f"{LABELS}.zip.part0"])]
    touch(tmp_path, f"{LABELS}.zip.part1")
    joined = f"one of several parts; join them in order into {LABELS}.zip"
    assert listed(tmp_path, small) == [(NAME, f"incomplete_download: {LABELS}.zip.part0 is {joined}")]


def test_root_without_recordings_is_refused_with_what_was_looked_for(small, tmp_path):
    with pytest.raises(DataError, match="gone: no such folder"):
        list(archive.sessions(tmp_path / "gone", small))
    with pytest.raises(DataError, match=r"no session of AI Hub #71802 found\.\n(.*\n)* .*none, it is empty"):
        list(archive.sessions(tmp_path, small))
    touch(tmp_path, *(f"{i}.txt" for i in range(9)), f"{LABELS}.zip")
    first = r"first entries: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt, 7.txt\)"
    with pytest.raises(
        DataError,
        match=rf"Only label archives were found \(1\); the source archives are needed too\.\n(.*\n)* .*{first}",
    ):
        list(archive.sessions(tmp_path, small))
