"""A W&B workspace for ConveyorGuard: ablation, sweep and recall of each state.

    python experiments/wandb_workspace.py entity=TEAM [project=conveyorguard] [model=fusion] [data=simulated]

publishes a new view of the project and prints its address (`wandb login` first). Without entity= it prints the
specification as json. The axes of the sweep's plot are the search space of `model`; the states are those of `data`.
Needs `pip install "conveyorguard[dashboard]"`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from omegaconf import OmegaConf

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from conveyorguard.config.compose import compose_config, config_dir

DEFAULTS = {"entity": "", "project": "conveyorguard", "model": "cnn_transformer", "data": "simulated"}


def workspace(entity: str, project: str, model: str, data: str) -> ws.Workspace:
    """Return a workspace of three sections over the keys that `logger=wandb` logs."""
    sweep = OmegaConf.load(config_dir() / "sweep" / "optuna.yaml")
    if model not in sweep.sweep.spaces:
        sys.exit(f"model={model} has no search space. Give one of {', '.join(sweep.sweep.spaces)}.")
    objective = f"final/{sweep.objective}"
    axes = [
        wr.ParallelCoordinatesPlotColumn(metric=wr.Config(key), display_name=key, log="log" in values)
        for key, values in sweep.sweep.spaces[model].items()
    ]
    result = wr.ParallelCoordinatesPlotColumn(metric=wr.SummaryMetric(objective), display_name=sweep.objective)
    trials = [
        wr.ParallelCoordinatesPlot(title="trials", columns=[*axes, result]),
        wr.ParameterImportancePlot(with_respect_to=objective),
        wr.LinePlot(title="pruned trials end early", x="epoch", y=[sweep.objective]),
    ]
    titles = {
        "macro_f1": "macro-F1",
        "severe_recall": "severe recall",
        "severe_as_normal": "severe windows called normal",
    }
    ablation = [cells(f"final/test/{name}", title) for name, title in titles.items()]
    states = [state.name for state in compose_config([f"data={data}"]).data.schema.states]
    recall = [cells(f"final/test/recall/{name}", f"recall of {name}") for name in states]
    recall.append(wr.WeavePanelSummaryTable(table_name="final/test/per_class"))
    sections = {"Ablation": ablation, "Sweep": trials, "Recall of each state": recall}
    return ws.Workspace(
        entity=entity,
        project=project,
        name="ConveyorGuard",
        sections=[ws.Section(name=name, panels=panels, is_open=True) for name, panels in sections.items()],
        settings=ws.WorkspaceSettings(max_runs=100),
    )


def cells(metric: str, title: str) -> wr.BarPlot:
    """Return bars by model, modality and film: the mean over seeds and folds with its standard deviation."""
    return wr.BarPlot(
        title=f"test: {title}",
        metrics=[metric],
        groupby=wr.Config("cell"),
        groupby_aggfunc="mean",
        groupby_rangefunc="stddev",
        max_bars_to_show=50,
    )


def main(arguments: list[str]) -> None:
    """Publish the workspace if an entity is named; otherwise print its specification."""
    words = dict(argument.partition("=")[::2] for argument in arguments)
    if unknown := set(words) - set(DEFAULTS):
        sys.exit(f"unknown key: {', '.join(sorted(unknown))}\n\n{__doc__}")
    view = workspace(**{**DEFAULTS, **words})
    if words.get("entity"):
        print(view.save().url)
    else:
        print(view._to_model().spec.model_dump_json(by_alias=True, exclude_none=True, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
