"""ONNX files: they predict what the run's own model predicts, and their description is enough to serve them."""

import json
import shutil

import numpy as np
import pytest

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.inference import export
from conveyorguard.inference.export import onnx_format, tabular
from conveyorguard.metrics.calibration import scale
from conveyorguard.metrics.memory import LAGS, Memory
from conveyorguard.runs.data import load_store, load_windows
from tests.support.places import ROOT

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
TABULAR = ["lightgbm", "xgboost", "catboost", "extra_trees", "random_forest", "log_mean", "logistic_regression"]


def served(folder, feed):
    """Return the outputs of an exported model for the inputs in `feed`."""
    return onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"]).run(None, feed)


def batch_of(loaded, data, count):
    """Return the first test windows as a dataset and as a batch."""
    dataset = WindowDataset(data.store, data.judged("test").iloc[:count], data.settings, loaded.inputs)
    return dataset, dataset.__getitems__(list(range(count)))


@pytest.mark.slow
def test_exported_network_predicts_like_its_run_from_raw_inputs(finished_run, compose, tmp_path, capsys):
    out = tmp_path / "export"
    assert main(["export", str(finished_run), f"out={out}"]) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == str(out / "model.onnx") and "one window on one core" in printed
    description = json.loads((out / "model.json").read_text())
    loaded, data = load_run(finished_run), load_windows(compose())
    assert [i["name"] for i in description["inputs"]] == [
        "sensors",
        "sensors_start",
        "environment",
        "thermal",
        "thermal_stats",
        "thermal_stats_start",
    ]
    assert description["units"]["sensors"]["NTC"] == "degC" and description["alarm"]["on"] == loaded.point.on
    saved = loaded.run.predictions.query("split == 'test'")
    for count in (1, 7):  # batches of any size
        _, batch = batch_of(loaded, data, count)
        outputs = served(out, {i["name"]: batch[i["name"]].float().numpy() for i in description["inputs"]})
        assert np.allclose(outputs[0], saved[["p0", "p1", "p2", "p3"]].iloc[:count], atol=1e-4)
        assert np.allclose(outputs[1], saved[["c0", "c1", "c2", "c3"]].iloc[:count], atol=1e-4)
        assert outputs[2].shape == (count, 30, 4) and np.allclose(outputs[2].sum(-1), 1, atol=1e-5)
    model = onnx.load(out / "model.onnx")
    inside = json.loads({p.key: p.value for p in model.metadata_props}["conveyorguard"])
    assert inside["states"] == ["normal", "minor", "moderate", "severe"]
    assert [o.version for o in model.opset_import if o.domain == ""] == [onnx_format.OPSET]


@pytest.mark.parametrize(
    "model",
    ["lightgbm", "logistic_regression", *(pytest.param(name, marks=pytest.mark.slow) for name in TABULAR[1:-1])],
)
def test_exported_tabular_model_predicts_like_its_run_from_features(model, train_run, compose, tmp_path):
    trees = [] if model == "logistic_regression" else ["model.n_estimators=15"]
    if model in ("xgboost", "catboost"):
        pytest.importorskip(model)
    loaded = load_run(train_run(f"model={model}", "modality=sensor", *trees))
    description = export.export(loaded, load_store(compose("modality=sensor")), tmp_path / "export")
    data = load_windows(compose("modality=sensor"))
    dataset, _ = batch_of(loaded, data, 9)
    features = loaded.model.features(dataset)
    outputs = served(tmp_path / "export", {"features": features})
    p = loaded.model.predict(dataset)
    assert description["inputs"][0]["features"] == loaded.model.names
    assert np.allclose(outputs[0], p, atol=1e-4)
    assert np.allclose(outputs[1], scale(p.astype(float), loaded.temperature), atol=1e-4)


def test_exported_file_with_other_probabilities_is_removed(train_run, compose, tmp_path, monkeypatch):
    loaded = load_run(train_run("model=lightgbm", "modality=sensor", "model.n_estimators=2"))
    monkeypatch.setattr(export, "predict", lambda model, dataset: np.full((len(dataset), 4), 0.25))
    with pytest.raises(RunError, match="the file is not kept"):
        export.export(loaded, load_store(compose("modality=sensor")), tmp_path / "export")
    assert not (tmp_path / "export" / "model.onnx").exists()


def test_missing_export_package_is_named_with_pip_command(finished_run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(onnx_format, "find_spec", lambda name: None)
    assert main(["export", str(finished_run), f"out={tmp_path}"]) == 2
    assert "pip install 'conveyorguard[export]'" in capsys.readouterr().err


def test_model_without_converter_is_refused(train_run, compose, tmp_path, monkeypatch):
    loaded = load_run(train_run("model=lightgbm", "modality=sensor", "model.n_estimators=2"))
    monkeypatch.delitem(tabular.CONVERTERS, "LightGBM")
    with pytest.raises(ConfigError, match="LightGBM: no converter to ONNX"):
        export.export(loaded, load_store(compose("modality=sensor")), tmp_path)


def test_export_without_data_ends_with_an_error(finished_run, tmp_path, capsys):
    shutil.copytree(finished_run, tmp_path / "run")
    assert main(["export", str(tmp_path / "run"), "data=table", f"data.root={tmp_path / 'nothing'}"]) == 2
    assert "Error" in capsys.readouterr().err


@pytest.mark.parametrize("with_memory", [True, False])
def test_loop_of_the_docs_turns_exported_probabilities_into_the_answer_of_predict(train_run, compose, with_memory):
    pytest.importorskip("onnxmltools")
    run = train_run("model=lightgbm", "modality=sensor", "model.n_estimators=5", "test=false")
    if with_memory:
        saved = json.loads((run / "memory.json").read_text())
        weights = np.concatenate([w * np.eye(4) for w in (0.5, 0.3, 0.2, 0.1)], axis=1)
        memory = Memory(LAGS, weights, np.array([0, 0.1, 0, 0])).to_dict()
        (run / "memory.json").write_text(json.dumps({**saved, "memory": memory}))
    loaded, store = load_run(run), load_store(compose("modality=sensor"))
    export.export(loaded, store, run / "export")
    description = json.loads((run / "export" / "model.json").read_text())
    example = (ROOT / "docs" / "how-to" / "predict.md").read_text().rpartition("```python\n")[2].partition("```")[0]
    names = {}
    exec(example, names)
    predicted = loaded.predict_store(store).windows
    for _, windows in list(predicted.groupby("session"))[:2]:
        rows = loaded.windows_of(store).set_index(["session", "start"])
        rows = rows.loc[list(zip(windows["session"], windows["start"], strict=True))].reset_index()
        features = loaded.model.features(WindowDataset(store, rows, loaded.settings, loaded.inputs))
        c = names["deployed"](description, served(run / "export", {"features": features})[0])
        assert np.abs(c - windows[["c0", "c1", "c2", "c3"]].to_numpy()).max() < 1e-3
        assert [description["states"][k] for k in c.argmax(axis=1)] == windows["state"].tolist()
