"""Verbs of the command line that no other file is about."""

from pathlib import Path

from conveyorguard.cli import main as verb


def test_the_verb_eda(explored, cache, tmp_path, capsys):
    assert verb(["eda", *explored.overrides, f"out={tmp_path / 'eda'}"]) == 0
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "eda" / "00_eda.html"
    assert verb(["eda", "data=aihub"]) == 2 and "data.root" in capsys.readouterr().err
