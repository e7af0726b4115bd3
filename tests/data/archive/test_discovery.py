"""Which archives are found below a root, and what is called almost like one."""

import pytest

from conveyorguard.data.archive import reader as archive
from conveyorguard.data.store_build import prepare
from conveyorguard.errors import DataError
from tests.data.archive.spoiled import AGV, LABELS, NAME, assert_in_order, found, touch

pytestmark = pytest.mark.promise(
    "input",
    "Misnamed archives and frames, labels without frames and unreadable folders are named. No frame of "
    "another device or day enters a session. `data.strict=true` stops at the first.",
)


def test_recordings_are_found_at_any_depth_in_order_with_labels_of_their_own_part(small, tmp_path):
    root = touch(
        tmp_path,
        f"Validation/01.source/VS_{AGV}.zip",
        f"Validation/02.label/VL_{AGV}.zip",
        f"Training/01.source/{NAME}.zip",
        f"Training/01.source/TS_{AGV}.zip",
        f"Training/02.label/{LABELS}.zip",
        f"Training/01.source/X{NAME}.zip",
        f"Training/01.source/{NAME}",  # a file without a suffix is no archive
        "Training/notes.txt",
    )
    train = [(f"TS_{AGV}", [f"TS_{AGV}.zip"]), (NAME, [f"{NAME}.zip", f"{LABELS}.zip"])]
    assert found(root, small) == [*train, (f"VS_{AGV}", [f"VS_{AGV}.zip", f"VL_{AGV}.zip"])]
    assert found(root / "Training", small) == train
    assert found(root / "Training" / "01.source", small) == train, "the labels are next door"


def test_linked_folders_are_looked_into_and_a_link_back_ends_nothing(small, tmp_path):
    touch(tmp_path, f"elsewhere/{NAME}.zip")
    root = touch(tmp_path / "set", f"z/{LABELS}.zip")
    (root / "a").symlink_to(root)
    (root / "b").symlink_to(tmp_path / "elsewhere")
    assert found(root, small) == [(NAME, [f"{NAME}.zip", f"{LABELS}.zip"])]


def test_of_a_numbered_folder_the_labels_are_next_door_and_no_further(small, tmp_path):
    touch(tmp_path, f"far/01.source/{NAME}.zip", f"labels/{LABELS}.zip")
    assert found(tmp_path / "far" / "01.source", small) == [(NAME, [f"{NAME}.zip"])]


def test_where_some_labels_are_nothing_is_looked_for_next_door(small, tmp_path):
    root = touch(tmp_path, f"01.source/{NAME}.zip", f"02.label/{LABELS}.zip", f"01.source/TL_{AGV}.zip") / "01.source"
    alone = (
        f"TL_{AGV}.zip: expected the source archive TS_{AGV} as well, found its labels alone; fetch it, or remove them"
    )
    assert found(root, small) == [(NAME, [f"{NAME}.zip"]), (f"TL_{AGV}", f"missing_source: {alone}")]
    (root / f"TL_{AGV}.zip").unlink()
    assert found(root, small) == [(NAME, [f"{NAME}.zip", f"{LABELS}.zip"])]


def test_an_unpacked_archive_is_not_searched_for_others(small, tmp_path):
    root = touch(
        tmp_path,
        f"sensors/{NAME}/x.csv",
        f"sensors/{NAME}/deeper/TS_{AGV}.zip",
        "sensors/other/deeper/TS_agv_03_agv03_0828_0900.zip",
    )
    assert [name for name, _ in found(root, small)] == ["TS_agv_03_agv03_0828_0900", NAME]


def test_of_one_unpacked_recording_the_labels_are_looked_for_two_folders_up(small, tmp_path):
    touch(tmp_path, f"01.source/{NAME}/x.csv", f"02.label/{LABELS}/x.json", f"02.label/TL_{AGV}.zip")
    assert found(tmp_path / "01.source" / NAME, small) == [(NAME, [NAME, LABELS])]
    plain = touch(tmp_path / "set", f"sensors/{NAME}.zip", f"labels/{LABELS}.zip") / "sensors"
    assert found(plain, small) == [(NAME, [f"{NAME}.zip"])], "of a folder of any other name nothing is known"


