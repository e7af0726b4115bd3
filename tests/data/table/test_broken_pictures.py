"""Pictures beside a table: those of other folders, of no second, of two in one, and those that are programs."""

import io

import numpy as np
import pandas as pd
import pytest

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Recording, Unreadable
from conveyorguard.data.table.reader import sessions
from tests.data.table.spoiled import SCHEMA, SOUND

pytestmark = pytest.mark.promise(
    "input",
    "A defect in a table of one's own costs its row, picture or file and is named. A picture is never "
    "executed (PostScript).",
)


@pytest.mark.parametrize("name", ["../../outside", "/outside", ".", "a/../../../outside"])
def test_the_name_of_a_session_leads_to_no_frames_outside_their_folder(name, tmp_path):
    schema = Schema.from_config(
        {
            **SCHEMA.to_dict(),
            "thermal": {"shape": [4, 5], "stored": [2, 2]},
            "columns": {"time": "time", "state": "state", "session": "name"},
        }
    )
    root = tmp_path / "set"
    (root / "thermal").mkdir(parents=True)
    np.save(tmp_path / "outside.npy", np.zeros((12, 4, 5)))
    np.save(root / "thermal" / "inside.npy", np.zeros((12, 4, 5)))
    table = pd.read_csv(io.BytesIO(SOUND))
    pd.concat([table.assign(name=name), table.assign(name="inside")]).to_csv(root / "rec.csv", index=False)
    (refused,) = (item for item in sessions(root, schema) if isinstance(item, Unreadable))
    assert (
        refused.reason == "bad_session_name"
        and f"rec.csv: expected a session whose name leads to frames in thermal, found '{name}'" in refused.message
    )
    (read_,) = (item.read() for item in sessions(root, schema) if isinstance(item, Recording))
    assert read_.name == "inside" and len(read_.thermal) == 12


def test_only_pictures_named_by_a_second_are_looked_at(tmp_path):
    from PIL import Image

    schema = Schema.from_config({**SCHEMA.to_dict(), "thermal": {"shape": [4, 5], "stored": [2, 2]}})
    (tmp_path / "rec.csv").write_bytes(SOUND)
    (tmp_path / "thermal" / "rec").mkdir(parents=True)
    for name in (*range(12), "\u00b2", "\uff13"):
        Image.fromarray(np.full((4, 5), 30 if isinstance(name, int) else 99, np.uint8)).save(
            tmp_path / "thermal" / "rec" / f"{name}.png"
        )
    (item,) = sessions(tmp_path, schema)
    assert (item.read().thermal[0:12] == 30).all()


def test_two_pictures_of_one_second_cost_it_and_are_told(tmp_path):
    from PIL import Image

    schema = Schema.from_config({**SCHEMA.to_dict(), "thermal": {"shape": [4, 5], "stored": [2, 2]}})
    (tmp_path / "rec.csv").write_bytes(SOUND)
    (tmp_path / "thermal" / "rec").mkdir(parents=True)
    for name in (*map(str, range(12)), "03"):
        Image.fromarray(np.full((4, 5), 30, np.uint8)).save(tmp_path / "thermal" / "rec" / f"{name}.png")
    (item,) = sessions(tmp_path, schema)
    session = item.read()
    assert session.time.tolist() == [0, 1, 2, *range(4, 12)]
    (dropped,) = session.dropped
    assert "rec: second 3" in dropped.where and "found 03.png and 3.png; remove or rename" in dropped.message


POSTSCRIPT = b"""%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 5 4
%ImageData: 5 4 8 1 0 1 1 "image"
%%EndComments
showpage
"""


@pytest.mark.parametrize("odd", ["a program", "a gigantic text chunk"])
def test_what_is_no_sound_picture_costs_its_second_and_starts_nothing(odd, tmp_path, monkeypatch):
    from PIL import EpsImagePlugin, Image, PngImagePlugin

    def started(*_, **__):
        raise AssertionError("Ghostscript was started")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", started)
    schema = Schema.from_config({**SCHEMA.to_dict(), "thermal": {"shape": [4, 5], "stored": [2, 2]}})
    (tmp_path / "rec.csv").write_bytes(SOUND)
    (tmp_path / "thermal" / "rec").mkdir(parents=True)
    for second in range(12):
        Image.fromarray(np.full((4, 5), 30, np.uint8)).save(tmp_path / "thermal" / "rec" / f"{second}.png")
    if odd == "a program":
        (tmp_path / "thermal" / "rec" / "3.png").write_bytes(POSTSCRIPT)
    else:
        chunk = PngImagePlugin.PngInfo()
        chunk.add_text("comment", "x" * (PngImagePlugin.MAX_TEXT_CHUNK + 1), zip=True)
        Image.fromarray(np.full((4, 5), 30, np.uint8)).save(tmp_path / "thermal" / "rec" / "3.png", pnginfo=chunk)
    (item,) = sessions(tmp_path, schema)
    session = item.read()
    assert (session.thermal[0:11] == 30).all() and session.time.tolist() == [0, 1, 2, *range(4, 12)]
    (dropped,) = session.dropped
    assert dropped.message.startswith("3.png: expected a png, tiff or jpeg, found a damaged or another file")
