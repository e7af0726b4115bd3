"""Fuzzing the reader of frame files: mutated csv, bin, json and zip bytes, each judged by `oracle.py`.

    python tests/system/fuzz/reader.py --seconds 60            (make fuzz)
    python tests/system/fuzz/reader.py --inputs 1000000        (make fuzz-long)
    python tests/system/fuzz/reader.py --only 123 --seed 0     one input again

Every input ends in a named error or in the oracle's values. Anything else is a finding: another exception, other
values, a sound input refused, more than 10 s of the processor or 2 minutes on the clock, more than 1 GiB of memory, a
file opened for writing. Inputs are made from (seed, number) alone; the work is done by a child process, so that a crash
or a hang is a finding too. Findings are kept in tests/system/fuzz/found/.
"""

import argparse
import io
import json
import os
import random
import resource
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parent)]
import oracle  # noqa: E402

from conveyorguard.data.archive import frames as frame_files  # noqa: E402
from conveyorguard.data.archive import reader as archive  # noqa: E402
from conveyorguard.data.schema import Schema  # noqa: E402
from conveyorguard.errors import DataError  # noqa: E402

SHAPE, STATES = (4, 5), 4
CHANNELS, ENVIRONMENT = ("NTC", "PM1.0", "CT1"), ("ex_temperature", "ex_humidity")
NAME = "TS_oht_01_oht01_0827_1011"
KINDS = {"csv": 40, "json": 30, "bin": 20, "zip": 10}  # of a hundred inputs
EVERY = 10**12  # inputs: until the time is over
HANG, STUCK, MEMORY = 10, 120, 1 << 30  # s of the processor, s on the clock (waiting for a pipe, say), bytes
TOKENS = {
    "csv": [
        b",",
        b";",
        b"\n",
        b"\r\n",
        b'"',
        b"\xef\xbb\xbf",
        b"NaN",
        b"inf",
        b"-Infinity",
        b"1e999",
        b"1_0",
        b"0x10",
        b"1,5",
        b" ",
        b"\t",
        b"\x0b",
        b"\x1c",
        b"\xc2\x85",
        b"\0",
        b"NTC",
        b"CT1",
        b",CT1",
        "１".encode(),
        b"\xff\xfe",
        b"9" * 400,
    ],
    "json": [
        b"{",
        b"}",
        b"[",
        b"]",
        b"[" * 2000,
        b'{"a":' * 500,
        b",",
        b":",
        b'"',
        b"null",
        b"true",
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"-0",
        b"1" * 400,
        b'"state"',
        b'"state": "3",',
        b'"value": 7,',
        b"\\u0073",
        b"\xed\xa0\x80",
        b"\xef\xbb\xbf",
        b'"1"',
        b'" 1"',
        b'"1_0"',
        "１".encode(),
        b"4",
        b"-1",
    ],
    "bin": [
        b"\x93NUMPY",
        b"\x01\x00",
        b"\x02\x00",
        b"\x03\x00",
        b"\x09\x09",
        b"'descr'",
        b"'|O'",
        b"'<f8'",
        b"'>f8'",
        b"'<f4'",
        b"'<f16'",
        b"'<c16'",
        b"'<i8'",
        b"True",
        b"(5, 4)",
        b"(4, 5)",
        b"(20,)",
        b"(-4, -5)",
        b"(99999999999, 9)",
        b"\x80\x04\x95",
        b"\xff\xff",
        b"\xff\xff\xff\x7f",
        b"lambda: 0",
        b"(" * 300,
    ],
    "zip": [
        b"PK\3\4",
        b"PK\1\2",
        b"PK\5\6",
        b"PK\6\6",
        b"PK\6\7",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\xff" * 8,
        b"../",
        b"/",
        b"C:\\",
        b"\0",
        b"\x08\x00",
        b"\x0e\x00",
    ],
}


def schema():
    return Schema.from_config(
        {
            "channels": {name: {"unit": "x"} for name in CHANNELS},
            "environment": {name: {"unit": "x"} for name in ENVIRONMENT},
            "thermal": {"shape": list(SHAPE), "stored": [2, 2]},
            "states": [{"name": f"s{k}"} for k in range(STATES)],
        }
    )