def test_a_recording_unpacked_into_a_folder_of_its_name_is_one(small, tmp_path):
    root = touch(tmp_path / "set" / "sensors", f"{NAME}/{NAME}/x.csv")
    assert found(root, small) == [(NAME, [NAME])]
    assert found(root / NAME, small) == [(NAME, [NAME])]


def test_a_whole_archive_wins_over_a_part_and_of_two_the_first(small, tmp_path):
    one = touch(tmp_path / "one", f"a/{NAME}.zip.part0", f"b/{NAME}.zip")
    other = touch(tmp_path / "other", f"a/{NAME}.zip", f"b/{NAME}.zip.part0")
    for root in (one, other):
        assert found(root, small) == [(NAME, [f"{NAME}.zip"])]
    twice = touch(tmp_path / "twice", f"a/{NAME}.zip", f"b/{NAME}.zip", f"{LABELS}.zip", f"c/{LABELS}.zip")
    duplicate = (
        "duplicate_session: two archives of one name: {0} was read, {1} was not; remove or rename the one that is wrong"
    )
    assert found(twice, small) == [
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
def test_what_is_called_almost_like_an_archive_is_told(name, small, tmp_path):
    root = touch(tmp_path, f"sensors/{name}", f"labels/{LABELS}.zip", f"TS_{AGV}.zip")
    (one, (told, message)) = found(root, small)
    assert one == (f"TS_{AGV}", [f"TS_{AGV}.zip"]) and told == NAME
    assert message.startswith(
        f"bad_archive_name: sensors/{name.split('/')[0]}: expected {NAME}.zip or a folder {NAME}, found"
    )
    assert "rename" in message
    with pytest.raises(DataError, match=r"data\.strict=true: sensors/"):
        prepare(archive.sessions, small, root, tmp_path / "cache", "x", strict=True, jobs=1)
    (root / f"TS_{AGV}.zip").unlink()
    with pytest.raises(DataError, match=r"no session of AI Hub[^\0]*not read:   sensors/[^\0]*rename"):
        list(archive.sessions(root, small))


def test_parts_of_an_archive_are_told_together_and_what_lies_beside_a_whole_one_only_where_it_is_a_zip(small, tmp_path):
    touch(
        tmp_path,
        f"{NAME}.zip.001",
        f"{NAME}.zip.002",
        f"{LABELS}.zip",
        f"{LABELS} (1).zip",
        f"{LABELS}.zip.md5",
        f"TS_{AGV}.zip",
    )
    told = dict(found(tmp_path, small))
    assert list(told) == [f"TS_{AGV}", LABELS, NAME]
    assert f"{NAME}.zip.001 and 1 more like it: expected {NAME}.zip" in told[NAME] and "join parts" in told[NAME]
    assert f"{LABELS} (1).zip: expected" in told[LABELS]


def test_a_zip_may_have_its_suffix_in_capitals(recording, small):
    recording.write()
    for path in (recording.source, recording.labels):
        path.rename(path.with_suffix(".ZIP"))
    (one,) = archive.sessions(recording.root, small)
    assert_in_order(one.read())


def test_parts_are_told_of_source_and_of_labels(small, tmp_path):
    touch(tmp_path, f"{NAME}.zip", f"{LABELS}.zip.part0")
    assert found(tmp_path, small) == [(NAME, [f"{NAME}.zip", f"{LABELS}.zip.part0"])]
    touch(tmp_path, f"{LABELS}.zip.part1")
    joined = f"one of several parts; join them into {LABELS}.zip, in the order of their numbers"
    assert found(tmp_path, small) == [(NAME, f"incomplete_download: {LABELS}.zip.part0 is {joined}")]


def test_a_root_without_recordings_says_what_was_looked_for(small, tmp_path):
    with pytest.raises(DataError, match="gone: no such folder"):
        list(archive.sessions(tmp_path / "gone", small))
    with pytest.raises(DataError, match=r"no session of AI Hub #71802 found\.\n(.*\n)* .*none, it is empty"):
        list(archive.sessions(tmp_path, small))
    touch(tmp_path, *(f"{i}.txt" for i in range(9)), f"{LABELS}.zip")
    first = r"first entries: 0.txt, 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt, 7.txt\)"
    with pytest.raises(
        DataError, match=rf"There are 1 label archives, but labels alone are not enough\.\n(.*\n)* .*{first}"
    ):
        list(archive.sessions(tmp_path, small))
