"""Figures of a sweep's study: those of `optuna.visualization` with the look of all figures."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import optuna
import plotly.graph_objects as go
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import (
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_slice,
)

from conveyorguard.reporting.figures import BLUE, GREY, STATE_COLOURS, styled

BEST = STATE_COLOURS[2]
EARLY_TO_LATE = [[0, "#c6dbef"], [1, "#08306b"]]
LINES: dict[str, dict[str, Any]] = {  # by how a trial ended
    "best": {"line": {"color": BEST, "width": 3}},
    "complete": {"line": {"color": BLUE, "width": 1.6}, "opacity": 0.65},
    "pruned": {"line": {"color": GREY, "width": 1.2, "dash": "dot"}, "marker": {"symbol": "x"}},
}


def plottable(study: optuna.Study, trials: Iterable[FrozenTrial]) -> optuna.Study:
    """Copy trials of a study into memory, in a form that is safe to plot and keeps their numbers.

    Plotly reads some markup in names and labels, so parameters and their choices are escaped. User attributes, which
    hold folders and host names, are left out.

    Args:
        trials: the trials to plot; every other number becomes a failed trial, which no figure shows.
    """
    by_number = {trial.number: trial for trial in trials}
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # that a study was created in memory is no news
    copy = optuna.create_study(direction=study.direction)
    optuna.logging.set_verbosity(verbosity)
    for number in range(max(by_number, default=-1) + 1):
        trial = by_number.get(number)
        copy.add_trial(create_trial(state=TrialState.FAIL) if trial is None else _escaped(trial))
    return copy


def _escaped(trial: FrozenTrial) -> FrozenTrial:
    return create_trial(
        state=trial.state,
        value=trial.value if trial.state == TrialState.COMPLETE else None,
        params={escape(name): _escaped_choice(value) for name, value in trial.params.items()},
        distributions={escape(name): _escaped_choices(space) for name, space in trial.distributions.items()},
        intermediate_values=trial.intermediate_values,
    )


def _escaped_choices(space: BaseDistribution) -> BaseDistribution:
    if isinstance(space, CategoricalDistribution):
        return CategoricalDistribution([_escaped_choice(choice) for choice in space.choices])
    return space


def _escaped_choice(choice: Any) -> Any:
    return escape(choice) if isinstance(choice, str) else choice


def optimization_history(study: optuna.Study, objective: str) -> go.Figure:
    """Plot the objective of each complete trial, and the best one so far as a line."""
    figure = plot_optimization_history(study, target_name="complete")
    figure.update_traces(marker={"color": BLUE, "size": 9}, selector={"mode": "markers"})
    figure.update_traces(name="best so far", line={"color": BEST, "shape": "hv"}, selector={"mode": "lines"})
    figure = styled(figure, f"{objective} by trial", x="trial", y=objective)
    return figure.update_xaxes(dtick=whole_step(len(study.trials)))


def intermediate_values(study: optuna.Study, best: int | None, objective: str, unit: str = "epoch") -> go.Figure:
    """Plot the objective of complete and pruned trials after each of their epochs, or its mean after each fold.

    Args:
        best: the number of the best trial, if there is one.
        unit: epoch or fold.
    """
    figure = plot_intermediate_values(study)
    states = {f"Trial{trial.number}": trial.state for trial in study.trials}
    shown = set()
    for line in figure.data:
        ending = "pruned" if states[line.name] == TrialState.PRUNED else "complete"
        ending = "best" if line.name == f"Trial{best}" else ending
        line.update(
            x=[step + 1 for step in line.x],  # steps of a trial are counted from 0
            hovertemplate=f"{line.name.replace('Trial', 'trial ')}, {unit} %{{x}}: %{{y:.4f}}<extra></extra>",
            name=ending,
            legendgroup=ending,
            showlegend=ending not in shown,
            **LINES[ending],
        )
        shown.add(ending)
    figure.update_layout(showlegend=True)
    title = f"{objective} after each epoch" if unit == "epoch" else f"mean {objective} of the folds so far"
    figure = styled(figure, title, height=380, x=unit, y=objective)
    steps = max((len(trial.intermediate_values) for trial in study.trials), default=0)
    return figure.update_xaxes(dtick=whole_step(steps))


def importances(study: optuna.Study) -> go.Figure:
    """Plot the share of the objective's variance that each parameter explains (fANOVA; Hutter et al., 2014)."""
    figure = plot_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    bars = figure.data[0]
    bars.update(marker_color=BLUE, text=[f"{share:.0%}" for share in bars.x], hoverinfo="skip", hovertemplate=None)
    styled(figure, "What each parameter explains", height=110 + 34 * len(bars.x), x="share of the variance")
    figure.update_xaxes(tickformat=".0%", range=[0, 1.08 * max(bars.x)])
    return figure.update_yaxes(title_text="", ticklabelstandoff=6)


def parallel_coordinate(study: optuna.Study, objective: str) -> go.Figure:
    """Plot a line for each complete trial through its objective and its parameters."""
    figure = plot_parallel_coordinate(study, target_name=objective)
    complete = study.get_trials(states=[TrialState.COMPLETE])
    names = sorted({name for trial in complete for name in trial.params})  # the order of Optuna's axes
    labels = [name.replace(".", ".<br>") for name in (objective, *names)]
    styled(figure, "Objective and parameters of each trial", height=400)
    figure.update_layout(margin={"t": 80, "b": 70}, xaxis_ticktext=labels)  # Optuna's own are cut off
    return figure.update_yaxes(title_text="")


def slices(study: optuna.Study, parameters: Iterable[str], objective: str) -> list[go.Figure]:
    """Plot the objective of the complete trials over each parameter, a figure for each; darker points came later."""
    figures = []
    for parameter in map(escape, parameters):
        figure = plot_slice(study, params=[parameter], target_name=objective)
        figure.update_traces(marker={"size": 9, "showscale": False, "colorscale": EARLY_TO_LATE})
        axis = figure.layout.xaxis
        if axis.type == "log":
            axis.update(dtick="D2", tickformat="~g", tickangle=0)  # ticks at 1, 2 and 5 of each decade
        elif axis.type == "category":  # Optuna's labels are in quotes
            axis.update(tickvals=axis.categoryarray, ticktext=[label.strip("'") for label in axis.categoryarray])
        figures.append(styled(figure, f"{objective} by {parameter}", height=280, x=parameter, y=objective))
    return figures


def whole_step(count: int) -> int:
    """Return the distance between the ticks of an axis of whole numbers."""
    return max(1, round(count / 10))
