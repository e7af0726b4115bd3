"""The notebook, executed as Kaggle would: data only read, and a second version that goes on with the first one's
study."""

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


def execute(given, work, trials, overrides=QUICK):
    """Execute the notebook with other settings in its first cell; returns it with its outputs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    settings = next(cell for cell in notebook.cells if cell.cell_type == "code")
    settings.source = "\n".join(
        [
            "from pathlib import Path",
            f"INPUT, WORK = Path({str(given)!r}), Path({str(work)!r})",
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
    """Folders as Kaggle's, and a kernel that finds this checkout and no other."""
    given, work = tmp_path / "input", tmp_path / "working"
    given.mkdir()
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
    return given, work


def test_the_notebook_is_committed_without_outputs_and_its_code_compiles():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not cell.outputs and cell.execution_count is None
            compile(cell.source, cell.id, "exec")


def state_of(folder):
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*")}


@pytest.mark.slow
def test_two_versions_of_the_notebook(place, tmp_path):
    given, work = place
    schema = Schema.from_config({**_container(compose_config(["data=aihub", "data.root=x"]).data.schema)})
    write(given / "aihub-71802", schema, 12, 0, "zip")
    for folder, _, _ in os.walk(given):
        os.chmod(folder, 0o555)
    before = state_of(given)
    first = execute(given, work, trials=2)
    assert state_of(given) == before, "the input was written to"
    said = printed(first)
    assert "trainer=cpu" in said and "0 GPUs" in said
    assert {"outputs", "multirun", "studies", "predictions"} <= {path.name for path in work.iterdir()}
    assert not (work / "cache").exists() and len(pd.read_csv(work / "studies" / "fusion-both" / "trials.csv")) == 2
    assert len(list(work.glob("outputs/*/*fusion*/export/model.onnx"))) == 1
    # the next version has the first one's output among its inputs, and a new working folder
    for folder, _, _ in os.walk(given):
        os.chmod(folder, 0o755)
    work.rename(given / "earlier-version")
    work.mkdir()
    kept = state_of(given)
    second = execute(given, work, trials=3)
    assert "going on with fusion-both from earlier-version/studies/fusion-both" in printed(second)
    trials = pd.read_csv(work / "studies" / "fusion-both" / "trials.csv")
    earlier = pd.read_csv(given / "earlier-version" / "studies" / "fusion-both" / "trials.csv")
    assert len(trials) == 3 and len(earlier) == 2 and state_of(given) == kept


def _container(node):
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node, resolve=True)
