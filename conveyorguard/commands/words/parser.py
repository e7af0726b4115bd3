"""The command line of a verb: paths, options and KEY=VALUE words in any order."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn

from conveyorguard.commands.words.suggest import did_you_mean
from conveyorguard.commands.words.values import bare_key, is_path_key, quote_paths
from conveyorguard.errors import ConfigError

PROGRAM = "python -m conveyorguard"
KEY = re.compile(r"[+~]{0,2}[A-Za-z_][\w.$/@:-]*", re.ASCII)  # of an override in Hydra's grammar


@dataclass(frozen=True)
class Words:
    """What was typed after a verb, sorted."""

    paths: list[Path]
    settings: dict[str, str]  # KEY=VALUE of the verb itself, such as out=
    overrides: list[str]  # of the config, with the values of path keys quoted for Hydra
    options: argparse.Namespace

    @property
    def path(self) -> Path:
        """The path of a verb that takes one."""
        return self.paths[0]

    @property
    def out(self) -> Path | None:
        """The value of out=, where it was given."""
        return Path(os.path.expanduser(self.settings["out"])) if "out" in self.settings else None


class VerbParser(argparse.ArgumentParser):
    """The parser and the help of a verb."""

    def __init__(
        self,
        usage: str,
        text: str,
        examples: str,
        paths: str = "",
        settings: Sequence[str] = (),
        overrides: bool = True,
        program: str = PROGRAM,
    ) -> None:
        """Describe the command line of a verb.

        Args:
            usage: the verb and what may follow it.
            text: the help; its first sentence stands in the list of verbs.
            examples: words after `program`, a line each.
            paths: how many paths the verb takes: "" none, "1" one, "+" one or more.
            settings: names of the verb's own KEY=VALUE words.
            overrides: whether it takes overrides of the config, and with them --config-dir.
            program: what is typed before the usage.
        """
        lines = "\n".join(f"  {program} {line}" for line in examples.strip().splitlines())
        super().__init__(
            prog=usage.partition(" ")[0],
            usage=f"{program} {usage}",
            description=text.strip(),
            epilog=f"examples:\n{lines}",
            formatter_class=partial(argparse.RawDescriptionHelpFormatter, max_help_position=38, width=118),
            allow_abbrev=False,
        )
        self.text, self.takes_paths, self.settings, self.takes_overrides = text.strip(), paths, settings, overrides
        self.add_argument("words", nargs="*", help=argparse.SUPPRESS)
        if overrides:
            self.add_argument(
                "--config-dir", "-cd", metavar="FOLDER", type=Path, help="a folder with yaml files of your own"
            )

    @property
    def summary(self) -> str:
        """The first sentence of the help."""
        return re.split(r"(?<=\.)\s", self.text, maxsplit=1)[0]

    def error(self, message: str) -> NoReturn:
        """Refuse the command line.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.prog}: {message}\n{self.format_usage().strip()}")

    def parse_words(self, arguments: list[str]) -> Words:
        """Sort the words after the verb.

        A word with `=` is an override of the config, unless it is the name of an existing file or folder or has no key
        before the `=`.

        Raises:
            ConfigError: an unknown option, a missing path, too many paths, or a word that the verb does not take.
        """
        options, unknown = self.parse_known_intermixed_args(arguments)
        if unknown:
            known = [name for action in self._actions for name in action.option_strings]
            self.error(f"no option {unknown[0]}{did_you_mean(unknown[0], known)}")
        paths, overrides, settings = [], [], dict[str, str]()
        for word in options.words:
            name, equals, value = word.partition("=")
            if equals and name in self.settings:
                settings[name] = value or self.error(f"{name}= has no value")
            elif self._is_override(word):
                overrides.append(word)
            elif equals and not self.takes_overrides and not os.path.exists(word):
                names = [f"{setting}=" for setting in self.settings]
                self.error(f"{word} is no existing file or folder{did_you_mean(f'{name}=', names)}")
            else:
                paths.append(Path(word))
        self._check_count(paths, overrides)
        self._check_config_dir(options)
        multirun = getattr(options, "multirun", False)
        return Words(paths, settings, quote_paths(overrides, multirun), options)

    def _is_override(self, word: str) -> bool:
        """Return whether a word is an override of the config rather than a path."""
        if not self.takes_overrides or not ("=" in word or word.startswith("~")):
            return False
        name = word.partition("=")[0]
        return not self.takes_paths or bool(
            KEY.fullmatch(name) and (is_path_key(bare_key(word)) or not os.path.exists(word))
        )

    def _check_count(self, paths: list[Path], overrides: list[str]) -> None:
        """Refuse a missing path or one too many."""
        listed = ", ".join(map(str, paths))
        if self.takes_paths and not paths:
            hint = f"; if {overrides[0]} is to be one, write ./{overrides[0]}" if overrides else ""
            self.error(f"a path is missing{hint}")
        if not self.takes_paths and paths:
            self.error(f"{listed}: expected KEY=VALUE")
        if self.takes_paths == "1" and len(paths) > 1:
            self.error(
                f"takes one path, not {len(paths)} ({listed}); write ++KEY=VALUE for an override that is also the name "
                "of a folder here"
            )

    def _check_config_dir(self, options: argparse.Namespace) -> None:
        """Refuse a folder of yaml files that does not exist."""
        folder = getattr(options, "config_dir", None)
        if folder and not folder.is_dir():
            self.error(f"--config-dir {folder}: no such folder")
