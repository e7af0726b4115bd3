"""Mistakes put into the code whose mistakes would make numbers wrong without anyone noticing: `make mutation`.

    python -m tests.system.mutation [MODULE ...] [--seconds S] [--again] [--report]

mutmut changes one thing at a time in a module (a number, a sign, an argument, a comparison) and runs the quick tests of
that module; a mistake that no test notices has survived. Every module has a folder `mutants/MODULE` with verdicts of
its own, so a run that was stopped goes on where it was, and what was finished is not run again. Where tests have
changed, what survived is tried again.

Not counted are mistakes in messages: where the first difference between the code and its mutant is a text constant with
a blank in it. Docstrings are never changed by mutmut, nor is what stands outside functions (constants, regular
expressions, the lambdas in `METRICS`) or in a property. Exit status 1 where fewer than 80 % of the counted were
noticed, or some were not run.
"""

import argparse
import ast
import filecmp
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from tests.support.places import ROOT

GOAL = 0.8
KILLED, SURVIVED, NO_TEST = (1, 3, -9, -11), 0, 33  # exit codes of the tests; others are timeouts
ARCHIVE = "tests/data/archive"
READER = [
    f"{ARCHIVE}/test_{name}.py"
    for name in ("broken_frames", "broken_archives", "broken_folders", "frame_names", "frames", "discovery", "sessions")
]
HELPERS = ["tests/conftest.py", "tests/data/archive/conftest.py", "tests/data/archive/spoiled.py"]
# module: source, tests, and which of them are quick and start no processes
MODULES = {
    "splits": ("conveyorguard/data/splits.py", ["tests/data/test_splits.py"], "not own"),
    "windows": ("conveyorguard/data/windows.py", ["tests/data/test_windows.py"], "not every_modality"),
    "scores": ("conveyorguard/metrics/scores.py", ["tests/metrics/test_scores.py"], ""),
    "repair": (
        "conveyorguard/data/repair.py",
        ["tests/data/test_repair.py", "tests/data/test_store.py"],
        "reduction or stride or pixel or bad_values or repaired",
    ),
    "bootstrap": ("conveyorguard/metrics/bootstrap.py", ["tests/metrics/test_bootstrap.py"], ""),
    "alarms": ("conveyorguard/metrics/alarms.py", ["tests/metrics/test_alarms.py"], ""),
    "frames": ("conveyorguard/data/archive/frames.py", READER, "not (strict or lead_out or root or written)"),
    "reader": ("conveyorguard/data/archive/reader.py", READER, "not (bomb or a_broken)"),
    "discover": ("conveyorguard/data/archive/discover.py", READER, "not (bomb or a_broken)"),
    "names": ("conveyorguard/data/archive/names.py", READER, "not (bomb or a_broken)"),
    "containers": ("conveyorguard/data/archive/containers.py", [*READER, f"{ARCHIVE}/test_containers.py"], ""),
    "scaling": ("conveyorguard/data/scaling.py", ["tests/data/test_scaling.py"], "not a_run_fits"),
}


def work_folder(module: str) -> Path:
    """The folder of a module, with links to the code and settings of its own."""
    source, tests, chosen = MODULES[module]
    folder = ROOT / "mutants" / module
    folder.mkdir(parents=True, exist_ok=True)
    linked = ["conveyorguard", "conf", "tests", "experiments", "train.py"]
    for name in linked:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(ROOT / name)
    settings = {
        "source_paths": ["conveyorguard"],
        "only_mutate": [source],
        "also_copy": linked[1:],
        "pytest_add_cli_args_test_selection": tests,
        "pytest_add_cli_args": ["--hypothesis-profile=mutation", "-m", "not slow and not twin", "-k", chosen],
        "timeout_constant": 10,  # seconds, times 15: the machine may stand still for a while
    }
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8") + "\n[tool.mutmut]\nuse_git_change_detection = false\n"
    (folder / "pyproject.toml").write_text(text + lines, encoding="utf-8")
    return folder


def meta_file(module: str) -> Path:
    return ROOT / "mutants" / module / "mutants" / f"{MODULES[module][0]}.meta"


def verdicts(module: str) -> dict[str, int | None]:
    """Exit code of the tests under each mutant; None where they have not been run."""
    path = meta_file(module)
    try:
        return json.loads(path.read_text())["exit_code_by_key"]
    except FileNotFoundError:
        return {}
    except json.JSONDecodeError:  # mutmut was stopped while writing it
        path.unlink()
        path.with_suffix("").unlink(missing_ok=True)
        return {}


def changed(module: str) -> bool:
    """Whether a test, or the code, is not that of the last run."""
    inner = meta_file(module).parents[2]
    tests = [*HELPERS, *MODULES[module][1]]
    code, mutated = ROOT / MODULES[module][0], meta_file(module).with_suffix("")
    same = [(inner / name).exists() and filecmp.cmp(ROOT / name, inner / name, shallow=False) for name in tests]
    return not all(same) or code.stat().st_mtime > mutated.stat().st_mtime


