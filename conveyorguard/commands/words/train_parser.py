"""The command line of a training: its help, and its words made ready for Hydra."""

from __future__ import annotations

from argparse import SUPPRESS

from conveyorguard.commands.words.parser import VerbParser
from conveyorguard.commands.words.values import quote_paths
from conveyorguard.config.compose import config_dir

GROUPS = ("data", "model", "modality", "split", "trainer", "logger")  # whose choices the help lists


class TrainParser(VerbParser):
    """The parser of train.py; it takes Hydra's options, and lists those that are needed most."""

    def __init__(self) -> None:
        super().__init__(
            "[-m] [KEY=VALUE ...] [--config-dir FOLDER]",
            "Train a model, or with -m several: prepare, fit, test, report. The last line is the run directory.",
            """\
debug=fast                                                everything once, in seconds
model=lightgbm modality=sensor data=aihub data.root=PATH
-m modality=sensor,image,both film=true,false             six runs and their comparison
-m sweep=optuna model=fusion                              a study that tunes the model
ckpt_path=RUN/checkpoints/last.ckpt                       goes on after an interruption""",
            program="python train.py",
        )
        self.prog = "train"
        self.epilog = f"{self.epilog}\n\n{_choices()}"
        self.add_argument("-m", "--multirun", action="store_true", help="train every combination of values a,b,c")
        self.add_argument("-c", "--cfg", metavar="job", help="print the whole config instead of training")
        self.add_argument("--hydra-help", action="store_true", help="list Hydra's other options")
        for name in ("--version", "--resolve", "--run", "-r", "--shell-completion", "-sc"):
            self.add_argument(name, action="store_true", help=SUPPRESS)
        for name in ("--package", "-p", "--config-path", "-cp", "--config-name", "-cn", "--experimental-rerun"):
            self.add_argument(name, help=SUPPRESS)
        for name in ("--info", "-i"):
            self.add_argument(name, nargs="?", help=SUPPRESS)


def _choices() -> str:
    """Return the choices of the most used groups, a line each."""
    others = sorted(path.name for path in config_dir().iterdir() if _names(path.name) and path.name not in GROUPS)
    lines = [f"  {name:<9} {' '.join(_names(name))}" for name in GROUPS]
    return "\n".join([f"choices (also of {', '.join(others)}):", *lines])


def _names(group: str) -> list[str]:
    """Return the choices of a config group."""
    return sorted(path.stem for path in (config_dir() / group).glob("*.yaml"))


def hydra_arguments(arguments: list[str]) -> list[str]:
    """Return the arguments of a training as Hydra takes them: checked, and with paths quoted.

    Their number and order stay: a study starts its trials by the command line it was given.

    Raises:
        ConfigError: an unknown option, a word that is no override, or an added key that nothing reads.
    """
    words = TrainParser().parse_words(arguments)
    multirun = words.options.multirun
    if any(word.startswith("+") for word in words.overrides):
        from conveyorguard.commands.words.keys import compose_checked, first_values

        compose_checked(first_values(words.overrides) if multirun else words.overrides, words.options.config_dir)
    return [word if word.startswith("-") else quote_paths([word], multirun)[0] for word in arguments]
