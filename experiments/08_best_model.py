"""08 The best model: all arms on folds of devices and on other splits, and the targets of the best model.

python experiments/08_best_model.py [overrides of train.py] [arms=NAME,...] [seeds=N] [without=PART,...] [--fresh]
[--small|--full] [out=DIR] [workers=N]

Prints its tables and writes them as a page, as summary.md and as csv; --full also copies summary and csv to
experiments/best_model/, with fewer sessions too, where they say so. If killed, the same command continues. The arms
that the targets need always run. `arms` names the others to run, by default all but dl_tuned, which takes hours per
fold on a processor. `seeds` is the number of seeds of the main arms, by default 3 with --full. `without` leaves
out parts that predict every second of many recordings again: corruptions, starts, others.
"""

import shutil
import sys
from pathlib import Path

from pandas import DataFrame

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from conveyorguard.data.splits import SEED_STUDY_SESSIONS
from conveyorguard.data.windows import Windows
from conveyorguard.errors import ConfigError
from conveyorguard.evaluation.breakdown import by_device
from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.evaluation.compare import Comparison, compare
from conveyorguard.evaluation.robustness import against_single, second_by_second, with_starts_cut
from conveyorguard.evaluation.shortcuts import ELAPSED
from experiments.stages.best_model import (
    best_epoch_minutes,
    causal_table,
    corrupted,
    distance_table,
    elapsed_arm,
    findings,
    on_other_recordings,
    onset_table,
    others_table,
    pooled_arm,
    starts_cut_table,
)
from experiments.stages.best_model_notes import SINGLE, Runs, each_run, notes_on_fusion, notes_on_runs
from experiments.stages.best_model_page import STEM, BestModel, write_best_model
from experiments.stages.best_model_targets import targets
from experiments.stages.command_line import main
from experiments.stages.speed import side_by_side
from experiments.stages.study import StagedStudy, units_of

CELLS = {
    f"{m}_{'film' if f else 'plain'}": [f"modality={m}", f"film={str(f).lower()}"] for m, f in (*CELLS, *FURTHER_CELLS)
}
FULL = CELLS["both_film"]
# the best of 80 trials on the validation windows of the folds (trees_window.csv and trees_extended.csv in
# experiments/best_model/, "Trees, tuned" in its log.md), as many trials as fusion had designs. EXTENDED is the second
# best: 0.004 points behind the best, with an eighth of its rounds
LIGHTGBM = [
    "model=lightgbm",
    "model.colsample_bytree=0.1",
    "model.learning_rate=0.0546",
    "model.min_child_samples=20",
    "model.n_estimators=300",
    "model.num_leaves=15",
    "model.reg_lambda=0.202",
]
EXTENDED = [
    "model=lightgbm",
    "features=extended",
    "model.class_weight=none",
    "model.colsample_bytree=0.1",
    "model.learning_rate=0.0496",
    "model.min_child_samples=10",
    "model.n_estimators=100",
    "model.num_leaves=15",
    "model.reg_lambda=1.83",
]
MAIN = {
    "fusion_both_film": ["model=fusion", *FULL],
    "lightgbm": [*LIGHTGBM, *FULL],
    "lightgbm_extended_both_film": [*EXTENDED, *FULL],
}
ARMS = {
    **{f"fusion_{cell}": ["model=fusion", *overrides] for cell, overrides in CELLS.items()},
    "fusion_kind": ["model=fusion", *FULL, "film_input=kind"],
    "fusion_shuffled": ["model=fusion", *FULL, "film_input=shuffled"],
    **{f"lightgbm_extended_{cell}": [*EXTENDED, *overrides] for cell, overrides in CELLS.items()},
    "lightgbm": MAIN["lightgbm"],
    "extra_trees_extended": ["model=extra_trees", "model.class_weight=none", "features=extended", *FULL],
    "dl_tuned": ["experiment=dl_tuned", *FULL],
}
# further arms that use the start of the recording and come close to the main arms
USES_START = ("fusion_both_plain", "fusion_sensor_film", "lightgbm_extended_sensor_film", "extra_trees_extended")
DEFAULT_ARMS = {
    "small": [n for n in ARMS if not n.startswith("lightgbm_extended")],
    "full": [n for n in ARMS if n != "dl_tuned"],
}
# recordings that no other command of the repository simulates
OTHERS = {
    "small": ["data.seed=2027", "data.sessions=24"],
    "full": ["data.seed=2027", "data.sessions=120"],
}
NOW = ["split=session", "window.label=last"]  # what a user is answered: the state at each second
# folds to run, number of folds, seeds of the main arms (the other arms have the first seed only)
PARTS = ("corruptions", "starts", "others")  # that `without` may leave out
SIZES = {"small": (range(2), 3, range(1)), "full": (range(5), 5, range(3))}


