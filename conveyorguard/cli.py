"""`python -m conveyorguard <verb> [overrides]`, and the entry of train.py."""

from __future__ import annotations

import errno
import os
import sys
from contextlib import suppress
from pathlib import Path

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from conveyorguard.commands.verbs import VERBS
from conveyorguard.errors import ConfigError, ConveyorGuardError, RunError

USAGE = """\
usage: python -m conveyorguard <verb> [arguments] [overrides]

verbs
  simulate OUT    write simulated recordings as archives in the layout of AI Hub #71802
                    simulate plant data.sessions=12 data.seed=3 data.archive=zip|folder
  prepare         build the frame store of a data set and say what was left out, and why
                    prepare data=aihub data.root=PATH
  schema PATH     draft the yaml of your own csv or parquet files, and list what is odd about them
                    schema recordings out=conf/data/plant.yaml
  eda             describe a data set: states, channels, one session, quality, and what that asks of a model
                    eda data=aihub data.root=PATH
  train           the same as train.py: prepare, fit, test, report
                    train modality=sensor film=false
                    train -m modality=sensor,image,both film=true,false
  compare RUN...  put runs side by side: figures with intervals, differences, shortcuts, a page; or all of a multirun
                    compare multirun/2026-01-31/10-00-00
  ensemble RUN RUN...
                  combine runs by voting, weighted voting and stacking, and say whether it helped
  reproduce RUN   run a saved config anew and say whether it gives the same numbers, and if not what differs
  predict RUN     states, probabilities and alarms of new recordings, labelled or not
                    predict RUN data.root=NEW
                    predict RUN data.root=FOLDER --watch     (while a collector writes into it)
  export RUN      write the model as ONNX, checked against the run's own on real windows
  check RUN       whether a run's numbers are what they are taken for: split, scaling, windows, metrics, model, chance
                    check RUN depth=files     (in seconds; depth=data: without training on shuffled labels)
  diagnose RUN [RUN...]
                  what a run leans on, how it fares when something fails, where it errs, and whether to fuse at all
                    diagnose multirun/2026-01-31/10-00-00/4 curve=4,8,16
  report RUN      draw RUN/report.html and RUN/MODEL_CARD.md again from the files of the run directory

`python -m conveyorguard <verb> --help` says more.
Overrides are Hydra's: key=value, e.g. window.stride=5 trainer.max_epochs=3.
"""


UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)


def train_main() -> None:
    """Hydra's command line of a training: one job, or with -m many."""
    from conveyorguard.config.compose import config_dir, whitelist

    if any(argument.startswith("sweep=") for argument in sys.argv):
        from conveyorguard.sweeps.sweeper import register

        register()
    hydra.main(config_path=str(config_dir()), config_name="train", execution_whitelist=whitelist())(_train)()


def _train(cfg: DictConfig) -> float:
    from conveyorguard.system.files import alone, own_directory

    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    try:
        _refuse_launch(cfg, job)
        from conveyorguard.commands.train import train  # with torch and Lightning, seconds that a refusal need not take

        named = job.mode is RunMode.MULTIRUN or any(line.startswith("hydra.run.dir=") for line in job.overrides.hydra)
        with alone(folder) if named or cfg.ckpt_path else own_directory(folder) as folder:
            value = train(cfg, folder, list(job.overrides.task))
    except ConveyorGuardError as error:
        with suppress(OSError):
            folder.rmdir()  # only if nothing was written
        if job.mode is RunMode.MULTIRUN:
            raise
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(2)
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        message = (
            f"{folder}: cannot be written ({os.strerror(error.errno)}); finished files are whole. Free space or "
            "choose another hydra.run.dir, then start again, or go on with ckpt_path=RUN/checkpoints/last.ckpt where "
            "there is one"
        )
        if job.mode is RunMode.MULTIRUN:
            raise RunError(message) from error
        print(f"RunError: {message}", file=sys.stderr)
        sys.exit(2)
    print(folder)
    return value


def _refuse_launch(cfg: DictConfig, job: HydraConf) -> None:
    """Refuse what Hydra would start in a way that cannot work.

    Raises:
        ConfigError: a sweep without -m, or joblib for jobs of several processes.
    """
    from conveyorguard.sweeps.trial import current_trial

    if cfg.get("sweep") and current_trial() is None:
        raise ConfigError("sweep= needs -m: python train.py -m " + " ".join(job.overrides.task))
    devices = cfg.trainer.get("devices")
    if job.runtime.choices.get("hydra/launcher") == "joblib" and isinstance(devices, int) and devices > 1:
        raise ConfigError(
            f"hydra/launcher=joblib and trainer={job.runtime.choices['trainer']}: joblib's workers cannot start the "
            f"{devices} processes of a job. Leave the launcher out, or write hydra/launcher=submitit_local"
        )


class CompareAtTheEnd(Callback):
    """Hydra callback: a multirun of several jobs ends with their comparison."""

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        from conveyorguard.evaluation.compare import compare
        from conveyorguard.reporting.compare_page import write_comparison
        from conveyorguard.reporting.terminal import print_comparison

        folder = Path(config.hydra.sweep.dir)
        jobs = [path for path in folder.glob("*") if (path / "metrics.json").is_file()]
        if config.get("sweep") or len(jobs) < 2:
            return
        try:
            comparison = compare([folder])
        except RunError as error:
            print(f"not compared: {error}", file=sys.stderr)
            return
        print_comparison(comparison)
        print(write_comparison(comparison, folder))


def main(arguments: list[str] | None = None) -> int:
    """Run a verb; returns the exit status."""
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb in ("--help", "-h", "help"):
        print(USAGE)
        return 0
    if verb == "train":
        sys.argv = [f"{sys.argv[0]} train", *rest]
        train_main()
        return 0
    if verb not in VERBS:
        print(f"unknown verb '{verb}'\n\n{USAGE}", file=sys.stderr)
        return 2
    if {"--help", "-h"} & set(rest):
        print("python -m conveyorguard " + (VERBS[verb].__doc__ or "").replace("\n    ", "\n"))
        return 0
    try:
        VERBS[verb](rest)
    except ConveyorGuardError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(
            f"RunError: {place}cannot be written ({os.strerror(error.errno)}); files that were finished are whole. "
            f"Free space or give another folder, then run {verb} again",
            file=sys.stderr,
        )
        return 2
    return 0
