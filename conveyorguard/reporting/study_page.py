"""`study.html` and `trials.csv` of a sweep, drawn from its Optuna study."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import optuna
import plotly.graph_objects as go
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from plotly.subplots import make_subplots

from conveyorguard.reporting import pages
from conveyorguard.reporting.figures import BLUE, GREY, STATE_COLOURS, styled
from conveyorguard.sweeps.shared_study import best_of, ended
from conveyorguard.sweeps.summary import few_digits, retraining, trial_cells
from conveyorguard.system.files import write_text

BEST = STATE_COLOURS[2]
LEAST_FOR_IMPORTANCES = 5  # complete trials


def write_study_page(study: optuna.Study, folder: Path) -> Path:
    """Write the page and the table of a study's trials, and print where; what `sweep.on_end` calls.

    Args:
        folder: of the study; trials are in its subfolders, or wherever their sweeper was.
    """
    trials = ended(study.get_trials(deepcopy=False))
    best = best_of(study, trials)
    objective = _objective(trials)
    blocks = [_summary(study, trials, best)]
    if any(trial.intermediate_values for trial in trials):
        values = pages.figure(intermediate_values(trials, best, objective), f"{objective} of each trial by epoch")
        note = "A line a trial: complete ones blue, the best one orange, pruned ones grey, ending in a cross."
        blocks.append(pages.section("Epochs of the trials", values, note=note))
    if best:
        maximize = study.direction == StudyDirection.MAXIMIZE
        history = pages.figure(
            optimization_history(trials, maximize, objective), f"{objective} of each trial, and the best so far"
        )
        blocks.insert(1, pages.section("History", history))
        blocks += [_importances(study, trials), _slices(trials, best, objective)]
    blocks.append(_table(trials, folder))
    path = folder / "study.html"
    write_text(
        path,
        pages.page(
            f"Study {study.study_name}",
            f"{objective}, {study.direction.name.lower()}",
            blocks,
            pages.plotly_around(folder),
        ),
    )
    _write_table(study, trials, folder / "trials.csv")
    if best:
        print(_told(trials))
    print(path, flush=True)
    return path


def _write_table(study: optuna.Study, trials: list[FrozenTrial], path: Path) -> None:
    """The trials as csv, without what belongs to the machines they ran on."""
    facts = ("number", "state", "value", "datetime_start", "datetime_complete", "duration", "params", "user_attrs")
    frame = study.trials_dataframe(facts)
    if trials:
        frame = frame[frame["number"].isin([trial.number for trial in trials])]
    dropped = [f"user_attrs_{name}" for name in ("owner", "token", "folder", "dir", "slot")]
    write_text(path, frame.drop(columns=dropped, errors="ignore").to_csv(index=False))


def _settings(trials: list[FrozenTrial]) -> dict[str, Any]:
    """The config of any trial whose run directory is here, else empty."""
    paths = (_folder(trial) / "config.yaml" for trial in trials)
    return next((yaml.safe_load(path.read_text(encoding="utf-8")) for path in paths if path.is_file()), {})


def _folder(trial: FrozenTrial) -> Path:
    """The run directory; of a trial that Optuna's own tools have added there is none."""
    return Path(trial.user_attrs.get("folder", os.devnull), str(trial.number))


def _objective(trials: list[FrozenTrial]) -> str:
    return _settings(trials).get("objective", "objective")


def last_value(trial: FrozenTrial) -> float | None:
    """The objective of a complete trial; of another one, what it reported last."""
    if trial.state == TrialState.COMPLETE:
        return trial.value
    values = trial.intermediate_values
    return values[max(values)] if values and trial.state == TrialState.PRUNED else None


