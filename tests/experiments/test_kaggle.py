"""The notebook, executed as on Kaggle: its input is only read, and a second version continues the first one's study."""

import os
import sys

import nbformat
import pandas as pd
import pytest

from conveyorguard.config.compose import compose_config
from conveyorguard.data.archive.writer import write
from conveyorguard.data.schema import Schema
from tests.support.places import ROOT

nbclient = pytest.importorskip("nbclient")
NOTEBOOK = ROOT / "experiments" / "kaggle.ipynb"
QUICK = ["trainer.max_epochs=1", "threads=1", "window.thermal_frames=3"]


def execute(inputs, work, trials, overrides=QUICK):
    """Execute the notebook with other settings in its first cell, and return it with its outputs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    settings.source = "\n".join(
        [
            "from pathlib import Path",
            f"INPUT, WORK = Path({str(inputs)!r}), Path({str(work)!r})",
            "SOURCE = INPUT / 'conveyorguard'",
            "DATA = INPUT / 'aihub-71802'",
            f"SIMULATED, TRIALS, MINUTES = 12, {trials}, 30",
            "ABLATION = ['modality=sensor', 'film=true,false']",
            f"OVERRIDES = {overrides!r}",
        ]
    )
    nbclient.NotebookClient(notebook, timeout=1500, kernel_name="python3").execute()
    return notebook


def printed(notebook):
    return "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Folders as on Kaggle, and a kernel that imports this checkout."""
    inputs, work = tmp_path / "input", tmp_path / "working"
    inputs.mkdir()
    work.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("CONVEYORGUARD_CACHE", raising=False)
    kernels = tmp_path / "jupyter" / "kernels" / "python3"
    kernels.mkdir(parents=True)
    (kernels / "kernel.json").write_text(
        f'{{"argv": ["{sys.executable}", "-m", "ipykernel_launcher", "-f", "{{connection_file}}"], "display_name": '
        f'"3", "language": "python"}}'
    )
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    return inputs, work


def test_committed_notebook_has_no_outputs_and_compiles():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
            compile(cell.source, cell.id, "exec")


def state_of(folder):
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.slow
def test_second_version_of_notebook_continues_study_of_first(place, tmp_path):
    inputs, work = place
    schema = Schema.from_config({**_container(compose_config(["data=aihub", "data.root=x"]).data.schema)})
    write(inputs / "aihub-71802", schema, 12, 0, "zip")
    for folder, _, _ in os.walk(inputs):
        os.chmod(folder, 0o555)
    before = state_of(inputs)
    first = execute(inputs, work, trials=2)
    assert state_of(inputs) == before, "the input was written to"
    output = printed(first)
    assert "trainer=cpu" in output and "0 GPUs" in output
    assert {"outputs", "multirun", "studies", "predictions"} <= {path.name for path in work.iterdir()}
    assert not (work / "cache").exists() and len(pd.read_csv(work / "studies" / "fusion-both" / "trials.csv")) == 2
    assert len(list(work.glob("outputs/*/*fusion*/export/model.onnx"))) == 1
    # the next version has the first one's output among its inputs, and a new working folder
    for folder, _, _ in os.walk(inputs):
        os.chmod(folder, 0o755)
    work.rename(inputs / "earlier-version")
    work.mkdir()
    kept = state_of(inputs)
    second = execute(inputs, work, trials=3)
    assert "continuing fusion-both from earlier-version/studies/fusion-both" in printed(second)
    trials = pd.read_csv(work / "studies" / "fusion-both" / "trials.csv")
    earlier = pd.read_csv(inputs / "earlier-version" / "studies" / "fusion-both" / "trials.csv")
    assert len(trials) == 3 and len(earlier) == 2 and state_of(inputs) == kept


def _container(node):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node, resolve=True)
