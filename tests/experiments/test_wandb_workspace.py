"""The specification of the W&B workspace refers to keys that runs log."""

import json
import re
import subprocess
import sys

import pytest

from conveyorguard.metrics.scores import METRICS, OBJECTIVES
from tests.support.places import ROOT

SCRIPT = ROOT / "experiments" / "wandb_workspace.py"
STATES = ("normal", "minor", "moderate", "severe")


def run(*arguments):
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def sections():
    done = run("model=fusion")
    assert done.returncode == 0, done.stderr
    specification = json.loads(done.stdout)["section"]["panelBankConfig"]["sections"]
    return {section["name"]: section["panels"] for section in specification}


def test_three_sections_refer_to_logged_keys_only(sections):
    assert list(sections) == ["Ablation", "Sweep", "Recall of each state"]
    text = json.dumps(sections)
    named = set(re.findall(r"final/[\w/]+", text))
    known = {f"final/{part}/{name}" for part in ("val", "test") for name in METRICS}
    known |= {f"final/test/recall/{state}" for state in STATES} | {"final/test/per_class"}
    assert named <= known and {f"final/test/recall/{state}" for state in STATES} <= named
    assert {panel["config"].get("groupBy") for panel in sections["Ablation"]} == {"cell.value"}


def test_axes_of_sweep_are_its_search_space_and_objective(sections):
    axes, importance, curves = sections["Sweep"]
    assert [column["accessor"] for column in axes["config"]["columns"]] == [
        "config:model.value.width",
        "config:model.value.dropout",
        "config:optimizer.value.lr",
        "config:optimizer.value.weight_decay",
        "summary:final/val/accuracy",
    ]
    assert [bool(column.get("log")) for column in axes["config"]["columns"]] == [False, False, True, True, False]
    assert (
        importance["viewType"] == "Parameter Importance" and importance["config"]["targetKey"] == "final/val/accuracy"
    )
    assert set(curves["config"]["metrics"]) <= set(OBJECTIVES)


@pytest.mark.parametrize("argument, answer", [("model=nothing", "one of cnn_transformer"), ("tema=x", "entity=TEAM")])
def test_unknown_model_or_key_is_refused_with_choices(argument, answer):
    done = run(argument)
    assert done.returncode and answer in done.stderr and "Traceback" not in done.stderr
