"""Files from elsewhere execute no code: checkpoints, skops files, tables, json."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import skops.io
import torch

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.errors import RunError
from conveyorguard.models.tabular import ExtraTrees
from tests.support.places import ROOT
from tests.system.poison import Tripwire

pytestmark = pytest.mark.promise(
    "security", "A poisoned or damaged checkpoint, skops file, npz, parquet or json is refused by name."
)

SOURCES = [*(ROOT / "conveyorguard").rglob("*.py"), *(ROOT / "experiments").glob("*.py"), ROOT / "train.py"]


def calls(tree):
    """Yield dotted name and keyword arguments of every call in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


@pytest.mark.promise("security", "No module unpickles, evaluates text or starts a shell.")
@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_never_unpickles_or_evaluates(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, words in calls(tree):
        if name == "torch.load":
            assert words.get("weights_only") == "True", f"{name} without weights_only=True"
        if name.endswith(("np.load", "numpy.load", "read_array")):
            assert words.get("allow_pickle") == "False", f"{name} without allow_pickle=False"
        if name.endswith("trainer.fit"):
            assert words.get("weights_only") == "True", f"{name} resumes without weights_only=True"
        assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), name
        assert not re.search(
            r"(pickle|dill|marshal|shelve|joblib|yaml)\.(loads?|Unpickler|unsafe_load|full_load|open)$", name
        ), name
        assert not name.endswith(("read_pickle", "to_pickle", "load_from_checkpoint")), name
        assert words.get("shell") != "True", f"{name} runs a shell"
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {
        f"{node.module}.{a.name}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names
    }
    assert not {name for name in imported if re.match(r"(pickle|dill|cloudpickle|marshal|shelve)\b", name)} - {
        "pickle.UnpicklingError"
    }


TRACE = """
import sys
import conveyorguard.cli, conveyorguard.checks.run, conveyorguard.reporting.prediction_page
import conveyorguard.evaluation.ensemble

def no_unpickling(event, arguments):
    if event == "pickle.find_class":
        frame = sys._getframe()
        # joblib's pipe to worker processes of this very command
        while frame and "loky" not in frame.f_code.co_filename:
            frame = frame.f_back
        if frame is None:
            raise RuntimeError(f"unpickled {arguments}")

sys.addaudithook(no_unpickling)
run = sys.argv[1]
for verb in (["check", run, "depth=data"], ["report", run], ["compare", run], ["predict", run, "data.seed=0"]):
    assert conveyorguard.cli.main(verb) == 0, verb
"""


@pytest.mark.promise("security", "No module unpickles, evaluates text or starts a shell.")
@pytest.mark.slow
def test_verbs_unpickle_nothing_of_a_run(copied, tmp_path):
    """Python raises an audit event for every class that an unpickler looks up."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", TRACE, str(copied)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_trace_detects_unpickling(tmp_path, mark):
    done = subprocess.run(
        [sys.executable, "-c", TRACE.replace("run = ", "import pickle; pickle.loads(pickle.dumps(sys.exit)); run = ")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "unpickled" in done.stderr


@pytest.mark.parametrize("content", ["pickle", "torch archive", "cut short", "empty", "other tensors", "text"])
def test_poisoned_or_damaged_checkpoint_is_refused_by_name(content, copied, mark):
    path = copied / "checkpoints" / "best.ckpt"
    if content == "pickle":
        import pickle

        path.write_bytes(pickle.dumps({"state_dict": Tripwire(mark)}))
    elif content == "torch archive":
        torch.save({**torch.load(path, weights_only=True), "extra": Tripwire(mark)}, path)
    elif content == "cut short":
        path.write_bytes(path.read_bytes()[:5000])
    elif content == "empty":
        path.write_bytes(b"")
    elif content == "other tensors":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        path.write_text("no checkpoint")
    with pytest.raises(RunError, match=r"best\.ckpt"):
        load_run(copied)


def test_resuming_from_poisoned_checkpoint_is_refused(copied, mark, compose):
    from conveyorguard.commands.train import train

    path = copied / "checkpoints" / "last.ckpt"
    torch.save({**torch.load(path, weights_only=True), "callbacks": Tripwire(mark)}, path)
    with pytest.raises(RunError, match=r"last\.ckpt: damaged, or holds objects other than tensors"):
        train(compose(f"ckpt_path={path}"), copied, [])


@pytest.mark.parametrize("kind", ["foreign type", "pickle", "cut short"])
def test_poisoned_skops_file_is_refused_by_name(kind, tmp_path, mark, schema):
    path = tmp_path / "best.skops"
    if kind == "foreign type":
        skops.io.dump(SimpleNamespace(a=1), path)
        assert skops.io.get_untrusted_types(file=path)
    elif kind == "pickle":
        import pickle

        path.write_bytes(pickle.dumps(Tripwire(mark)))
    else:
        skops.io.dump([1, 2], path)
        path.write_bytes(path.read_bytes()[:60])
    model = ExtraTrees(schema, 0, 1)
    with pytest.raises((RunError, zipfile.BadZipFile)):
        model.load(path)
    assert not mark.exists()


@pytest.mark.parametrize("model", ["lightgbm", "extra_trees"])
def test_damaged_tabular_model_is_refused_by_name(model, train_run):
    run = train_run("modality=sensor", f"model={model}", "model.n_estimators=5")
    (path,) = (run / "checkpoints").glob("best.*")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(RunError, match=rf"{path.name}: cannot be read as a"):
        load_run(run)


def test_pickled_examples_are_refused_by_name(copied, mark, capsys):
    np.savez(copied / "examples.npz", session=np.array([Tripwire(mark)], dtype=object))
    assert main(["report", str(copied)]) == 2
    assert "examples.npz: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["config.yaml", "provenance.json", "metrics.json", "predictions.parquet", "examples.npz"]
)
@pytest.mark.parametrize("damage", ["empty", "cut short", "binary"])
def test_damaged_file_of_run_is_refused_by_name(name, damage, copied, capsys):
    raw = (copied / name).read_bytes()
    (copied / name).write_bytes({"empty": b"", "cut short": raw[: len(raw) // 2], "binary": b"\x93\xff{[" * 50}[damage])
    status = main(["report", str(copied)])
    error = capsys.readouterr().err
    if name == "config.yaml" and damage == "cut short":
        assert status in (0, 2)  # half of a yaml may be valid yaml
    else:
        assert status == 2 and name in error, error


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("history.csv", "", "cannot be read"),
        ("history.csv", "epoch,train/loss\n", "expected columns epoch, train/loss, val/loss"),
        ("provenance.json", "[]", "expected a mapping, found []"),
        ("provenance.json", "{}", "expected command, found none"),
        ("metrics.json", '{"val": 5}', "expected a mapping at val, found 5"),
        (
            "alarms.json",
            '{"state": "severe", "operating_point": 5, "parts": {}}',
            "expected a mapping at operating_point",
        ),
        ("alarms.json", '{"operating_point": 5}', "expected state, found none"),
        ("calibration.json", "{}", "expected temperature, found none"),
        ("split.json", "[]", "expected a mapping, found []"),
        ("ranges.json", '{"NTC": 3}', "expected a mapping at NTC, found 3"),
    ],
)
def test_file_of_run_with_other_content_is_refused_by_name(name, content, expected, copied, capsys):
    (copied / name).write_text(content)
    assert main(["report", str(copied)]) == 2
    error = capsys.readouterr().err
    assert f"{name}: {expected}" in error and "train it again" in error