Folds = dict[int, list[str]]  # overrides by fold


def pairs() -> dict[str, tuple[str, str]]:
    """Return the questions about inputs, each with the two arms that answer it."""
    questions = {}
    for model in ("fusion", "lightgbm_extended"):
        for film in ("plain", "film"):
            both = f"{model}_both_{film}"
            questions[f"{model}: camera added to sensors, {film}"] = (both, f"{model}_sensor_{film}")
            questions[f"{model}: sensors added to camera, {film}"] = (both, f"{model}_image_{film}")
        for modality in ("sensor", "image", "both"):
            questions[f"{model}: film, {modality}"] = (f"{model}_{modality}_film", f"{model}_{modality}_plain")
    questions["film: environment instead of kind"] = ("fusion_both_film", "fusion_kind")
    questions["film: environment instead of one shuffled within the kind"] = ("fusion_both_film", "fusion_shuffled")
    return questions


def protocols(study: StagedStudy) -> tuple[dict[str, Folds], list[str]]:
    """Return the overrides of each split by fold, and notes on splits that the data do not allow."""
    folds, count, *_ = SIZES[study.size]
    splits = {"kfold": {k: ["split=kfold", f"split.n_folds={count}", f"split.fold={k}"] for k in folds}}
    notes = []
    for split in ("device", "session"):
        try:
            study.data(study.config([f"split={split}"]))
            splits[split] = {0: [f"split={split}"]}
        except ConfigError as error:
            notes.append(f"split={split} is left out: {error}")
    return splits, notes


def arms_of(study: StagedStudy, split: str) -> dict[str, tuple[list[str], range]]:
    """Return overrides and seeds of each arm; splits other than kfold have the main arms only.

    Raises:
        ConfigError: an arm is unknown, or the data have no camera.
    """
    seeds = seeds_of(study)
    if study.lacks("data.schema.thermal"):
        raise ConfigError("data.schema.thermal: 08_best_model needs a camera, and the data have none. Give other data.")
    named = DEFAULT_ARMS[study.size]
    if "arms" in study.options:
        named = [name for name in study.options["arms"].split(",") if name]
    if unknown := sorted({*named} - {*ARMS}):
        raise ConfigError(f"arms={','.join(unknown)}: unknown. Give one or more of {', '.join(ARMS)}.")
    if not study.users_config.data.schema.get("kinds"):  # film_input=kind needs them
        named = [name for name in named if name != "fusion_kind"]
    further = [name for name in ARMS if name in (*SINGLE, *named) and name not in MAIN] if split == "kfold" else []
    main_arms = {name: (overrides, seeds) for name, overrides in MAIN.items()}
    return main_arms | {name: (ARMS[name], seeds[:1]) for name in further}


def seeds_of(study: StagedStudy) -> range:
    """Return the seeds of the main arms.

    Raises:
        ConfigError: `seeds` is not a number of seeds.
    """
    number = study.options.get("seeds", str(len(SIZES[study.size][2])))
    if not (number.isdecimal() and int(number)):
        raise ConfigError(f"seeds={number} is not a number of seeds. Give a whole number of 1 or more.")
    return range(int(number))


def run_name(arm: str, split: str, fold: int, seed: int) -> str:
    """Return the name of a run directory."""
    return f"{arm}-{split}{fold}-seed{seed}"