def _summary(study: optuna.Study, trials: list[FrozenTrial], best: FrozenTrial | None) -> str:
    counts = [
        (word, sum(trial.state == state for trial in trials))
        for word, state in (
            ("complete", TrialState.COMPLETE),
            ("pruned", TrialState.PRUNED),
            ("failed", TrialState.FAIL),
        )
    ]
    epochs, limit = sum(len(trial.intermediate_values) for trial in trials), _epochs_of_a_trial(_settings(trials))
    trained = "epochs trained" + (f", of at most {limit * len(trials)}" if limit else "")
    values = [(word, str(count)) for word, count in counts] + ([(trained, str(epochs))] if epochs else [])
    if best is None:
        return pages.section(
            "Result", pages.tiles(values), note="No trial is complete, so there are no best parameters."
        )
    values = [(f"best {_objective(trials)}, trial {best.number}", f"{best.value:.4f}"), *values]
    rows = [[name, few_digits(value), searched(best.distributions[name])] for name, value in best.params.items()]
    command = pages.base_names(retraining(study, best))
    told = (
        f"<h3>Train it again</h3><p class='note'>{escape(_told(trials))}</p><pre style='white-space: "
        f"pre-wrap'>{escape(command)}</pre>"
    )
    return pages.section(
        "Result",
        pages.tiles(values),
        "<h3>Best parameters</h3>",
        pages.table(["parameter", "best", "searched"], rows),
        told,
    )


def searched(distribution: BaseDistribution) -> str:
    """The values a parameter could take."""
    if isinstance(distribution, CategoricalDistribution):
        return ", ".join(map(few_digits, distribution.choices))
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    scale = ", logarithmic" if distribution.log else f", step {distribution.step:g}" if distribution.step else ""
    return f"{distribution.low:g} to {distribution.high:g}{scale}"


def _epochs_of_a_trial(settings: dict[str, Any]) -> int | None:
    return settings["trainer"]["max_epochs"] if "trainer" in settings else None


def _told(trials: list[FrozenTrial]) -> str:
    """What the sweep trained, and how that which the printed command trains differs from it."""
    settings = _settings(trials)
    same = "The command that retrains the best has the same settings, so it trains the same."
    told = [same]
    limit = _epochs_of_a_trial(settings)
    if any(trial.intermediate_values for trial in trials) and limit:
        told = [
            f"A trial trained at most {limit} epoch{'s' if limit > 1 else ''} and kept the best by "
            f"{settings['objective']}.",
            same,
            "For longer training change trainer.max_epochs, and expect other figures.",
        ]
    if settings and not settings["test"]:
        told.append("The sweep did not touch the test data; the command evaluates on them at the end.")
    return " ".join(told)


def optimization_history(trials: list[FrozenTrial], maximize: bool, objective: str) -> go.Figure:
    """The value of each trial, and the best one so far as a line."""
    figure = go.Figure()
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    best, so_far = -math.inf, []
    for trial in complete:
        assert trial.value is not None
        best = max(best, trial.value if maximize else -trial.value)
        so_far.append(best if maximize else -best)
    numbers = [t.number for t in complete]
    if numbers and trials[-1].number > numbers[-1]:  # to the last trial, which need not be complete
        numbers, so_far = [*numbers, trials[-1].number], [*so_far, so_far[-1]]
    figure.add_scatter(
        x=numbers, y=so_far, name="best so far", mode="lines", line={"color": BEST, "shape": "hv"}, hoverinfo="skip"
    )
    for trace in _points(trials, lambda trial: trial.number):
        figure.add_trace(trace)
    figure = styled(figure, f"{objective} by trial", x="trial", y=objective)
    return figure.update_xaxes(dtick=_whole_step(len(trials)))


def _whole_step(count: int) -> int:
    """Between the ticks of an axis of whole numbers."""
    return max(1, round(count / 10))


def _points(trials: list[FrozenTrial], x: Callable[[FrozenTrial], Any], legend: bool = True) -> list[go.Scatter]:
    """Complete and pruned trials as points at x(trial)."""
    looks = (
        (TrialState.COMPLETE, "complete", {"color": BLUE, "size": 9}),
        (
            TrialState.PRUNED,
            "pruned, at its last epoch",
            {"color": GREY, "size": 8, "symbol": "x-thin", "line_width": 2, "line_color": GREY},
        ),
    )
    traces = []
    for state, name, marker in looks:
        shown = [t for t in trials if t.state == state and last_value(t) is not None]
        if shown:
            traces.append(
                go.Scatter(
                    x=[x(t) for t in shown],
                    y=[last_value(t) for t in shown],
                    mode="markers",
                    marker=marker,
                    name=name,
                    showlegend=legend,
                    hovertext=[_hover(t) for t in shown],
                    hoverinfo="text",
                )
            )
    return traces


