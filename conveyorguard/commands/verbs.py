"""What `python -m conveyorguard <verb>` does, a function a verb; its docstring is what `--help` prints."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from conveyorguard.config.checks import check
from conveyorguard.config.compose import compose_config, config_dir
from conveyorguard.config.saved import merge_saved
from conveyorguard.errors import ConfigError

if TYPE_CHECKING:
    from conveyorguard.runs.saved import SavedRun


def _simulate(arguments: list[str]) -> None:
    """simulate OUT [data.sessions=72] [data.seed=0] [data.archive=zip|folder]

    Write simulated recordings into the new folder OUT as AI Hub #71802 archives: zips, or folders of the same files.
    Read them with `python train.py data=aihub data.root=OUT`.
    """
    from omegaconf import OmegaConf

    from conveyorguard.data.archive.writer import write
    from conveyorguard.data.schema import Schema

    out, overrides = _one_path(arguments, "simulate OUT")
    cfg = compose_config(["data=simulated", *overrides])
    schema = Schema.from_config(OmegaConf.to_container(cfg.data.schema, resolve=True))  # type: ignore[arg-type]
    count = write(out, schema, cfg.data.sessions, cfg.data.seed, cfg.data.archive)
    print(f"{count} sessions; train on them with: python train.py data=aihub data.root={out}")
    print(out)


def _prepare(arguments: list[str]) -> None:
    """prepare [data=simulated|aihub|table|NAME] [--config-dir FOLDER] [data.root=PATH] [data.strict=true]
    [data.thermal.reduce=mean_max|stride]

    Build the frame store (once; a second call finds it), and say how much there is and what was left out or repaired.
    """
    from conveyorguard.runs.data import load_store

    cfg = compose_config(arguments)
    check(cfg)
    store = load_store(cfg)
    print(store.summary())
    print(store.path)


def _schema(arguments: list[str]) -> None:
    """schema PATH [out=conf/data/NAME.yaml]

    Look at a folder of csv or parquet files (or one file) and draft the yaml that makes a data set of them: channels
    with units as far as names tell, time, states, devices, camera. What is odd about the files is listed. The draft can
    be trained with as it is; look at it first. An existing file is never written over.
    """
    from conveyorguard.data.draft.guess import draft

    path, options = _one_path(arguments, "schema PATH [out=conf/data/NAME.yaml]")
    given = dict(option.split("=", 1) for option in options)
    name = re.sub(r"\W+", "_", path.resolve().stem).strip("_") or "plant"
    out = Path(given.pop("out", f"conf/data/{name}.yaml"))
    if given:
        raise ConfigError(f"schema takes out=FILE.yaml, not {', '.join(given)}")
    if out.suffix != ".yaml" or out.resolve().parent.name != "data":
        raise ConfigError(f"out={out}: Hydra looks for it in a folder called data: write out=conf/data/{out.stem}.yaml")
    if out.exists():
        raise ConfigError(f"{out} is there already: remove it, or give another name with out=conf/data/NAME.yaml")
    made = draft(path, out.stem)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(made.text, encoding="utf-8")
    print(made.text)
    for sentence in made.odd:
        print(f"- {sentence}")
    folder = out.resolve().parent.parent
    own = "" if folder == config_dir().resolve() else f"--config-dir {shlex.quote(str(out.parent.parent))} "
    print(f"\nLook at it, then: python -m conveyorguard train {own}data={out.stem}")
    print(out)


def _eda(arguments: list[str]) -> None:
    """eda [overrides] [out=DIRECTORY]

    Describe the data of a config in a page, 00_eda.html, with its tables as csv: sizes, balance of the states,
    correlations, distributions, one session with a fault, camera, environment, quality, and what follows from them by
    fixed rules.
    """
    from conveyorguard.reporting.eda_page import TITLES, write_eda
    from conveyorguard.reporting.format import warning_of
    from conveyorguard.reporting.site import Site, origin_of
    from conveyorguard.runs.data import load_windows

    out = next((Path(line[4:]) for line in arguments if line.startswith("out=")), None)
    cfg = compose_config([line for line in arguments if not line.startswith("out=")])
    check(cfg)
    cfg.film_input = "environment"  # the environment as it was recorded
    data = load_windows(cfg)
    name, command = cfg.data.name, f"python -m conveyorguard eda {' '.join(arguments)}"
    origin = origin_of(data, name, command)
    site = Site(out or _new_folder("eda"), f"{name} data", TITLES, warning_of(name), origin)
    print(write_eda(site, data))


def _report(arguments: list[str]) -> None:
    """report RUN

    Draw RUN/report.html and RUN/MODEL_CARD.md again. It reads the run directory alone: no data and no model are needed.
    """
    from conveyorguard.reporting.model_card import write_card
    from conveyorguard.reporting.report import write_report

    folder, _ = _one_path(arguments, "report RUN")
    write_card(folder)
    print(write_report(folder))


def _compare(arguments: list[str]) -> None:
    """compare RUN... | compare MULTIRUN_DIR [out=DIRECTORY]

    Put runs side by side, or all runs of a multirun: every metric with its interval, paired differences, the shortcut
    baselines, seeds averaged, folds pooled. Writes comparison.html and its tables as csv into `out`: by default the
    multirun's directory, or a new one in outputs/. Runs over different windows or splits are refused.
    """
    from conveyorguard.evaluation.compare import compare
    from conveyorguard.reporting.compare_page import write_comparison
    from conveyorguard.reporting.terminal import print_comparison

    paths, out = _several_paths(arguments, "compare")
    comparison = compare(paths)
    alone = len(paths) == 1 and not (paths[0] / "config.yaml").exists()
    print_comparison(comparison)
    print(write_comparison(comparison, out or (paths[0] if alone else _new_folder("comparison"))))


def _ensemble(arguments: list[str]) -> None:
    """ensemble RUN RUN... [out=DIRECTORY]

    Combine finished runs over the same windows and split: soft voting, voting weighted by validation macro-F1, and
    stacking by a logistic regression cross-fitted on validation predictions by session. Each strategy becomes a run
    directory in `out` and is held against the member that is best on validation: helped, did not help, or not shown.
    """
    from conveyorguard.evaluation.ensemble import ensemble
    from conveyorguard.reporting.ensemble_page import write_ensemble
    from conveyorguard.reporting.terminal import print_ensemble

    paths, out = _several_paths(arguments, "ensemble")
    folder = out or _new_folder("ensemble")
    result = ensemble(paths, folder)
    print_ensemble(result)
    print(write_ensemble(result, folder))


def _reproduce(arguments: list[str]) -> None:
    """reproduce RUN [key=value ...]

    Run the saved config of RUN anew, never today's defaults, with the thread count it had; print its numbers old, new
    and their difference, and the inputs that differ (data, split, config, code, versions, device), the first one by
    name. Exit status 0 only when the numbers are equal: bit for bit on the same stack, else within a stated tolerance.
    With overrides (seed=1) it is a variation of the run.
    """
    from conveyorguard.commands.reproduce import reproduce

    folder, overrides = _one_path(arguments, "reproduce RUN")
    if not reproduce(folder, overrides):
        sys.exit(1)


def _predict(arguments: list[str]) -> None:
    """predict RUN data.root=NEW [data=NAME ...] [out=DIRECTORY] [--watch]

    Apply a trained run to recordings, labelled or not: the state of every second and window with calibrated
    probabilities, alarms at the run's operating point, and what in each recording is unlike the training (values
    outside its range, missing channels, dead sensors). The data are read as those of the training, those of a simulated
    training as AI Hub archives; data=NAME reads them as another data set with the same channels. Recordings are taken
    one after another, so their number is not limited by memory.

    Writes predictions.parquet (a row a window), seconds.parquet, alarms.csv, recordings.csv and predictions.html into
    `out`, by default a new directory in outputs/.

    --watch follows a folder into which a collector writes, frame by frame (AI Hub files) or line by line (csv): each
    alarm is printed and appended to alarms.csv when the last second of its window is there. Stop it with Ctrl-C; the
    same command goes on where it was, however it ended. It writes into `out`, by default outputs/watch/<folder>-<run>.
    """
    from conveyorguard.commands.predict import predict_all, terminal_summary
    from conveyorguard.inference.loaded_run import LoadedRun

    watching = "--watch" in arguments
    folder, overrides = _one_path([a for a in arguments if a != "--watch"], "predict RUN data.root=NEW [--watch]")
    out = next((Path(a.partition("=")[2]) for a in overrides if a.startswith("out=")), None)
    loaded = LoadedRun(folder)
    config = _data_of(loaded.run, [a for a in overrides if not a.startswith("out=")])
    if watching:
        from conveyorguard.inference.watch import watch

        watch(loaded, config, out or _watch_folder(config, folder))
        return
    out = out or _new_folder("predict")
    totals, page = predict_all(loaded, config, out)
    print(terminal_summary(loaded, totals, out))
    print(page)


def _export(arguments: list[str]) -> None:
    """export RUN [data.root=PATH] [out=DIRECTORY]

    Write the run's model as ONNX, with scaling and calibration inside the graph: model.onnx and its description
    model.json (inputs, outputs, units, opset, states, operating point), into `out`, by default RUN/export. The file is
    checked: ONNX Runtime must give the probabilities of the run's own model within 1e-4 on real windows, which are
    taken from the run's data. Networks take the raw batch of a window, trees and regression its features by name. The
    latency of one window is printed. Needs: pip install "conveyorguard[export]".
    """
    from conveyorguard.inference.export import export, summary
    from conveyorguard.inference.loaded_run import LoadedRun

    folder, overrides = _one_path(arguments, "export RUN [data.root=PATH] [out=DIRECTORY]")
    out = next((Path(a.partition("=")[2]) for a in overrides if a.startswith("out=")), folder / "export")
    loaded = LoadedRun(folder)
    config = _data_of(loaded.run, [a for a in overrides if not a.startswith("out=")])
    print(summary(export(loaded, config, out)))
    print(out / "model.onnx")


def _data_of(run: SavedRun, overrides: list[str]) -> DictConfig:
    """The config by which new recordings are read: the run's own, or that of data=NAME."""
    simulated = run.config.data.name == "simulated" and any(a.startswith("data.root=") for a in overrides)
    if any(a.startswith("data=") for a in overrides):
        return compose_config(overrides)
    if simulated:  # the simulator writes the layout of AI Hub
        print(
            "the run was trained on simulated recordings: data.root is read as archives of AI Hub (data=NAME for "
            "others)"
        )
        return compose_config(["data=aihub", f"data.thermal.reduce={run.config.data.thermal.reduce}", *overrides])
    return merge_saved(run.config, overrides, run.provenance)


