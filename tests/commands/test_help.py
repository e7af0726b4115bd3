"""Help of the verbs: complete, short, and without the seconds that torch, pandas and plotly take to import."""

import subprocess
import sys

import pytest

from conveyorguard.cli import main, usage
from conveyorguard.commands.verbs import VERBS
from conveyorguard.commands.words.train_parser import TrainParser

SCREEN = 25  # lines
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


def test_help_of_each_verb_begins_with_usage_and_ends_with_examples(capsys):
    for verb in VERBS:
        assert main([verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"usage: python -m conveyorguard {verb} ")
        _, _, examples = text.partition("\nexamples:\n")
        assert f"  python -m conveyorguard {verb}" in examples


def test_help_of_training_begins_with_what_to_type_and_lists_choices():
    text = TrainParser().format_help()
    assert text.startswith("usage: python train.py [-m] [KEY=VALUE ...]")
    assert "  python train.py debug=fast" in text and "data      aihub simulated table\n" in text


def test_every_help_fits_a_screen():
    texts = [usage(), TrainParser().format_help(), *(module.PARSER.format_help() for module in VERBS.values())]
    for text in texts:
        lines = text.splitlines()
        assert len(lines) <= SCREEN and max(map(len, lines)) <= 120, text
