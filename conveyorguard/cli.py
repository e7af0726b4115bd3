"""`python -m conveyorguard <verb>`, and the entry of train.py."""

from __future__ import annotations

import errno
import os
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import hydra
from hydra.conf import HydraConf
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from conveyorguard.commands.verbs import VERBS
from conveyorguard.commands.words.parser import PROGRAM
from conveyorguard.commands.words.suggest import did_you_mean
from conveyorguard.errors import ConfigError, ConveyorGuardError, RunError
from conveyorguard.system.interruption import Interrupted, interruptible

EXAMPLES = """\
Start with:
  python train.py debug=fast                            a model on simulated recordings, in seconds
  python -m conveyorguard schema FOLDER                 the yaml of your own csv or parquet files
  python -m conveyorguard VERB --help                   what a verb takes, with examples
KEY=VALUE words override the config: window.stride=5 trainer.max_epochs=3. Exit status 2: the command was refused.
"""
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
HELP = {"--help", "-h"}


def usage() -> str:
    """Return the help of the command line: every verb with one line."""
    summaries = {verb: module.PARSER.summary for verb, module in VERBS.items()}
    summaries["train"] = "Train a model, or with -m several; the same as train.py."
    lines = "\n".join(f"  {verb:<10} {summary}" for verb, summary in summaries.items())
    return f"usage: {PROGRAM} VERB [PATH ...] [KEY=VALUE ...]\n\n{EXAMPLES}\nverbs:\n{lines}\n"


def train_main() -> int:
    """Run Hydra's command line of a training: one job, or with -m several.

    Returns:
        The exit status.
    """
    from conveyorguard.commands.words.train_parser import TrainParser, hydra_arguments
    from conveyorguard.config.compose import config_dir, whitelist

    arguments = sys.argv[1:]
    if HELP & set(arguments):
        print(TrainParser().format_help(), end="")
        return 0
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises its errors here instead of printing them
    try:
        sys.argv[1:] = hydra_arguments(arguments)
        if any(argument.startswith("sweep=") for argument in arguments):
            from conveyorguard.sweeps.sweeper import register

            register()
        with interruptible():
            hydra.main(config_path=str(config_dir()), config_name="train", execution_whitelist=whitelist())(_train)()
    except Interrupted as interruption:  # between the jobs of -m, or while joblib waits for its workers
        return _interrupted(interruption, "finished jobs keep their run directories; start the missing ones again")
    except (HydraException, OmegaConfBaseException) as error:
        return _refuse(_explained(error))
    except ConveyorGuardError as error:
        return _refuse(error)
    return 0


def _explained(error: Exception) -> ConfigError:
    """Return Hydra's error as one that names the wrong word and what to write instead."""
    from conveyorguard.commands.words.keys import explain
    from conveyorguard.commands.words.train_parser import TrainParser

    words = TrainParser().parse_words(sys.argv[1:])
    return explain(words.overrides, error, words.options.config_dir)