def sound(kind, rng):
    """A file as the data set has it."""
    if kind == "csv":
        columns = [*CHANNELS, "CT2"]
        rng.shuffle(columns)
        end = rng.choice(["\n", "\r\n"])
        return (",".join(columns) + end + ",".join(f"{rng.uniform(-5, 200):.2f}" for _ in columns) + end).encode()
    if kind == "bin":
        stream, letter = io.BytesIO(), rng.choice(["<f8", "<f8", "<f4", ">f8", "<f2"])
        frame = np.array([rng.uniform(20, 90) for _ in range(SHAPE[0] * SHAPE[1])]).reshape(SHAPE).astype(letter)
        np.lib.format.write_array(stream, frame, allow_pickle=False)
        return stream.getvalue()
    content = {
        "meta_info": [{"device_id": "oht01", "location": "line 1"}],
        "sensor_data": [
            {name: [{"value": round(rng.uniform(0, 9), 2), "data_unit": "A", "trend": "0"}] for name in CHANNELS}
        ],
        "annotations": [{"tagging": [{"state": rng.choice([str(rng.randrange(4)), rng.randrange(4)])}]}],
        "external_data": [{name: [{"value": round(rng.uniform(0, 99), 1)}] for name in ENVIRONMENT}],
    }
    return json.dumps(content, indent=rng.choice([None, 2])).encode()