def _hover(trial: FrozenTrial) -> str:
    """Plotly takes some markup in hover texts, so parameters are escaped."""
    lines = [f"{name} {few_digits(value)}" for name, value in trial.params.items()]
    return "<br>".join([f"trial {trial.number}: {last_value(trial):.5g}", *map(escape, lines)])


def intermediate_values(trials: list[FrozenTrial], best: FrozenTrial | None, objective: str) -> go.Figure:
    """The objective of each trial after each of its epochs."""
    figure = go.Figure()
    looks: dict[str, dict[str, Any]] = {
        "pruned": {"line": {"color": GREY, "width": 1.2, "dash": "dot"}},
        "failed": {"line": {"color": STATE_COLOURS[3], "width": 1, "dash": "dot"}},
        "complete": {"line": {"color": BLUE, "width": 1.6}, "opacity": 0.65},
        "best": {"line": {"color": BEST, "width": 3}},
    }
    kinds = {TrialState.PRUNED: "pruned", TrialState.FAIL: "failed", TrialState.COMPLETE: "complete"}
    seen = set()
    order = list(looks)
    kind_of = {t.number: "best" if best and t.number == best.number else kinds[t.state] for t in trials}
    for trial in sorted(trials, key=lambda t: order.index(kind_of[t.number])):
        kind, values = kind_of[trial.number], trial.intermediate_values
        if not values:
            continue
        steps = sorted(values)
        cross = kind in ("pruned", "failed")
        sizes = [0] * (len(steps) - 1) + [9 if cross else 5]
        figure.add_scatter(
            x=[step + 1 for step in steps],
            y=[values[step] for step in steps],
            mode="lines+markers",
            name=kind,
            legendgroup=kind,
            showlegend=kind not in seen,
            **looks[kind],
            marker={"symbol": "x" if cross else "circle", "size": sizes, "opacity": 1},
            hovertemplate=f"trial {trial.number}, epoch %{{x}}: %{{y:.4f}}<extra></extra>",
        )
        seen.add(kind)
    figure = styled(figure, f"{objective} after each epoch", height=380, x="epoch", y=objective)
    epochs = max((len(trial.intermediate_values) for trial in trials), default=0)
    return figure.update_xaxes(dtick=_whole_step(epochs))


def _importances(study: optuna.Study, trials: list[FrozenTrial]) -> str:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    title = "Importance of the parameters"
    if len(complete) < LEAST_FOR_IMPORTANCES or len({trial.value for trial in complete}) == 1:
        few = f"{len(complete)} complete trials are too few to tell ({LEAST_FOR_IMPORTANCES} or more are needed)."
        return pages.section(title, note=few if len(complete) < LEAST_FOR_IMPORTANCES else "All values are the same.")
    shares = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    note = (
        f"Share of the objective's variance that a parameter explains (fANOVA on {len(complete)} complete trials; "
        "pruned ones "
        "are left out). From fewer than about 50 trials it is a hint, no more."
    )
    return pages.section(title, pages.figure(importance_bars(shares), "importance of each parameter"), note=note)


def importance_bars(shares: dict[str, float]) -> go.Figure:
    """A bar a parameter, the most important one on top."""
    names, values = [escape(name) for name in reversed(shares)], list(reversed(shares.values()))
    bar = go.Bar(
        x=values,
        y=names,
        orientation="h",
        marker_color=BLUE,
        text=[f"{v:.0%}" for v in values],
        textposition="outside",
        cliponaxis=False,
        hoverinfo="skip",
    )
    figure = styled(
        go.Figure(bar), "What each parameter explains", height=110 + 34 * len(names), x="share of the variance"
    )
    return (
        figure.update_xaxes(tickformat=".0%", range=[0, 1.08 * max(values)])
        .update_yaxes(ticklabelstandoff=6)
        .update_layout(margin_t=40)
    )


