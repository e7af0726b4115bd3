"""Write the model of a run as ONNX."""

from __future__ import annotations

from conveyorguard.commands.words.defaults import data_config
from conveyorguard.commands.words.parser import VerbParser

PARSER = VerbParser(
    "export RUN [data.root=PATH] [KEY=VALUE ...] [out=FOLDER]",
    """\
Write the model of a run as ONNX, checked against the run on real windows. Scaling and calibration are inside the
graph. model.json describes it: inputs, outputs, units, opset, states, operating point.

Networks take the raw batch of a window; trees and regression take its features by name. ONNX Runtime must give the
probabilities of the run's model within 1e-4 on windows of the run's data. The latency of one window is printed.
Writes model.onnx and model.json into FOLDER, by default RUN/export. Needs: pip install "conveyorguard[export]".""",
    """\
export outputs/2026-01-31/10-00-00-fusion-both
export RUN out=deployed
export RUN data.root=PATH                      where the recordings have moved""",
    paths="1",
    settings=["out"],
)


def main(arguments: list[str]) -> None:
    """Export the model of a run, print the summary and the path of the graph."""
    from conveyorguard.inference.export import export, require_packages, summary
    from conveyorguard.inference.loaded_run import LoadedRun
    from conveyorguard.runs.data import load_store

    words = PARSER.parse_words(arguments)
    out = words.out or words.path / "export"
    loaded = LoadedRun(words.path)
    config = data_config(loaded.run, words)
    require_packages("onnx", "onnxruntime")  # before a store is built, which may take minutes
    print(summary(export(loaded, load_store(config), out)))
    print(out / "model.onnx")