def zipped(files, rng):
    stream = io.BytesIO()
    method = rng.choice([zipfile.ZIP_DEFLATED, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
    with zipfile.ZipFile(stream, "w", method) as target:
        for name, raw in files.items():
            target.writestr(rng.choice(["/", "", "a/", "../../"]) + name, raw)
    return stream.getvalue()


def sound_zips(rng):
    stems = [f"oht01_0827_1011{second:02d}" for second in range(5, 5 + rng.randrange(1, 4))]
    source = {f"{stem}.{kind}": sound(kind, rng) for stem in stems for kind in ("csv", "bin")}
    if rng.random() < 0.3:  # one member is mutated, the zip around it whole
        name = rng.choice(list(source))
        source[name] = mutated(source[name], name.rpartition(".")[2], rng)
    return zipped(source, rng), zipped({f"{stem}.json": sound("json", rng) for stem in stems}, rng)


def mutated(raw, kind, rng):
    """One to a few changes, of bytes or of words of the format."""
    raw = bytearray(raw)
    for _ in range(1 if rng.random() < 0.6 else rng.randrange(1, 6)):
        at, size = rng.randrange(len(raw) + 1), rng.randrange(1, 1 + max(1, min(40, len(raw))))
        match rng.randrange(9):
            case 0 if raw:
                raw[at % len(raw)] ^= 1 << rng.randrange(8)
            case 1 if raw:
                raw[at % len(raw)] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, 0x20, 0x0A])
            case 2:
                del raw[at:]
            case 3:
                del raw[at : at + size]
            case 4:
                raw[at:at] = raw[at : at + size]
            case 5:
                raw[at:at] = rng.choice(TOKENS[kind])
            case 6:
                token = rng.choice(TOKENS[kind])
                raw[at : at + len(token)] = token
            case 7:
                other = rng.randrange(len(raw) + 1)
                raw[at : at + size] = raw[other : other + size]
            case 8:
                raw[at : at + 4] = struct.pack(
                    "<I", rng.choice([0, 1, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
                )
    return bytes(raw)


def made(seed, number):
    """(kind, content) of an input; of a zip the source and the label archive."""
    rng = random.Random(f"{seed} {number}")
    kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
    if kind == "zip":
        source, labels = sound_zips(rng)
        match rng.randrange(4):
            case 0 | 1:
                source = mutated(source, "zip", rng)
            case 2:
                labels = mutated(labels, "zip", rng)
        return kind, (source, labels)
    return kind, mutated(sound(kind, rng), kind, rng) if rng.random() < 0.97 else sound(kind, rng)


def same(a, b):
    return np.array_equal(np.asarray(a, np.float32), np.asarray(b, np.float32), equal_nan=True)


def judged(kind, content, folder, given):
    """('refused' or 'read', None), or ('finding', what is wrong)."""
    if kind == "zip":
        return judged_zip(content, folder, given)
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
    given["reading"] = True
    try:
        found = read()
    except frame_files.Wrong as wrong:
        if plain and expected is not None and expected is not NotImplemented:
            return "finding", f"refused although it is sound: expected {wrong.expected}, found {wrong.found}"
        return "refused", None
    finally:
        given["reading"] = False
    if expected is NotImplemented:
        return "read", None
    if expected is None:
        return "finding", f"read although it cannot be: {found!r}"
    equal = same(found, expected) if kind != "json" else found[0] == expected[0] and same(found[1], expected[1])
    return ("read", None) if equal else ("finding", f"read as {found!r}, it says {expected!r}")


def judged_zip(content, folder, given):
    """Every second that the oracle finds in the zips is read as it is there, or told by the name of a file of it."""
    paths = [folder / f"{NAME}.zip", folder / f"{NAME.replace('TS', 'TL')}.zip"]
    for path, raw in zip(paths, content, strict=True):
        path.write_bytes(raw)
    expected = oracle.archives(*content, CHANNELS, SHAPE, STATES, ENVIRONMENT, "oht01_0827")
    given["reading"] = True
    try:
        session = archive.read_session(NAME, *paths, schema())
    except DataError as error:
        if NAME[2:] not in str(error):
            return "finding", f"an error without its archive: {error}"
        sound = [stem for stem, row in (expected or {}).items() if row[5]]
        if sound:
            return "finding", f"refused, although {', '.join(sound)} can be read: {error}"
        return "refused", None
    finally:
        given["reading"] = False
    if expected is None:
        return "finding", "read although zipfile finds no directory"
    told = [defect.where for defect in session.dropped]
    refused = [stem for stem, row in expected.items() if row[5] and any(stem in where for where in told)]
    if refused:
        return "finding", f"{', '.join(refused)} refused although sound: {session.dropped}"
    wanted = [row for stem, row in expected.items() if not any(stem in where for where in told)]
    if len(session.time) != len(wanted):
        return "finding", f"{len(session.time)} seconds, told {told}, the archives say {list(expected)}"
    if session.time.tolist() != [row[4] for row in wanted]:
        return "finding", f"times {session.time}, the names say {[row[4] for row in wanted]}"
    for i, row in enumerate(wanted):
        own = (session.sensors[i], session.environment[i], session.thermal[i])
        if not all(same(a, b) for a, b in zip(own, row, strict=False)) or session.state[i] != row[3]:
            return "finding", f"second {session.time[i]}: read {own}, state {session.state[i]}, the archives say {row}"
    return "read", None


def work(seed, first, last, until, progress):
    """The child: numbers first to last, until a time; a json line a finding, then one with the counts."""
    counts, given = Counter(), {"reading": False}

    def watch(event, arguments):
        if event == "open" and given["reading"]:
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                raise SystemExit(f"opened for writing: {path}")
        if (
            event in ("os.mkdir", "os.rename", "os.remove", "os.system", "subprocess.Popen", "pickle.find_class")
            and given["reading"]
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
            kind, content = made(seed, number)
            signal.setitimer(signal.ITIMER_PROF, HANG)  # by default both end the process, also inside a library
            signal.alarm(STUCK)
            try:
                verdict, wrong = judged(kind, content, Path(folder), given)
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
    """Run the child, again after each of its deaths; (counts, findings, peak of its memory in bytes)."""
    counts, findings, first, peak, until = Counter(), [], 0, 0, time.time() + seconds
    while first < inputs and time.time() < until:
        with tempfile.NamedTemporaryFile("w+") as progress:
            line = [
                sys.executable,
                __file__,
                "--child",
                f"{first},{inputs},{until}",
                "--seed",
                str(seed),
                "--progress",
                progress.name,
            ]
            child = subprocess.run(line, capture_output=True, text=True)
            told = [json.loads(row) for row in child.stdout.splitlines() if row.startswith("{")]
            if told and "counts" in told[-1]:
                end = told.pop()
                first, peak = end["next"], max(peak, end["peak"])
                counts.update(end["counts"])
            else:
                number = int(progress.read() or first)
                name = signal.Signals(-child.returncode).name if child.returncode < 0 else f"exit {child.returncode}"
                told.append({"number": number, "kind": made(seed, number)[0], "wrong": f"{name} {child.stderr[-300:]}"})
                first = number + 1
            findings += told
    return counts, findings, peak


def keep(seed, finding):
    folder = Path(__file__).parent / "found"
    folder.mkdir(exist_ok=True)
    content = made(seed, finding["number"])[1]
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
    given = options.parse_args()
    if given.child:
        first, last, until = given.child.split(",")
        with open(given.progress, "w") as progress:
            work(given.seed, int(first), int(last), float(until), progress)
        return 0
    if given.only is not None:
        kind, content = made(given.seed, given.only)
        with tempfile.TemporaryDirectory() as folder:
            print(kind, content, *judged(kind, content, Path(folder), {}), sep="\n")
        return 0
    began = time.time()
    counts, findings, peak = fuzz(given.seed, given.inputs, given.seconds)
    for name in sorted(counts):
        print(f"{name:>14} {counts[name]:>9,}")
    for finding in findings:
        keep(given.seed, finding)
        print(f"FINDING number {finding['number']} ({finding['kind']}): {finding['wrong']}")
    total = sum(counts.values())
    print(
        f"{total:,} inputs in {time.time() - began:.0f} s, {peak >> 20} MiB at the most, {len(findings)} findings "
        f"(seed {given.seed})"
    )
    if too_few := total < given.inputs and given.inputs < EVERY:
        print(f"{given.inputs:,} inputs were asked for: give more --seconds")
    return 1 if findings or too_few or not total else 0


if __name__ == "__main__":
    sys.exit(main())