def _watch_folder(config: DictConfig, run: Path) -> Path:
    """Where a watch writes: the same place each time, so that it goes on where it was."""
    return Path("outputs") / "watch" / f"{Path(config.data.root).resolve().name}-{run.resolve().name}"


def _check(arguments: list[str]) -> None:
    """check RUN [depth=files|data|training] [key=value ...]

    Look for what would make the numbers of a run wrong, and say of each what was expected and what was found:
      files      sessions or devices in two parts of the split; predictions of other sessions, or without a part;
      metrics,
                 calibration or alarms that do not follow from predictions.parquet; a model card or a page with other
                 figures; an edited config; a file that does not hold what it should. Reads the run directory alone.
      data       also: other recordings; another split, other windows, labels or facts of windows than the data
                 give; shortcuts or a history that are not of these data and this model; scaling or ranges fitted
                 outside train; predictions that the checkpoint does not give; a model that knows labels from constant
                 input; a modality that receives no gradient.
      training   (default) also: two small models of the run's kind, trained on shuffled labels and on constant input, a
      minute
                 or two, that are better than chance.
    Overrides say where the recordings are now (data.root=PATH). Exit status 1 when a check fails.
    """
    from conveyorguard.checks.checks import DEEPEST, check_run

    folder, overrides = _one_path(arguments, "check RUN")
    depth = next((line.partition("=")[2] for line in overrides if line.startswith("depth=")), DEEPEST)
    failed = []
    for outcome in check_run(folder, depth, [line for line in overrides if not line.startswith("depth=")]):
        print(f"{outcome.verdict:>11}  {outcome.name}: {outcome.told}", flush=True)
        failed += [outcome.name] if outcome.verdict == "FAILED" else []
    if failed:
        print(f"{len(failed)} checks failed: {'; '.join(failed)}")
        sys.exit(1)
    print("no check failed")


