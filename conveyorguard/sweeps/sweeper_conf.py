"""The settings of `hydra/sweeper=study`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, SI


def of_app(name: str, default: Any) -> Any:
    """Return an interpolation of the application's `sweep.<name>`, or the default if its config has none."""
    return SI(f"${{oc.select:sweep.{name},{default}}}")


@dataclass
class StudySweeperConf:
    """Settings of `hydra/sweeper=study`.

    Attributes:
        sampler: `hydra/sweeper/sampler=tpe|random|gp|cmaes` of the Optuna plugin. It is seeded anew for every trial,
            from its seed and the number of trials in the storage, so that it does not repeat itself after a restart.
        pruner: Config of a class of optuna.pruners, or null.
        params: Search space, {key: "choice(1, 2)"}; the command line adds keys or replaces them.
        study: Name of the study.
        folder: Folder of the study; trials run in `<folder>/<number>/`.
        storage: Journal file, by default `<folder>/journal.log`, or a database URL such as sqlite:///x.db.
        direction: `minimize` or `maximize`.
        n_trials: Number of COMPLETE and PRUNED trials, over all sweepers on this storage.
        timeout: Time limit of one call [s], or null.
        workers: Number of trials that run at the same time.
        max_failures: How often the parameters of a killed trial are retried, and how many trials may fail in a row
            before the sweeper gives up.
        grace: Time between asking a trial to end (SIGTERM) and killing it [s].
        fixed: Keys or patterns (`split.*`) that no study tunes.
        free: Keys or patterns that may change between calls; a change of any other key needs another study.
        own: Keys of the sweep itself; they may change as well, and are left out of the command that retrains.
        binding: Keys of the sweep itself that may not change, as the value of a trial depends on them; null is not
            recorded.
        validate: Dotted name of a function (space, overrides, config of a trial) -> list of errors.
        on_end: Dotted name of a function (study, folder), called after the summary.
        command: Command that starts the application, by default the one that started this process.
    """

    _target_: str = "conveyorguard.sweeps.sweeper.StudySweeper"
    defaults: list[Any] = field(default_factory=lambda: [{"sampler": "tpe"}])
    sampler: Any = MISSING
    pruner: Any = "${oc.select:sweep.pruner,null}"
    params: Any = "${oc.select:sweep.params,null}"
    study: str = of_app("study", "study")
    folder: str = of_app("folder", "studies/${hydra.sweeper.study}")
    storage: str | None = of_app("storage", "null")
    direction: str = of_app("direction", "minimize")
    n_trials: int = of_app("n_trials", 15)
    timeout: float | None = of_app("timeout", "null")
    workers: int = of_app("workers", 1)
    max_failures: int = of_app("max_failures", 3)
    grace: float = of_app("grace", 15)
    fixed: Any = "${oc.select:sweep.fixed,[]}"
    free: Any = "${oc.select:sweep.free,[]}"
    own: Any = "${oc.select:sweep.own,[sweep,'sweep.*']}"
    binding: Any = "${oc.select:sweep.binding,[]}"
    validate: str | None = of_app("validate", "null")
    on_end: str | None = of_app("on_end", "null")
    command: Any = "${oc.select:sweep.command,null}"


ConfigStore.instance().store(group="hydra/sweeper", name="study", node=StudySweeperConf, provider="conveyorguard")
