"""Help of the verbs: complete, and without the seconds that torch, pandas and plotly take to import."""

import subprocess
import sys

import pytest

from conveyorguard.commands.verbs import VERBS

HEAVY = ("torch", "pytorch_lightning", "sklearn", "pandas", "plotly", "lightgbm")
SCRIPT = f"""
import sys
from conveyorguard.cli import main
assert main(sys.argv[1:]) == 0
heavy = [name for name in {HEAVY} if name in sys.modules]
assert not heavy, heavy
"""


def help_of(*words):
    done = subprocess.run([sys.executable, "-c", SCRIPT, *words, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_help_names_every_verb_without_heavy_imports():
    text = help_of()
    assert not [verb for verb in (*VERBS, "train") if f"\n  {verb} " not in text]


@pytest.mark.parametrize("verb", ["train", "predict", "reproduce"])
def test_help_of_a_verb_comes_without_heavy_imports(verb):
    assert verb in help_of(verb)


def test_help_of_each_verb_begins_with_its_usage(capsys):
    from conveyorguard.cli import main

    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"python -m conveyorguard {verb} ") and "\n\n" in text and "\n    \n" not in text
