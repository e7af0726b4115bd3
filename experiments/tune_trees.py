"""Tune the LightGBM that fusion is compared against: a random search by macro-F1 on the pooled validation windows.

python experiments/tune_trees.py [trials=80] [out=DIR] [overrides of train.py, e.g. features=extended data.sessions=341
threads=1]

Validation windows are those of all folds of split=kfold. The space is that of `conf/sweep/optuna.yaml` plus
model.class_weight; the first trial has the default parameters. If killed, the same command continues. Writes
DIR/trials.csv, the best trial first.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from omegaconf import DictConfig, OmegaConf
from optuna.distributions import BaseDistribution

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from conveyorguard.config.compose import build, compose_config, config_dir
from conveyorguard.config.saved import plain_values
from conveyorguard.data.features import window_features
from conveyorguard.errors import ConfigError, ConveyorGuardError
from conveyorguard.metrics.scores import Predictions, metric_values
from conveyorguard.runs.data import load_windows
from conveyorguard.sweeps.shared_study import count_finished
from conveyorguard.sweeps.space import read_space
from conveyorguard.system.files import alone
from conveyorguard.training.fit_tabular import tabular_of
from conveyorguard.training.setup import use_threads, used_inputs

FOLDS = 5


def main(arguments: list[str]) -> Path:
    """Run the search, and return the path of trials.csv."""
    options = dict(line.split("=", 1) for line in arguments if line.partition("=")[0] in ("trials", "out"))
    overrides = ["model=lightgbm", *(line for line in arguments if line.partition("=")[0] not in options)]
    cfg = compose_config(overrides)
    macro_f1 = pooled_macro_f1(cfg, overrides)
    space = search_space(overrides)
    with alone(Path(options.get("out", "outputs/tune_trees"))) as out:
        study = open_study(out, overrides)
        done = count_finished(study.get_trials())
        study.sampler = optuna.samplers.RandomSampler(seed=cfg.seed + done)
        if not study.get_trials():
            study.enqueue_trial({name: OmegaConf.select(cfg, name) for name in space})
        for _ in range(done, int(options.get("trials", 80))):
            trial = study.ask(space)
            value = macro_f1(trial.params)
            study.tell(trial, value)
            print(f"{trial.number}: {value:.4f} {trial.params}", flush=True)
        table = study.trials_dataframe(("number", "value", "params", "state")).sort_values("value", ascending=False)
        table.to_csv(out / "trials.csv", index=False)
    return out / "trials.csv"


def search_space(overrides: list[str]) -> dict[str, BaseDistribution]:
    """Return the sweep's space for LightGBM with model.class_weight, without the keys that are overridden."""
    lines = OmegaConf.load(config_dir() / "sweep" / "optuna.yaml").sweep.spaces.lightgbm
    fixed = {line.partition("=")[0] for line in overrides}
    space, _, _ = read_space(
        {k: v for k, v in {**lines, "model.class_weight": "choice(balanced,none)"}.items() if k not in fixed}, []
    )
    return space


def pooled_macro_f1(cfg: DictConfig, overrides: list[str]) -> Callable[[dict[str, Any]], float]:
    """Return the objective: a function of the parameters that gives macro-F1 on the pooled validation windows."""
    folds = [
        load_windows(compose_config([*overrides, "split=kfold", f"split.n_folds={FOLDS}", f"split.fold={k}"]))
        for k in range(FOLDS)
    ]
    store, windows, threads = folds[0].store, folds[0].frame, use_threads(cfg.threads)
    features = window_features(
        store, windows["row"], folds[0].settings.size, build(cfg.features), used_inputs(cfg, store.schema)[0]
    ).to_numpy()
    labels = windows["label"].to_numpy()

    def macro_f1(params: dict[str, Any]) -> float:
        settings = cfg.copy()
        for name, value in params.items():
            OmegaConf.update(settings, name, value)
        p, truth = [], []
        for fold in folds:
            train, val = ((fold.frame["part"] == part).to_numpy() for part in ("train", "val"))
            model = tabular_of(plain_values(settings))(schema=store.schema, seed=settings.seed, threads=threads)
            model.fit(features[train], labels[train])
            p.append(model.probabilities(features[val]).astype(np.float64))
            truth.append(labels[val])
        return metric_values(Predictions(np.concatenate(truth), np.concatenate(p)))["macro_f1"]

    return macro_f1


def open_study(out: Path, overrides: list[str]) -> optuna.Study:
    """Open or create the study in a folder, and queue the trials of a killed process again.

    Raises:
        ConfigError: its trials were run with other overrides.
    """
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(out / "journal.log")))
    study = optuna.create_study(storage=storage, study_name="trees", direction="maximize", load_if_exists=True)
    if study.user_attrs.get("overrides", overrides) != overrides:
        raise ConfigError(
            f"{out}: its trials were run with {' '.join(study.user_attrs['overrides'])}. Give another out=DIR."
        )
    study.set_user_attr("overrides", overrides)
    for killed in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(killed.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(killed.params)
    return study


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        print(main(sys.argv[1:]))
    except ConveyorGuardError as error:
        sys.exit(f"{type(error).__name__}: {error}")
