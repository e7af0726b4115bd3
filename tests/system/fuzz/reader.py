"""Fuzz the reader of frame files: mutated csv, bin, json and zip bytes from `inputs.py`, judged by `oracle.py`.

    python -m tests.system.fuzz.reader --seconds 60            (make fuzz)
    python -m tests.system.fuzz.reader --inputs 1000000        (make fuzz-long)
    python -m tests.system.fuzz.reader --only 123 --seed 0     one input again

Every input must end in a named error or in the oracle's values. Anything else is a finding: another exception, other
values, a valid input refused, more than 10 s of processor time or 2 minutes of wall time, more than 1 GiB of memory, a
file opened for writing. Inputs are determined by (seed, number); a child process does the work, so that crashes and
hangs are findings too. Findings are saved in tests/system/fuzz/found/.
"""

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from conveyorguard.data.archive import frames as frame_files
from conveyorguard.data.archive import reader as archive
from conveyorguard.data.schema import Schema
from conveyorguard.errors import DataError
from tests.support.places import ROOT
from tests.system.fuzz import oracle
from tests.system.fuzz.inputs import CHANNELS, ENVIRONMENT, SHAPE, STATES, make_input

NAME = "TS_oht_01_oht01_0827_1011"
EVERY = 10**12  # inputs: no limit but the time
HANG, STUCK, MEMORY = 10, 120, 1 << 30  # processor time [s], wall time [s] (it may wait for a pipe), memory [bytes]


def schema():
    return Schema.from_config(
        {
            "channels": {name: {"unit": "x"} for name in CHANNELS},
            "environment": {name: {"unit": "x"} for name in ENVIRONMENT},
            "thermal": {"shape": list(SHAPE), "stored": [2, 2]},
            "states": [{"name": f"s{k}"} for k in range(STATES)],
        }
    )


def same(a, b):
    return np.array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32), equal_nan=True)


def judge(kind, content, folder, guard):
    """Judge the reader on an input; returns ('refused' or 'read', None) or ('finding', what is wrong).

    Args:
        kind: csv, json, bin or zip.
        content: Bytes of the input.
        folder: Folder for the archives of a zip.
        guard: Mapping whose `reading` is true while the reader runs.
    """
    if kind == "zip":
        return judge_zip(content, folder, guard)
    read, expected, plain = {
        "csv": (
            lambda: frame_files.parse_csv(content, CHANNELS),
            oracle.csv_row(content, CHANNELS),
            oracle.csv_is_plain(content),
        ),
        "json": (
            lambda: frame_files.parse_json(content, STATES, ENVIRONMENT),
            oracle.label(content, STATES, ENVIRONMENT),
            oracle.label_is_plain(content),
        ),
        "bin": (
            lambda: frame_files.parse_bin(content, SHAPE),
            oracle.npy_frame(content, SHAPE),
            oracle.npy_is_plain(content, SHAPE),
        ),
    }[kind]
    guard["reading"] = True
    try:
        values = read()
    except frame_files.Wrong as wrong:
        if plain and expected is not None and expected is not NotImplemented:
            return "finding", f"refused although valid: expected {wrong.expected}, found {wrong.actual}"
        return "refused", None
    finally:
        guard["reading"] = False
    if expected is NotImplemented:
        return "read", None
    if expected is None:
        return "finding", f"read although unusable: {values!r}"
    equal = same(values, expected) if kind != "json" else values[0] == expected[0] and same(values[1], expected[1])
    return ("read", None) if equal else ("finding", f"read as {values!r}, expected {expected!r}")


def judge_zip(content, folder, guard):
    """Judge the reader on a zip: every second of the oracle is read with its values, or a defect names its file."""
    paths = [folder / f"{NAME}.zip", folder / f"{NAME.replace('TS', 'TL')}.zip"]
    for path, raw in zip(paths, content, strict=True):
        path.write_bytes(raw)
    expected = oracle.archives(*content, CHANNELS, SHAPE, STATES, ENVIRONMENT, "oht01_0827")
    guard["reading"] = True
    try:
        session = archive.read_session(NAME, *paths, schema())
    except DataError as error:
        if NAME[2:] not in str(error):
            return "finding", f"an error that does not name its archive: {error}"
        sound = [stem for stem, row in (expected or {}).items() if row[5]]
        if sound:
            return "finding", f"refused, although {', '.join(sound)} can be read: {error}"
        return "refused", None
    finally:
        guard["reading"] = False
    if expected is None:
        return "finding", "read although zipfile finds no directory"
    dropped = [defect.where for defect in session.dropped]
    refused = [stem for stem, row in expected.items() if row[5] and any(stem in where for where in dropped)]
    if refused:
        return "finding", f"{', '.join(refused)} refused although valid: {session.dropped}"
    wanted = [row for stem, row in expected.items() if not any(stem in where for where in dropped)]
    if len(session.time) != len(wanted):
        return "finding", f"{len(session.time)} seconds, dropped {dropped}, the archives hold {list(expected)}"
    if session.time.tolist() != [row[4] for row in wanted]:
        return "finding", f"times {session.time}, the names give {[row[4] for row in wanted]}"
    for i, row in enumerate(wanted):
        read = (session.sensors[i], session.environment[i], session.thermal[i])
        if not all(same(a, b) for a, b in zip(read, row, strict=False)) or session.state[i] != row[3]:
            return (
                "finding",
                f"second {session.time[i]}: read {read}, state {session.state[i]}, expected {row}",
            )
    return "read", None


