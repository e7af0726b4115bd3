"""The settings of `hydra/sweeper=study`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING, SI


def of_app(name: str, default: Any) -> Any:
    """The application's `sweep.<name>`, where its config has one."""
    return SI(f"${{oc.select:sweep.{name},{default}}}")


@dataclass
class StudySweeperConf:
    """Settings of `hydra/sweeper=study`.

    sampler: `hydra/sweeper/sampler=tpe|random|gp|cmaes` of the Optuna plugin. For every trial it is seeded
        with (its seed, number of trials in the storage), so that it does not repeat itself after a restart.
    pruner: config of one of optuna.pruners, or null.
    params: the search space, {key: "choice(1, 2)"}; the command line adds to it and replaces.
    storage: a journal file, default <folder>/journal.log, or a database URL such as sqlite:///x.db.
    n_trials: COMPLETE and PRUNED ones, of all sweepers on this storage together.
    timeout: s that one call may take, or null.
    workers: trials at a time.
    max_failures: how often parameters are tried again whose trial was killed; and how many trials may fail
        one after the other before the sweeper gives up.
    grace: s between asking a trial to end (SIGTERM) and killing it.
    fixed: keys (or patterns, `split.*`) that no study tunes.
    free: keys (or patterns) that may change from one call to the next; any other one makes it another study.
    own: keys of the sweep, which may change too, left out of the command that retrains.
    validate: a function (space, overrides, config of a trial) -> list of errors.
    on_end: a function (study, folder), called after the table.
    command: what starts the application, default: as this process was started.
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
    validate: str | None = of_app("validate", "null")
    on_end: str | None = of_app("on_end", "null")
    command: Any = "${oc.select:sweep.command,null}"


ConfigStore.instance().store(group="hydra/sweeper", name="study", node=StudySweeperConf, provider="conveyorguard")
