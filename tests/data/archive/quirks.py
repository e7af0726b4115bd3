"""Small archives in the layout of AI Hub #71802 with every known quirk, and what a reader must read from them.

Written only from the text of `dataset.md`, quoted below, without code of the package. The values in the files are
simple formulas of the second `t`; the expected ones are literals.

    expected = write(tmp_path / "set", "zip")      # or "folder"; garbled=True for mojibake folder names
    python -m tests.data.archive.quirks OUT zip|folder [garbled]     # the same from a shell, with a summary

Categories of a dropped frame (each bad frame here has exactly one defect):
  missing_csv, missing_bin, missing_json   the file is missing
  bad_csv    a column is missing, a cell is not a number, or there is no row
  bad_bin    truncated, empty, garbage, not of shape (120, 160), or a pickle (never to be unpickled)
  bad_json   cut off, no tagging or state, or a state outside 0..3
Categories of a skipped session:
  unreadable_archive   the source zip is truncated
  no_usable_frame      all of its frames were dropped

Times are whole seconds since the first frame of the recording, which is sound in every session. A second without any
file is `absent`: a gap, but not a dropped frame.
"""

import sys
from pathlib import Path

from tests.data.archive.quirks_expected import (
    BOM,
    CLEAN_AGV,
    CLEAN_OHT,
    DEFECTS,
    GAP,
    HOPELESS,
    MIDNIGHT,
    PART0,
    REPAIRS,
    STUCK,
    SWAPPED,
    TRUNCATED,
    UNLABELLED,
    Expected,
    expected_of,
    written_out,
)
from tests.data.archive.quirks_files import break_frames, damage_values, record, respell, stick, zip_of

NAME = "67.제조현장 이송장치 열화 예지보전/3.개방데이터/1.데이터"
SOURCE, LABELS = "01.원천데이터", "02.라벨링데이터"


def _save(folder: Path, stem: str, files: dict[str, bytes], archive: str) -> None:
    """ "Users hold it as these zips, or unpacked into folders of the same stem."

    "Downloads can arrive as `*.zip.part0`": a single part is the whole zip; it may lie among folders.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if stem == PART0:
        (folder / f"{stem}.zip.part0").write_bytes(zip_of(files))
    elif archive == "zip":
        data = zip_of(files)
        (folder / f"{stem}.zip").write_bytes(data[: len(data) * 6 // 10] if stem == TRUNCATED else data)
    else:
        inner = folder / stem / stem if stem == SWAPPED else folder / stem  # unpacked twice
        inner.mkdir(parents=True)
        for name, data in files.items():
            (inner / name).write_bytes(data)
        (folder / stem / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


def write(root: Path, archive: str, garbled: bool = False) -> Expected:
    """Write the set as "zip" or "folder" below `root`, and return what a reader must read from it.

    Args:
        garbled: "Tools that unpack with the wrong code page leave the Korean folder names garbled."
    """
    names = (NAME, SOURCE, LABELS)
    data, source, labels = (n.encode("cp949").decode("cp437") for n in names) if garbled else names
    data = root / data
    tripwire = root.parent / f"{root.name}.unpickled"

    recordings = {
        CLEAN_OHT: record(CLEAN_OHT, 5, written_out((0, 15), (1, 8), (2, 7), (3, 30)), 0.41),
        CLEAN_AGV: record(CLEAN_AGV, 0, written_out((0, 20), (1, 10), (2, 10), (3, 30)), 0.42),
        MIDNIGHT: record(MIDNIGHT, 50, written_out((0, 150), (1, 15), (2, 15), (3, 30)), 0.43),
        SWAPPED: record(SWAPPED, 33, written_out((0, 40)), 0.44, heats=False),
        BOM: record(BOM, 12, written_out((0, 40)), 0.45, heats=False),
        UNLABELLED: record(UNLABELLED, 20, written_out((0, 45)), 0.46),
        DEFECTS: record(DEFECTS, 59, written_out((0, 60), (1, 20), (2, 20), (3, 30)), 0.47, heats=False),
        REPAIRS: record(REPAIRS, 8, written_out((0, 60)), 0.48, heats=False),
        STUCK: record(STUCK, 27, written_out((0, 47)), 0.49, heats=False),
        PART0: record(PART0, 44, written_out((0, 5), (1, 3), (2, 3), (3, 30)), 0.50),
        GAP: record(GAP, 15, written_out((0, 35), (1, 1), (2, 2), (3, 32)), 0.51),
        TRUNCATED: record(TRUNCATED, 0, written_out((0, 40)), 0.52, heats=False),
        HOPELESS: record(HOPELESS, 0, written_out((0, 10)), 0.53, heats=False),
    }
    respell(recordings[SWAPPED], 0.44, bom=False)
    respell(recordings[BOM], 0.45, bom=True)
    recordings[UNLABELLED].labels = None
    break_frames(recordings[DEFECTS], 0.47, tripwire)
    damage_values(recordings[REPAIRS], 0.48)
    stick(recordings[STUCK], 0.49)
    for name in recordings[GAP].names[35:38]:  # unlike "One frame a second, no gaps"
        del recordings[GAP].source[name + ".csv"], recordings[GAP].source[name + ".bin"]
        del recordings[GAP].labels[name + ".json"]
    for name in recordings[HOPELESS].names:
        recordings[HOPELESS].source[name + ".bin"] = b"no array"
    if archive == "folder":
        del recordings[TRUNCATED]
    for stem, recording in recordings.items():
        part = data / ("Training" if stem.startswith("TS") else "Validation")
        _save(part / source, stem, recording.source, archive)
        if recording.labels is not None:
            _save(part / labels, stem[0] + "L" + stem[2:], recording.labels, archive)
    for folder in [root, data / "Training", data / "Training" / source, data / "Training" / labels]:
        (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        (folder / "readme.txt").write_text("not data\n")
    return expected_of(root, archive, tripwire)


if __name__ == "__main__":
    expected = write(Path(sys.argv[1]), sys.argv[2], garbled="garbled" in sys.argv[3:])
    for key, value in expected.sessions.items():
        print(f"{key}: {value.seconds} s, {value.windows} windows, {len(value.dropped)} dropped")
    print("skipped:", expected.skipped, "\ndropped:", expected.dropped)
