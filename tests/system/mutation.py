"""Mutation testing of the modules whose mistakes would silently change figures: `make mutation`.

    python -m tests.system.mutation [MODULE ...] [--seconds S] [--again] [--report]

mutmut changes one thing at a time in a module (a number, a sign, an argument, a comparison) and runs the fast tests of
that module; a mutant that no test detects has survived. Verdicts are kept per module in `mutants/MODULE`: a stopped run
continues where it was, and finished mutants are not run again. If tests have changed, survivors are run again.

Mutants of messages are not counted: those whose first difference is a text constant with a blank. mutmut changes
neither docstrings nor properties nor code outside functions (constants, regular expressions, the lambdas in `METRICS`).
Exit status 1 if fewer than 80 % of the counted mutants were detected, or some were not run.
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
IN_PROCESS = "not (bomb or broken_archive_is or broken_file_costs)"  # neither slow nor in need of much memory
# module: source, test files, and the -k expression for tests that are fast and start no processes
MODULES = {
    "splits": ("conveyorguard/data/splits.py", ["tests/data/test_splits.py"], "not own"),
    "windows": ("conveyorguard/data/windows.py", ["tests/data/test_windows.py"], "not every_modality"),
    "scores": ("conveyorguard/metrics/scores.py", ["tests/metrics/test_scores.py"], ""),
    "repair": (
        "conveyorguard/data/repair.py",
        ["tests/data/test_repair.py", "tests/data/test_store.py"],
        "reduction or stride or pixel or bad_values or repaired",
    ),
    "intervals": ("conveyorguard/metrics/intervals.py", ["tests/metrics/test_intervals.py"], ""),
    "resampling": ("conveyorguard/metrics/resampling.py", ["tests/metrics/test_resampling.py"], ""),
    "alarms": ("conveyorguard/metrics/alarms.py", ["tests/metrics/test_alarms.py"], ""),
    "alarm_threshold": ("conveyorguard/metrics/alarm_threshold.py", ["tests/metrics/test_alarm_threshold.py"], ""),
    "frames": ("conveyorguard/data/archive/frames.py", READER, "not (strict or lead_out or root or written)"),
    "reader": ("conveyorguard/data/archive/reader.py", READER, IN_PROCESS),
    "discover": ("conveyorguard/data/archive/discover.py", READER, IN_PROCESS),
    "names": ("conveyorguard/data/archive/names.py", READER, IN_PROCESS),
    "containers": ("conveyorguard/data/archive/containers.py", [*READER, f"{ARCHIVE}/test_containers.py"], ""),
    "scaling": ("conveyorguard/data/scaling.py", ["tests/data/test_scaling.py"], "not run_fits"),
}


def work_folder(module: str) -> Path:
    """Create the folder of a module, with links to the code and its own settings."""
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
        "timeout_constant": 10,  # s, times 15: the machine may be busy for a while
    }
    lines = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8") + "\n[tool.mutmut]\nuse_git_change_detection = false\n"
    (folder / "pyproject.toml").write_text(text + lines, encoding="utf-8")
    return folder


def meta_file(module: str) -> Path:
    return ROOT / "mutants" / module / "mutants" / f"{MODULES[module][0]}.meta"


def verdicts(module: str) -> dict[str, int | None]:
    """Return the exit code of the tests by mutant; None if it was not run yet."""
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
    """Return whether a test or the code has changed since the last run."""
    inner = meta_file(module).parents[2]
    tests = [*HELPERS, *MODULES[module][1]]
    code, mutated = ROOT / MODULES[module][0], meta_file(module).with_suffix("")
    same = [(inner / name).exists() and filecmp.cmp(ROOT / name, inner / name, shallow=False) for name in tests]
    return not all(same) or code.stat().st_mtime > mutated.stat().st_mtime


def forget_survivors(module: str) -> None:
    """Mark mutants that were not killed to be run again with the current tests."""
    path = meta_file(module)
    meta = json.loads(path.read_text())
    meta["exit_code_by_key"] = {key: code if code in KILLED else None for key, code in meta["exit_code_by_key"].items()}
    path.write_text(json.dumps(meta))
    (path.parents[2] / "mutmut-stats.json").unlink(missing_ok=True)  # the map from tests to code


def run(module: str, seconds: float, again: bool) -> None:
    """Continue mutmut on a module for at most `seconds`."""
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
    """Return every version of every function, by mutmut's name for it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and "__mutmut_" in node.name
    }


def first_difference(a, b):
    """Return the first pair of nodes in which two trees differ, or None."""
    if type(a) is not type(b):
        return a, b
    if isinstance(a, ast.AST):
        if isinstance(a, ast.Constant) and a.value != b.value:
            return a, b
        pairs = ((getattr(a, name, None), getattr(b, name, None)) for name in a._fields if name not in ("name", "kind"))
        return next((nodes for pair in pairs if (nodes := first_difference(*pair))), None)
    if isinstance(a, list):
        if len(a) != len(b):
            return a, b
        return next((nodes for pair in zip(a, b, strict=True) if (nodes := first_difference(*pair))), None)
    return None if a == b else (a, b)


def is_message(original: ast.FunctionDef, mutant: ast.FunctionDef) -> bool:
    """Return whether a mutant differs first in a text constant with a blank."""
    nodes = first_difference(original, mutant)
    constants = nodes and all(isinstance(node, ast.Constant) and isinstance(node.value, str) for node in nodes)
    return bool(constants) and " " in nodes[0].value.strip()


def change(original: ast.FunctionDef, mutant: ast.FunctionDef) -> str:
    """Return the first line that differs, before and after."""
    before, after = (ast.unparse(node).splitlines()[len(node.decorator_list) + 1 :] for node in (original, mutant))
    lines = next(((a, b) for a, b in zip(before, after, strict=False) if a != b), ("", ""))
    return "\n    - " + "\n    + ".join(line.strip() for line in lines)


def report(module: str) -> Counter:
    """Print the figures of a module and its undetected mutants."""
    counts, undetected = Counter(), []
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
            undetected.append(f"  {verdict}: {name}{change(original, known[name])}")
    detected = counts["killed"] + counts["timeout"]
    tried = detected + counts["survived"] + counts["no test"]
    if undetected:
        print("\n".join(undetected))
    print(
        f"{module}: {detected} of {tried} detected ({detected / max(tried, 1):.1%}), {counts['timeout']} of them by a "
        f"timeout; {counts['not run']} not run; {counts['message']} in messages, not counted",
        flush=True,
    )
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=", ".join(MODULES))
    parser.add_argument("--seconds", type=float, default=60, help="limit for all modules together")
    parser.add_argument("--again", action="store_true", help="run survivors and timeouts again")
    parser.add_argument("--report", action="store_true", help="only print the verdicts so far")
    arguments = parser.parse_args()
    modules = arguments.modules or list(MODULES)
    if unknown := set(modules) - set(MODULES):
        parser.error(f"{', '.join(sorted(unknown))}: the modules are {', '.join(MODULES)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that no process is left running
    end, total = time.monotonic() + arguments.seconds, Counter()
    for module in modules:
        if not arguments.report and time.monotonic() < end:
            run(module, end - time.monotonic(), arguments.again)
        total += report(module)
    detected = total["killed"] + total["timeout"]
    tried = detected + total["survived"] + total["no test"]
    print(
        f"all: {detected} of {tried} detected ({detected / max(tried, 1):.1%}), goal {GOAL:.0%}; {total['not run']} "
        "not run"
    )
    return 0 if tried and detected >= GOAL * tried and not total["not run"] else 1


if __name__ == "__main__":
    sys.exit(main())
