"""Loggers of a job beside history.csv: W&B, TensorBoard, MLflow.

A logger's `_target_` is a function of the `Job` that returns a Lightning logger. Lightning sends it the curves;
`JobLoggers` sends it the settings, the final metrics and the end of the job, however it ends.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from netrc import netrc
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from pytorch_lightning.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from conveyorguard.config.compose import build
from conveyorguard.data.schema import modality_with
from conveyorguard.errors import ConfigError
from conveyorguard.sweeps.trial import current_trial
from conveyorguard.system.progress import console


@dataclass(frozen=True)
class Job:
    """The facts of a job that its loggers get.

    Attributes:
        folder: the run directory.
        config: the full resolved config, with `cell`, the job's row in an ablation, and in a sweep `trial`, its number.
        tags: model, modality and film, then `seed=`, `fold=` and `trial=` where they apply.
        group: the study of the sweep or the name of the multirun; None for a single job.
    """

    folder: Path
    config: dict[str, Any]
    tags: list[str]
    group: str | None

    @property
    def name(self) -> str:
        """The tags joined by hyphens."""
        return "-".join(tag.replace("=", "") for tag in self.tags)

    @classmethod
    def of(cls, settings: Mapping[str, Any], folder: Path, multirun: str | None = None) -> Job:
        """Build the job of a config.

        Args:
            settings: the resolved config as nested plain values.
            folder: the run directory.
            multirun: name of the multirun that the job belongs to; a trial of a sweep is grouped by its study instead.
        """
        film = "film" if settings["film"] else "no-film"
        schema = settings["data"]["schema"]
        modality = modality_with(settings["modality"], bool(schema.get("channels")), bool(schema.get("thermal")))
        tags = [settings["model"]["name"], modality, film, f"seed={settings['seed']}"]
        tags += [f"fold={settings['split']['fold']}"] if "fold" in settings["split"] else []
        config = {**settings, "cell": " ".join(tags[:3])}
        trial = current_trial()
        if trial:
            config["trial"] = trial.number
            tags.append(f"trial={trial.number}")
            return cls(folder, config, tags, os.environ["SWEEP_STUDY"])
        return cls(folder, config, tags, multirun)


class JobLoggers:
    """The loggers of a job, as a context manager that closes each with the outcome of the job.

    Args:
        settings: the resolved config as nested plain values.
        folder: the run directory.
        multirun: name of the multirun that the job belongs to.

    Raises:
        ConfigError: a package is missing, or a logger cannot be built.
    """

    def __init__(self, settings: Mapping[str, Any], folder: Path, multirun: str | None = None):
        self.job = Job.of(settings, folder, multirun)
        self.loggers: list[Logger] = [build(node, job=self.job) for node in settings["logger"]["loggers"]]

    def __enter__(self) -> JobLoggers:
        for logger in self.loggers:
            logger.log_hyperparams(self.job.config)
        return self

    def __iter__(self) -> Iterator[Logger]:
        return iter(self.loggers)

    def log_results(self, metrics: dict[str, Any]) -> None:
        """Log final metrics as `final/<part>/<metric>` and `final/<part>/recall/<state>`; to W&B also tables and files.

        Args:
            metrics: content of metrics.json.
        """
        values = {
            f"final/{part}/{name}": value
            for part, scores in metrics.items()
            for name, value in scores.items()
            if isinstance(value, int | float)
        }
        for part, scores in metrics.items():
            values |= {f"final/{part}/recall/{row['class']}": row["recall"] for row in scores["per_class"]}
        for logger in self.loggers:
            if isinstance(logger, TensorBoardLogger):  # its hyperparameter page needs settings and metrics in one call
                logger.log_hyperparams(self.job.config, values)
            else:
                logger.log_metrics(values)
            if isinstance(logger, WandbRun):
                logger.log_tables(metrics)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        trial = current_trial()
        for logger in self.loggers:
            if isinstance(logger, WandbRun):
                logger.finish("failed" if kind else "pruned" if trial and trial.pruned else "complete")
            else:
                logger.finalize("failed" if kind else "success")


class WandbRun(WandbLogger):
    """One W&B run, started and ended by the job's own process, whichever processes train.

    Under `ddp_spawn` the training runs in child processes. Lightning pickles this logger for them, and the child of
    rank 0 attaches to the run by its name: W&B's service process, started here, writes for both, so that curves arrive
    live in the run that later gets the tables. Only the process that started the run ends it.

    Args:
        job: what names and groups the run.
        options: further arguments of Lightning's `WandbLogger`.
    """

    def __init__(self, job: Job, **options: Any):
        import wandb

        quiet = wandb.Settings(silent=True, console="off")
        server = wandb.setup(quiet).settings.base_url
        # without a key W&B would prompt for one; WANDB_MODE takes precedence
        mode = None if os.environ.get("WANDB_MODE") or has_key(server) else "offline"
        super().__init__(
            name=job.name,
            save_dir=str(job.folder),
            group=job.group,
            tags=job.tags,
            mode=mode,
            settings=quiet,
            job_type="trial" if "trial" in job.config else "train",
            **options,
        )
        self.job = job

    def log_hyperparams(self, params: Any) -> None:
        """Start the run with its config.

        Raises:
            ConfigError: W&B refuses to start it, for example because the server cannot be reached.
        """
        import wandb

        try:
            super().log_hyperparams(params)
        except wandb.errors.Error as error:
            raise ConfigError(
                f"logger=wandb: {error}\n  With WANDB_MODE=offline the run is kept in its directory for a later upload"
            ) from error
        if not self.experiment.offline and self.experiment.url:
            console().print(f"W&B run: {self.experiment.url}")

    def log_tables(self, metrics: dict[str, Any]) -> None:
        """Log a per-class table and a confusion matrix for each part, and the model and predictions as artifacts.

        Args:
            metrics: content of metrics.json.
        """
        import wandb

        with staged_in(self.job.folder / "wandb"):
            for part, values in metrics.items():
                classes = pd.DataFrame(values["per_class"])
                pairs = zip(product(classes["class"], repeat=2), np.ravel(values["confusion"]), strict=True)
                fields = ["Actual", "Predicted", "nPredictions"]  # the names that W&B's chart expects
                counts = wandb.Table(dataframe=pd.DataFrame([(*pair, int(n)) for pair, n in pairs], columns=fields))
                chart = wandb.plot_table(
                    "wandb/confusion_matrix/v1",
                    counts,
                    {field: field for field in fields},
                    {"title": f"{part}: confusion matrix"},
                    split_table=True,
                )
                table = wandb.Table(dataframe=classes)
                self.experiment.log({f"final/{part}/per_class": table, f"final/{part}/confusion": chart})
            best = [path for path in self.job.folder.glob("checkpoints/*") if path.stem != "last"]
            files = {"model": best, "predictions": [self.job.folder / "predictions.parquet"]}
            for kind, paths in files.items():
                artifact = wandb.Artifact(f"{kind}-{self.version}", type=kind)
                for path in paths:
                    artifact.add_file(str(path), policy="immutable")  # uploaded from its place, without a copy
                self.experiment.log_artifact(artifact)

    def finish(self, status: str) -> None:
        """End the run; the next job in this process starts another.

        Args:
            status: complete, pruned or failed.
        """
        run, self._experiment = self.experiment, None
        run.summary["status"] = status
        run.finish(exit_code=1 if status == "failed" else 0)
        if run.offline:
            console().print(
                f"W&B run kept offline; upload it with: wandb sync {os.path.relpath(run.settings.sync_dir)}"
            )


@contextmanager
def staged_in(folder: Path) -> Iterator[None]:
    """Make W&B stage uploads in a folder instead of the home directory, unless WANDB_DATA_DIR is set."""
    configured = os.environ.get("WANDB_DATA_DIR")
    os.environ["WANDB_DATA_DIR"] = configured or str(folder)
    try:
        yield
    finally:
        if not configured:
            del os.environ["WANDB_DATA_DIR"]


def has_key(server: str) -> bool:
    """Return whether W&B finds a key for a server, in the environment or in the netrc file of `wandb login`.

    Args:
        server: its URL.
    """
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    hosts = [urlsplit(server).netloc] + ([] if "WANDB_BASE_URL" in os.environ else ["api.wandb.ai"])
    names = [os.environ.get("NETRC") or "~/.netrc", "~/_netrc"]
    files = [path for path in (Path(name).expanduser() for name in names) if path.is_file()]
    return any(netrc(path).authenticators(host) for path in files[:1] for host in hosts)


def wandb(job: Job, project: str, entity: str | None = None) -> WandbRun:
    """Build the W&B logger of a job, offline if there is no key; used by conf/logger/wandb.yaml.

    Args:
        job: what names and groups the run.
        project: W&B project.
        entity: W&B user or team; None for the default.
    """
    return WandbRun(job, project=project, entity=entity)


def tensorboard(job: Job) -> TensorBoardLogger:
    """Build the TensorBoard logger of a job, which writes into the run directory; used by conf/logger/tensorboard.yaml.

    Raises:
        ConfigError: TensorBoard is not installed.
    """
    needs("tensorboard", "conveyorguard[tensorboard]")
    return TensorBoardLogger(str(job.folder), name="", version="tensorboard", default_hp_metric=False)


def mlflow(job: Job, tracking_uri: str, experiment: str) -> MLFlowLogger:
    """Build the MLflow logger of a job; used by conf/logger/mlflow.yaml.

    Args:
        job: what names the run.
        tracking_uri: where runs are stored; the environment's MLFLOW_TRACKING_URI takes precedence.
        experiment: name of the MLflow experiment.

    Raises:
        ConfigError: MLflow is not installed.
    """
    needs("mlflow", "conveyorguard[mlflow]")
    import mlflow

    tracking_uri = os.environ.get("MLFLOW_TRACKING_URI") or tracking_uri
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.set_experiment(experiment)  # unlike Lightning's own, safe when two jobs create it at once
    tags = {key: value for key, _, value in (tag.partition("=") for tag in job.tags)}
    return MLFlowLogger(experiment, job.name, tracking_uri, tags | ({"group": job.group} if job.group else {}))


def needs(package: str, install: str) -> None:
    """Check that a logger's package is installed.

    Args:
        package: its import name.
        install: what pip installs.

    Raises:
        ConfigError: it is not installed.
    """
    if not find_spec(package):
        raise ConfigError(f"logger={package} needs a package that is not installed: pip install '{install}'")