def run(study: StagedStudy) -> Path:
    """Train the arms, evaluate them, write the page, and return its path."""
    splits, notes = protocols(study)
    runs = train(study, splits)
    comparisons, names = compare_splits(runs)
    folds, rows = runs["kfold"], {names["kfold"][row.label]: row for row in comparisons["kfold"].models}
    data = {fold: study.data(study.config(overrides)) for fold, overrides in splits["kfold"].items()}

    left_out = parts_left_out(study)
    robust, against_trees = (None, None) if "corruptions" in left_out else under_corruptions(study, folds, data)
    starts = None if "starts" in left_out else without_starts(study, folds, data)
    study.say("going through every second")
    causal = {
        arm: pooled_arm(folds[arm], data, study.out / "second_by_second", second_by_second, study.workers)
        for arm in MAIN
    }
    onsets = onset_table({arm: folds[arm] for arm in MAIN})
    speed = time_networks(study, splits["kfold"][0])
    minutes = best_epoch_minutes(rows["fusion_both_film"].sources)
    on_others = None if study.lacks("data.sessions") or "others" in left_out else others(study, folds)

    notes += [*notes_on_arms(study, folds), *notes_on_fusion(folds), *notes_on_runs(runs)]
    notes += notes_on_parts(left_out, starts, onsets)
    predicted, full = {arm: rows[arm].predictions for arm in MAIN}, at_full_size(study)
    results = BestModel(
        comparisons=comparisons,
        names=names,
        targets=targets(rows, robust, speed, minutes, full),
        findings=findings(rows, pairs()),
        robustness=robust,
        against_trees=against_trees,
        starts_cut=starts,
        devices=by_device(comparisons["kfold"].windows, predicted),
        distance=distance_table(comparisons["kfold"].windows, next(iter(data.values())), predicted),
        causal=causal_table(causal),
        onsets=onsets,
        others=on_others,
        speed=speed,
        notes=notes,
    )
    study.site.origin = [(what, value) for what, value in study.site.origin if what != "split"]  # the stage has several
    page = write_best_model(study.site, results, warning_on_size(study))
    print((study.out / "summary.md").read_text(encoding="utf-8"))
    if study.size == "full" and not study.lacks("data.sessions"):  # only results on simulated data may be published
        keep_tables(study.out)
    return page


def train(study: StagedStudy, splits: dict[str, Folds]) -> dict[str, Runs]:
    """Return runs[arm][seed][fold] of every split, training those that are missing."""
    arms = {split: arms_of(study, split) for split in splits}
    runs = study.train_all(
        {
            run_name(arm, split, k, seed): [*overrides, *fold, f"seed={seed}"]
            for split, folds in splits.items()
            for arm, (overrides, seeds) in arms[split].items()
            for seed in seeds
            for k, fold in folds.items()
        }
    )
    return {
        split: {
            arm: {seed: {k: runs[run_name(arm, split, k, seed)] for k in folds} for seed in seeds}
            for arm, (_, seeds) in arms[split].items()
        }
        for split, folds in splits.items()
    }


def compare_splits(runs: dict[str, Runs]) -> tuple[dict[str, Comparison], dict[str, dict[str, str]]]:
    """Return the comparison of each split, and the arm of each of its labels."""
    comparisons, names = {}, {}
    for split, of_split in runs.items():
        arm_of = {run.folder: arm for arm, run in each_run(of_split)}
        comparisons[split] = compare(arm_of)
        names[split] = {row.label: arm_of[row.sources[0].folder] for row in comparisons[split].models}
    return comparisons, names


def parts_left_out(study: StagedStudy) -> list[str]:
    """Return the parts that `without` names.

    Raises:
        ConfigError: there is no such part.
    """
    named = [name for name in study.options.get("without", "").split(",") if name]
    if unknown := sorted({*named} - {*PARTS}):
        raise ConfigError(f"without={','.join(unknown)}: unknown. Give one or more of {', '.join(PARTS)}.")
    return named


def notes_on_parts(left_out: list[str], starts: DataFrame | None, onsets: DataFrame | None) -> list[str]:
    """Return notes on parts that were left out or that the recordings do not allow."""
    notes = [f"Parts that were not computed: {', '.join(left_out)}."] if left_out else []
    if starts is None and "starts" not in left_out:
        notes.append("Without the recordings' start: not computed, no window remains of recordings this short.")
    if onsets is None:
        notes.append("Faults: no test recording has a state that needs an alarm.")
    return notes


def under_corruptions(study: StagedStudy, folds: Runs, data: dict[int, Windows]) -> tuple[DataFrame, DataFrame]:
    """Return how fusion compares with its arms of one modality, and with trees, when something fails."""
    study.say("corrupting the test recordings")
    fused, trees, *single = (
        pooled_arm(folds[arm], data, study.out / "corrupted", corrupted, study.workers)
        for arm in ("fusion_both_film", "lightgbm_extended_both_film", *SINGLE)
    )
    return (
        against_single(fused, dict(zip(SINGLE, single, strict=True))),
        against_single(fused, {"lightgbm_extended_both_film": trees}),
    )


