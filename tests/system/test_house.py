"""Rules of the house: imports, complexity, file length, names, content of the wheel."""

import ast
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports
from radon.complexity import cc_visit

pytestmark = pytest.mark.promise(
    "code",
    "Packages import one way. Hydra stops at `config`, `runs` and `commands`. No function exceeds a "
    "complexity of 15, no file 400 lines. No variable is called found, told or the like. The wheel has every package "
    "and file.",
)

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "conveyorguard"
CODE = sorted([*PACKAGE.rglob("*.py"), *(ROOT / "experiments").rglob("*.py"), ROOT / "train.py"])
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]

MOST_LINES = 400
MOST_BRANCHES = 15  # cyclomatic complexity (McCabe 1976) as radon counts it
TOP = 6  # modules at the top of the package
SAYS_NOTHING = {"found", "told", "own", "made", "one", "given", "said", "such", "thing"}  # as the name of a value


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def test_import_contracts_are_kept(monkeypatch, capsys):
    """The contracts in pyproject.toml."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])  # it adds the working directory
    assert lint_imports(no_cache=True, no_logo=True) == EXIT_STATUS_SUCCESS, capsys.readouterr().out


def test_functions_stay_below_complexity_limit():
    violations = {
        f"{name_of(path)}: {block.fullname}"
        for path in CODE
        for block in cc_visit(path.read_text(encoding="utf-8"))
        if block.complexity > MOST_BRANCHES
    }
    assert not violations, "\n".join(sorted(violations))


def test_files_stay_below_length_limit():
    files = [*CODE, *(ROOT / "tests").rglob("*.py")]
    violations = {name_of(path) for path in files if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES}
    assert not violations, "\n".join(sorted(violations))


def test_class_names_are_unique():
    places = defaultdict(list)
    for path in CODE:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                places[node.name].append(name_of(path))
    assert not [f"{name}: {paths}" for name, paths in places.items() if len(paths) > 1]


def assigned_names(tree):
    """Yield the names that a module gives to variables and arguments."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg


def test_variables_are_named_after_what_they_hold():
    config_keys = {"conveyorguard/sweeps/sweeper_conf.py: own"}
    files = [*CODE, *(ROOT / "tests").rglob("*.py")]
    violations = {
        f"{name_of(path)}: {name}"
        for path in files
        for name in assigned_names(ast.parse(path.read_text(encoding="utf-8")))
        if name in SAYS_NOTHING
    }
    assert not violations - config_keys, "\n".join(sorted(violations - config_keys))


def test_top_of_package_has_few_modules():
    assert len(list(PACKAGE.glob("*.py"))) <= TOP


def test_wheel_lists_every_package():
    folders = [path.parent.relative_to(ROOT) for path in PACKAGE.rglob("__init__.py")]
    assert sorted(SETUPTOOLS["packages"]) == sorted([*(".".join(path.parts) for path in folders), "conveyorguard.conf"])
    without = {name_of(path.parent) for path in PACKAGE.rglob("*.py")} - {path.as_posix() for path in folders}
    assert not without, "folders without an __init__.py, which are left out of the wheel"


def test_wheel_holds_every_file_beside_the_modules():
    held = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in ROOT.joinpath(*package.split(".")).glob(pattern)
    }
    beside = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert not {name_of(path) for path in beside - held}
