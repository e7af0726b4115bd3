"""Verbs of the command line without a test file of their own."""

from pathlib import Path

from conveyorguard.cli import main as verb


def test_eda_writes_its_page_or_says_which_setting_is_missing(explored, cache, tmp_path, capsys):
    assert verb(["eda", *explored.overrides, f"out={tmp_path / 'eda'}"]) == 0
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "eda" / "00_eda.html"
    assert verb(["eda", "data=aihub"]) == 2 and "data.root" in capsys.readouterr().err
