"""Write a run's model as ONNX."""

from __future__ import annotations

from pathlib import Path

from conveyorguard.commands.arguments import data_of, one_path, take_options


def main(arguments: list[str]) -> None:
    """export RUN [data.root=PATH] [out=DIRECTORY]

    Write the run's model as ONNX, with scaling and calibration inside the graph: model.onnx and its description
    model.json (inputs, outputs, units, opset, states, operating point), into `out`, by default RUN/export. The file is
    checked: ONNX Runtime must give the probabilities of the run's own model within 1e-4 on real windows, which are
    taken from the run's data. Networks take the raw batch of a window, trees and regression its features by name. The
    latency of one window is printed. Needs: pip install "conveyorguard[export]".
    """
    from conveyorguard.inference.export import export, require_packages, summary
    from conveyorguard.inference.loaded_run import LoadedRun
    from conveyorguard.runs.data import load_store

    folder, words = one_path(arguments, "export RUN [data.root=PATH] [out=DIRECTORY]")
    options, overrides = take_options(words, "out")
    out = Path(options.get("out", folder / "export"))
    loaded = LoadedRun(folder)
    config = data_of(loaded.run, overrides)
    require_packages("onnx", "onnxruntime")  # before a store is built, which may take minutes
    print(summary(export(loaded, load_store(config), out)))
    print(out / "model.onnx")