def _refuse(error: Exception) -> int:
    """Print an error of the user's and return the exit status of a refusal."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    return 2


def _interrupted(interruption: Interrupted, remedy: str) -> int:
    """Print how an interrupted command goes on, and return its exit status."""
    print(f"{interruption}; {remedy}", file=sys.stderr)
    return interruption.status


def _train(cfg: DictConfig) -> float:
    """Train one job in its run directory and print the directory; returns the objective."""
    from conveyorguard.runs.refused import remove_untrained
    from conveyorguard.sweeps.trial import current_trial
    from conveyorguard.system.files import claim_directory, locked

    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    new = _new_directories(folder, job)
    try:
        _refuse_launch(cfg, job)
        named = job.mode is RunMode.MULTIRUN or any(line.startswith("hydra.run.dir=") for line in job.overrides.hydra)
        with locked(folder) if named or cfg.ckpt_path else claim_directory(folder) as folder:
            if folder != Path(job.runtime.output_dir):  # another run has that name
                new = [folder, *new]
            value = _train_in(cfg, folder, list(job.overrides.task))
    except ConveyorGuardError as error:
        if current_trial() is None:  # the sweeper keeps the directory of a trial
            remove_untrained(folder, new)
        if job.mode is RunMode.MULTIRUN:
            raise
        sys.exit(_refuse(error))
    except Interrupted as interruption:
        sys.exit(_interrupted(interruption, _how_to_go_on(folder)))
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        refusal = RunError(
            f"{folder}: cannot be written ({os.strerror(error.errno)}); finished files are whole. Free space or "
            "choose another hydra.run.dir, then start again, or go on with ckpt_path=RUN/checkpoints/last.ckpt where "
            "there is one"
        )
        if job.mode is RunMode.MULTIRUN:
            raise refusal from error
        sys.exit(_refuse(refusal))
    print(folder)
    return value


def _train_in(cfg: DictConfig, folder: Path, overrides: list[str]) -> float:
    """Train one job, or a trial on each of its folds, in a claimed directory; returns the objective."""
    # with torch and Lightning, seconds that a refusal need not take
    from conveyorguard.commands.folds import train_folds
    from conveyorguard.commands.train import train
    from conveyorguard.sweeps.trial import current_trial

    trial = current_trial()
    if trial and (cfg.sweep.get("folds") or 1) > 1:
        return train_folds(cfg, folder, overrides, trial)
    return train(cfg, folder, overrides, trial=trial)


def _how_to_go_on(folder: Path) -> str:
    """Say how an interrupted training goes on."""
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return f"nothing in {folder} to go on from: start it again"
    return f"go on with: python train.py {shlex.quote(f'ckpt_path={last}')}"


def _new_directories(folder: Path, job: HydraConf) -> list[Path]:
    """Return the run directory and its parents that Hydra has just made, the deepest first."""
    if job.mode is RunMode.RUN:
        return [path for path in (folder, *folder.parents) if path in CompareAtTheEnd.missing]
    return [] if any(folder.iterdir()) else [folder]


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
    """Hydra callback that ends a multirun of several jobs with their comparison.

    Attributes:
        missing: directories that Hydra makes for the run: its own and parents, as far as they were not there.
    """

    missing: ClassVar[set[Path]] = set()

    def on_run_start(self, config: DictConfig, **kwargs: object) -> None:
        """Take note of the directories that are not there yet."""
        with suppress(OmegaConfBaseException, ValueError):  # a path that only the job can resolve is not removed
            folder = Path(config.hydra.run.dir).absolute()
            CompareAtTheEnd.missing = {path for path in (folder, *folder.parents) if not path.exists()}

    def on_multirun_end(self, config: DictConfig, **kwargs: object) -> None:
        """Compare the finished jobs of the multirun, print the comparison and write its page."""
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
    """Run a verb.

    Returns:
        The exit status.
    """
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if verb in HELP | {"help"}:
        print(usage(), end="")
        return 0
    if verb == "train":
        sys.argv = [f"{sys.argv[0]} train", *rest]
        return train_main()
    if verb not in VERBS:
        meant = did_you_mean(verb, [*VERBS, "train"])
        return _refuse(ConfigError(f"unknown verb {verb}{meant or f'; {PROGRAM} --help lists them'}"))
    if HELP & set(rest):
        print(VERBS[verb].PARSER.format_help(), end="")
        return 0
    try:
        with interruptible():
            VERBS[verb].main(rest)
    except Interrupted as interruption:
        return _interrupted(interruption, f"{PROGRAM} {shlex.join([verb, *rest])} starts again, or goes on")
    except ConveyorGuardError as error:
        return _refuse(error)
    except OmegaConfBaseException as error:  # an interpolation that cannot be resolved
        return _refuse(ConfigError(str(error)))
    except OSError as error:
        if error.errno not in UNWRITABLE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        return _refuse(
            RunError(
                f"{place}cannot be written ({os.strerror(error.errno)}); files that were finished are whole. Free "
                f"space or give another folder, then run {verb} again"
            )
        )
    return 0