def forget_survivors(module: str) -> None:
    """Have those that were not killed run again, with tests as they are now."""
    path = meta_file(module)
    meta = json.loads(path.read_text())
    meta["exit_code_by_key"] = {key: code if code in KILLED else None for key, code in meta["exit_code_by_key"].items()}
    path.write_text(json.dumps(meta))
    (path.parents[2] / "mutmut-stats.json").unlink(missing_ok=True)  # which test runs what


def run(module: str, seconds: float, again: bool) -> None:
    """Have mutmut go on with the module, for so many seconds at the most."""
    folder = work_folder(module)
    if verdicts(module) and (again or changed(module)):
        forget_survivors(module)
    elif verdicts(module) and None not in verdicts(module).values():
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", "1"]
    with (ROOT / "mutants" / f"{module}.log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            status = 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status:
        sys.exit(f"{module}: mutmut ended with {status}, see {Path(log.name).relative_to(ROOT)}")


def functions(path: Path) -> dict[str, ast.FunctionDef]:
    """Every version of every function, by the name that mutmut gives it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
    }


def first_difference(a, b):
    """The first pair of nodes that differ, walking both together; None where the trees are alike."""
    if type(a) is not type(b):
        return a, b
    if isinstance(a, ast.AST):
        if isinstance(a, ast.Constant) and a.value != b.value:
            return a, b
        pairs = ((getattr(a, name, None), getattr(b, name, None)) for name in a._fields if name not in ("name", "kind"))
        return next((found for pair in pairs if (found := first_difference(*pair))), None)
    if isinstance(a, list):
        if len(a) != len(b):
            return a, b
        return next((found for pair in zip(a, b, strict=True) if (found := first_difference(*pair))), None)
    return None if a == b else (a, b)


def is_message(original: ast.FunctionDef, mutant: ast.FunctionDef) -> bool:
    found = first_difference(original, mutant)
    constants = found and all(isinstance(node, ast.Constant) and isinstance(node.value, str) for node in found)
    return bool(constants) and " " in found[0].value.strip()


def change(original: ast.FunctionDef, mutant: ast.FunctionDef) -> str:
    """The line that differs, before and after."""
    before, after = (ast.unparse(node).splitlines()[len(node.decorator_list) + 1 :] for node in (original, mutant))
    lines = next(((a, b) for a, b in zip(before, after, strict=False) if a != b), ("", ""))
    return "\n    - " + "\n    + ".join(line.strip() for line in lines)


def report(module: str) -> Counter:
    """Print the figures of a module and what was not noticed."""
    counts, told = Counter(), []
    known = functions(meta_file(module).with_suffix("")) if verdicts(module) else {}
    for key, code in verdicts(module).items():
        name = key.rpartition(".")[2]
        original = known[name.rpartition("_")[0] + "_orig"]
        if is_message(original, known[name]):
            counts["message"] += 1
            continue
        verdict = {None: "not run", SURVIVED: "survived", NO_TEST: "no test"}.get(
            code, "killed" if code in KILLED else "timeout"
        )
        counts[verdict] += 1
        if verdict in ("survived", "no test", "timeout"):
            told.append(f"  {verdict}: {name}{change(original, known[name])}")
    noticed = counts["killed"] + counts["timeout"]
    tried = noticed + counts["survived"] + counts["no test"]
    if told:
        print("\n".join(told))
    print(
        f"{module}: {noticed} of {tried} noticed ({noticed / max(tried, 1):.1%}), {counts['timeout']} of them by a "
        "timeout; "
        f"{counts['not run']} not run; {counts['message']} in messages, not counted",
        flush=True,
    )
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--seconds", type=float, default=60, help="for all of them together")
    parser.add_argument("--again", action="store_true", help="try again what survived or timed out")
    parser.add_argument("--report", action="store_true", help="only show what is known")
    arguments = parser.parse_args()
    modules = arguments.modules or list(MODULES)
    if unknown := set(modules) - set(MODULES):
        parser.error(f"{', '.join(sorted(unknown))}: the modules are {', '.join(MODULES)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left running
    end, total = time.monotonic() + arguments.seconds, Counter()
    for module in modules:
        if not arguments.report and time.monotonic() < end:
            run(module, end - time.monotonic(), arguments.again)
        total += report(module)
    noticed = total["killed"] + total["timeout"]
    tried = noticed + total["survived"] + total["no test"]
    print(
        f"all: {noticed} of {tried} noticed ({noticed / max(tried, 1):.1%}), goal {GOAL:.0%}; {total['not run']} "
        "not run"
    )
    return 0 if tried and noticed >= GOAL * tried and not total["not run"] else 1


if __name__ == "__main__":
    sys.exit(main())
