"""The fuzzer of the reader: no findings now, and findings for readers that lose or write something."""

import dataclasses
import subprocess
import sys

import pytest

from conveyorguard.data.archive.reader import read_session
from conveyorguard.errors import DataError
from tests.data.archive.spoiled import NAME
from tests.support.places import ROOT
from tests.system.fuzz import inputs
from tests.system.fuzz import reader as fuzz

pytestmark = pytest.mark.promise(
    "input",
    "A mutated csv, bin, json or zip file gives a named error or exactly the values that an independent "
    "reader finds. Nothing hangs, takes 1 GiB of memory or writes a file.",
)

FUZZ = [sys.executable, "-m", "tests.system.fuzz.reader"]


def test_short_fuzz_has_no_findings():
    done = subprocess.run(
        [*FUZZ, "--inputs", "4000", "--seed", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4,000 inputs" in done.stdout


def test_fuzz_without_time_for_all_inputs_fails():
    line = [*FUZZ, "--inputs", "1000000", "--seconds", "1"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "1,000,000 inputs were requested" in done.stdout and "0 findings" in done.stdout


@pytest.mark.parametrize("parse", ["parse_csv", "parse_json", "parse_bin"])
def test_reader_that_writes_a_file_is_a_finding(parse, tmp_path):
    written = tmp_path / "written"
    code = (
        "from tests.system.fuzz import reader\n"
        f"reader.frame_files.{parse} = lambda *_: open({str(written)!r}, 'w')\n"
        f"reader.work(0, 0, 60, float('inf'), open({str(tmp_path / 'progress')!r}, 'w'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and f"opened for writing: {written}" in done.stderr and not written.exists()


def lossy(change):
    """Return a reader that silently changes sessions longer than a second."""

    def read(*arguments):
        session = read_session(*arguments)
        return change(session) if len(session.time) > 1 else session

    return read


def first_second_alone(session):
    names = ("time", "sensors", "environment", "thermal", "state")
    return dataclasses.replace(session, **{name: getattr(session, name)[:1] for name in names})


def refuse(*arguments):
    raise DataError(f"{NAME}.zip: cannot be read")


READERS = {
    "a reader of first seconds": lossy(first_second_alone),
    "a reader of late clocks": lossy(lambda session: dataclasses.replace(session, time=session.time + 1)),
    "a reader of swapped states": lossy(lambda session: dataclasses.replace(session, state=session.state[::-1] - 1)),
    "a reader of nothing": refuse,
    "the reader": read_session,
}


@pytest.mark.parametrize("case", READERS)
def test_reader_that_loses_or_changes_valid_seconds_is_a_finding(case, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz.archive, "read_session", READERS[case])
    content_of = (inputs.make_input(0, number) for number in range(120))
    verdicts = {fuzz.judge(kind, content, tmp_path, {})[0] for kind, content in content_of if kind == "zip"}
    assert ("finding" in verdicts) == (case != "the reader")