def _slices(trials: list[FrozenTrial], best: FrozenTrial, objective: str) -> str:
    drawn = pages.figure(slices(trials, best, objective), f"{objective} over each parameter")
    return pages.section("Value over each parameter", drawn, note="A point a trial; the best one is circled.")


def slices(trials: list[FrozenTrial], best: FrozenTrial, objective: str) -> go.Figure:
    """The objective over each parameter, over all that was searched of it; three in a row."""
    names = list(best.params)
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = make_subplots(rows, columns, shared_yaxes=True, horizontal_spacing=0.03, vertical_spacing=0.28 / rows)
    for i, name in enumerate(names):
        row, column = i // columns + 1, i % columns + 1
        for trace in _slice(trials, best, name, legend=i == 0):
            figure.add_trace(trace, row, column)
        axis = {"title_text": escape(name), **_searched_axis(best.distributions[name])}
        figure.update_xaxes(axis, row=row, col=column)
        if column == 1:
            figure.update_yaxes(title_text=objective, row=row, col=column)
    titles = {axis: figure.layout[axis].title.text for axis in figure.layout if axis.startswith("xaxis")}
    styled(figure, f"{objective} over each parameter", height=110 + 230 * rows)
    figure.update_layout({axis: {"title": {"text": text}} for axis, text in titles.items()})
    return figure


def _slice(trials: list[FrozenTrial], best: FrozenTrial, name: str, legend: bool) -> list[go.Scatter]:
    """Points of the trials that have a parameter, at its value, and a ring around the best one."""
    categorical = isinstance(best.distributions[name], CategoricalDistribution)

    def x(trial: FrozenTrial) -> Any:
        return escape(str(trial.params[name])) if categorical else trial.params[name]

    ring = go.Scatter(
        x=[x(best)],
        y=[best.value],
        mode="markers",
        marker={"size": 16, "symbol": "circle-open", "color": BEST, "line_width": 2},
        name="best",
        showlegend=legend,
        hoverinfo="skip",
    )
    return [*_points([trial for trial in trials if name in trial.params], x, legend), ring]


def _searched_axis(distribution: BaseDistribution) -> dict[str, Any]:
    """The x axis over all values that a parameter could take."""
    if isinstance(distribution, CategoricalDistribution):
        choices = [escape(str(choice)) for choice in distribution.choices]
        ends = [-0.5, len(choices) - 0.5]
        return {"type": "category", "categoryorder": "array", "categoryarray": choices, "range": ends}
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, axis = float(distribution.low), float(distribution.high), {}
    if distribution.log:
        ticks = _log_ticks(low, high)
        axis = {"type": "log", "tickvals": ticks, "ticktext": [f"{v:g}" for v in ticks]}
        low, high = math.log10(low), math.log10(high)
    margin = 0.05 * (high - low) or 0.5
    return {**axis, "range": [low - margin, high + margin]}


def _log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 of each decade between two values; over more than two decades only 1."""
    digits = (1, 2, 5) if high < 200 * low else (1,)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [digit * 10.0**decade for decade in decades for digit in digits]


def _table(trials: list[FrozenTrial], folder: Path) -> str:
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    targets = {trial.number: _target(trial, folder) for trial in trials}
    head = ["trial", "state", "value", "s", *names]
    parts = [pages.linked(head, [trial_cells(trial, names) for trial in trials], targets.values())]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    if failed:
        rows = [[trial.number, trial.user_attrs.get("reason", "told by hand")] for trial in failed]
        table = pages.linked(["trial", "why it failed"], rows, [targets[trial.number] for trial in failed], "prose")
        parts.append(f"<h3>Failed trials</h3>{table}")
    note = "A number leads to the trial's page, or to its output where it has none. The same table: trials.csv."
    return pages.section("Trials", *parts, note=note)


def _target(trial: FrozenTrial, folder: Path) -> str | None:
    """What to open for a trial, relative to the page; nothing where the trial ran on another machine."""
    paths = (_folder(trial) / name for name in ("report.html", "trial.log"))
    found = next((path for path in paths if path.is_file()), None)
    return Path(os.path.relpath(found, folder)).as_posix() if found else None