def _diagnose(arguments: list[str]) -> None:
    """diagnose RUN [RUN...] [data.root=PATH] [curve=4,8,16,22] [out=DIRECTORY]

    What a run leans on and whether to fuse at all: the gap to its arms of one modality, what is lost when a modality
    says nothing, a recommendation (sensor only, cascade, fuse) with its rule; missing values, dead sensors, a failing
    camera and noise, for all arms alike; results by device, near changes of state, second by second, without the
    recording's start; delay and lead of every fault. The further runs are its arms (the same model with one modality)
    and a run of trees, or a multirun that holds them; without any, those that lie beside RUN are taken. curve= trains
    RUN and the trees anew on so many devices, reusing what is there. Needs the data: data.root=PATH where they have
    moved. Writes diagnose.html and its tables, diagnose_*.csv, into RUN, or `out`.
    """
    from conveyorguard.commands.learning_curve import counts_of, learning_curve
    from conveyorguard.config.saved import merge_saved
    from conveyorguard.evaluation.diagnose import SINGLE, diagnose
    from conveyorguard.reporting.diagnose_page import terminal_summary, write_diagnosis
    from conveyorguard.runs.data import load_store
    from conveyorguard.runs.saved import SavedRun

    paths, options = [a for a in arguments if "=" not in a], [a for a in arguments if "=" in a]
    own = dict(a.split("=", 1) for a in options if a.startswith(("out=", "curve=")))
    overrides = [a for a in options if not a.startswith(("out=", "curve="))]
    if not paths:
        raise ConfigError(
            "usage: python -m conveyorguard diagnose RUN [RUN...] [data.root=PATH] [curve=4,8] [out=DIRECTORY]"
        )
    counts = counts_of(own["curve"]) if "curve" in own else []
    run = SavedRun(paths[0])
    folder = Path(own.get("out", paths[0]))
    store = load_store(merge_saved(run.config, overrides, run.provenance))
    found = diagnose(paths[0], paths[1:], store)
    page = write_diagnosis(found, folder)
    if counts:  # trainings, any of which may fail: what was found before is on the disk
        both = {label: arm for label, arm in found.arms.items() if label not in SINGLE.values()}
        found.tables["curve"] = learning_curve(both, counts, folder / "curve", overrides)
        page = write_diagnosis(found, folder)
    print(terminal_summary(found))
    print(page)