def work(seed, first, last, until, progress):
    """Run in the child: judge inputs first to last until a time; print a json line per finding, then the counts."""
    counts, guard = Counter(), {"reading": False}

    def watch(event, arguments):
        if event == "open" and guard["reading"]:
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise SystemExit(f"opened for writing: {path}")
        if (
            event in ("os.mkdir", "os.rename", "os.remove", "os.system", "subprocess.Popen", "pickle.find_class")
            and guard["reading"]
        ):
            raise SystemExit(f"{event} {arguments}")

    sys.addaudithook(watch)
    with open("/proc/self/statm") as status:
        now = int(status.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        number = first
        while number < last and time.time() < until:
            progress.seek(0)
            progress.write(f"{number:<20}")
            progress.flush()
            kind, content = make_input(seed, number)
            signal.setitimer(signal.ITIMER_PROF, HANG)  # both signals end the process by default, even inside a library
            signal.alarm(STUCK)
            try:
                verdict, wrong = judge(kind, content, Path(folder), guard)
            except Exception as error:
                verdict, wrong = "finding", f"{type(error).__name__}: {error}"
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.alarm(0)
            counts[f"{kind} {verdict}"] += 1
            if wrong:
                print(json.dumps({"number": number, "kind": kind, "wrong": wrong[:400]}), flush=True)
            number += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    print(json.dumps({"counts": counts, "next": number, "peak": peak}), flush=True)


def fuzz(seed, inputs, seconds):
    """Run the child, and restart it when it dies; returns counts, findings and its peak memory [bytes]."""
    counts, findings, first, peak, until = Counter(), [], 0, 0, time.time() + seconds
    while first < inputs and time.time() < until:
        with tempfile.NamedTemporaryFile("w+") as progress:
            line = [
                sys.executable,
                "-m",
                "tests.system.fuzz.reader",
                "--child",
                f"{first},{inputs},{until}",
                "--seed",
                str(seed),
                "--progress",
                progress.name,
            ]
            child = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
            lines = [json.loads(row) for row in child.stdout.splitlines() if row.startswith("{")]
            if lines and "counts" in lines[-1]:
                end = lines.pop()
                first, peak = end["next"], max(peak, end["peak"])
                counts.update(end["counts"])
            else:
                number = int(progress.read() or first)
                name = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit {child.returncode}"
                kind = make_input(seed, number)[0]
                lines.append({"number": number, "kind": kind, "wrong": f"{name} {child.stderr[-300:]}"})
                first = number + 1
            findings += lines
    return counts, findings, peak


def keep(seed, finding):
    """Save the input of a finding."""
    folder = Path(__file__).parent / "found"
    folder.mkdir(exist_ok=True)
    content = make_input(seed, finding["number"])[1]
    for i, raw in enumerate(content if isinstance(content, tuple) else [content]):
        (folder / f"{seed}-{finding['number']}-{i}.{finding['kind']}").write_bytes(raw)


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=float("inf"))
    options.add_argument("--inputs", type=int, default=EVERY)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--only", type=int, help="number of one input to judge again")
    options.add_argument("--child", help=argparse.SUPPRESS)
    options.add_argument("--progress", help=argparse.SUPPRESS)
    arguments = options.parse_args()
    if arguments.child:
        first, last, until = arguments.child.split(",")
        with open(arguments.progress, "w") as progress:
            work(arguments.seed, int(first), int(last), float(until), progress)
        return 0
    if arguments.only is not None:
        kind, content = make_input(arguments.seed, arguments.only)
        with tempfile.TemporaryDirectory() as folder:
            print(kind, content, *judge(kind, content, Path(folder), {}), sep="\n")
        return 0
    began = time.time()
    counts, findings, peak = fuzz(arguments.seed, arguments.inputs, arguments.seconds)
    for name in sorted(counts):
        print(f"{name:>14} {counts[name]:>9,}")
    for finding in findings:
        keep(arguments.seed, finding)
        print(f"FINDING number {finding['number']} ({finding['kind']}): {finding['wrong']}")
    total = sum(counts.values())
    print(
        f"{total:,} inputs in {time.time() - began:.0f} s, {peak >> 20} MiB at the most, {len(findings)} findings "
        f"(seed {arguments.seed})"
    )
    if too_few := total < arguments.inputs and arguments.inputs < EVERY:
        print(f"{arguments.inputs:,} inputs were requested: give more --seconds")
    return 1 if findings or too_few or not total else 0


if __name__ == "__main__":
    sys.exit(main())