def without_starts(study: StagedStudy, folds: Runs, data: dict[int, Windows]) -> DataFrame | None:
    """Return what arms lose without the recordings' start; None if the recordings are too short."""
    study.say("cutting the recordings' start")
    arms = {
        arm: pooled_arm(folds[arm], data, study.out / "starts_cut", with_starts_cut, study.workers)
        for arm in (*MAIN, *USES_START)
        if arm in folds
    }
    arms[f"shortcut: {ELAPSED}"] = elapsed_arm(data)
    return starts_cut_table(arms, "lightgbm") if arms["lightgbm"] else None


def time_networks(study: StagedStudy, fold: list[str]) -> DataFrame:
    """Measure fusion and the seed study's tuned network on this machine, on one fold."""
    study.say("timing")
    arms = {"fusion": "fusion_both_film", "dl_tuned": "dl_tuned"}
    configs = {name: study.config([*ARMS[arm], *fold]) for name, arm in arms.items()}
    return side_by_side({name: (cfg, study.data(cfg)) for name, cfg in configs.items()})


def keep_tables(out: Path) -> None:
    """Copy the summary and the tables to experiments/best_model/."""
    kept = Path(__file__).parent / "best_model"
    kept.mkdir(exist_ok=True)
    for path in (out / "summary.md", *out.glob(f"tables/{STEM}_*.csv")):
        shutil.copy(path, kept / path.name)


def notes_on_arms(study: StagedStudy, folds: Runs) -> list[str]:
    """Return notes on the seeds and epochs of the arms, and on arms that were not run."""
    epochs = study.config(MAIN["fusion_both_film"]).trainer.max_epochs
    left_out = [name for name in ARMS if name not in folds]
    return [
        f"Seeds: {len(seeds_of(study))} for {', '.join(MAIN)}, 1 for the other arms. How the models were tuned "
        "(on validation windows, except where the log says otherwise): experiments/best_model/log.md.",
        f"Networks were trained for at most {epochs} epochs. The default is 30, for small data sets; the log has its "
        "results at full size.",
        *([f"Arms that were not run: {', '.join(left_out)}."] if left_out else []),
    ]


def others(study: StagedStudy, runs: Runs) -> DataFrame:
    """Evaluate the main arms and two more on recordings simulated with another seed."""
    study.say("evaluating on other recordings")
    data = study.data(study.config(OTHERS[study.size]))
    arms = [name for name in (*MAIN, "fusion_sensor_film", "extra_trees_extended") if name in runs]
    evaluated = {
        arm: on_other_recordings(
            (run for by_fold in runs[arm].values() for run in by_fold.values()),
            data,
            study.out / f"others-{data.store.fingerprint[:12]}",
        )
        for arm in arms
    }
    return others_table(evaluated, "fusion_both_film")


def at_full_size(study: StagedStudy) -> bool:
    """Return whether the data have the size that the targets refer to.

    That is all of the user's own data, or as many simulated sessions as the seed study had.
    """
    return study.size == "full" and (
        study.lacks("data.sessions") or study.config().data.sessions == SEED_STUDY_SESSIONS
    )


def warning_on_size(study: StagedStudy) -> str:
    """Return what the figures of a smaller run are not good for; nothing at full size."""
    if study.size == "small":
        return "A small run that shows that everything works. Do not use these figures."
    if at_full_size(study):
        return ""
    return (
        f"Not at full size: {study.config().data.sessions} simulated sessions, not {SEED_STUDY_SESSIONS}. Differences "
        "between arms are less certain, as their intervals say; the targets refer to the full size."
    )


def units(study: StagedStudy) -> int:
    """Return the units of work of the trainings of the stage."""
    splits, _ = protocols(study)
    return sum(
        len(seeds) * len(folds) * units_of(study.config([*overrides, *next(iter(folds.values()))]))
        for split, folds in splits.items()
        for overrides, seeds in arms_of(study, split).values()
    )


if __name__ == "__main__":
    stages = {STEM: (run, units)}
    titles = {STEM: "The best model"}
    sys.exit(main(__doc__, stages, titles, name="best-model", options=("arms", "seeds", "without"), question=NOW))