def _several_paths(arguments: list[str], verb: str) -> tuple[list[Path], Path | None]:
    given = dict(a.split("=", 1) for a in arguments if "=" in a)
    paths = [Path(a) for a in arguments if "=" not in a]
    if not paths or set(given) - {"out"}:
        raise ConfigError(
            f"usage: python -m conveyorguard {verb} RUN RUN... [out=DIRECTORY]; found "
            f"{' '.join(arguments) or 'nothing'}"
        )
    return paths, Path(given["out"]) if "out" in given else None


def _new_folder(name: str) -> Path:
    now = datetime.now()
    return Path("outputs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}-{name}"


def _one_path(arguments: list[str], usage: str) -> tuple[Path, list[str]]:
    paths = [a for a in arguments if "=" not in a]
    if len(paths) != 1:
        raise ConfigError(
            f"usage: python -m conveyorguard {usage} [overrides]; found {' '.join(arguments) or 'nothing'}"
        )
    return Path(paths[0]), [a for a in arguments if "=" in a]


VERBS: dict[str, Callable[[list[str]], None]] = {
    "simulate": _simulate,
    "prepare": _prepare,
    "eda": _eda,
    "schema": _schema,
    "compare": _compare,
    "ensemble": _ensemble,
    "reproduce": _reproduce,
    "predict": _predict,
    "export": _export,
    "check": _check,
    "diagnose": _diagnose,
    "report": _report,
}
