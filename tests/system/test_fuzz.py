"""The fuzzing of the reader: it finds nothing, and it would find a reader that loses or writes something."""

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

FUZZ = [sys.executable, "-m", "tests.system.fuzz.reader"]


def test_a_short_fuzz_finds_nothing():
    done = subprocess.run(
        [*FUZZ, "--inputs", "4000", "--seed", "7"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4,000 inputs" in done.stdout


def test_a_fuzz_that_had_no_time_for_what_was_asked_is_no_success():
    line = [*FUZZ, "--inputs", "1000000", "--seconds", "1"]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "1,000,000 inputs were asked for" in done.stdout and "0 findings" in done.stdout


@pytest.mark.parametrize("parse", ["parse_csv", "parse_json", "parse_bin"])
def test_what_is_fuzzed_is_that_nothing_is_written(parse, tmp_path):
    written = tmp_path / "written"
    code = (
        "from tests.system.fuzz import reader\n"
        f"reader.frame_files.{parse} = lambda *_: open({str(written)!r}, 'w')\n"
        f"reader.work(0, 0, 60, float('inf'), open({str(tmp_path / 'progress')!r}, 'w'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and f"opened for writing: {written}" in done.stderr and not written.exists()


def lossy(change):
    """A reader that loses something without a word."""

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
def test_what_is_fuzzed_in_zips_is_that_everything_sound_is_read(case, tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz.archive, "read_session", READERS[case])
    made = (inputs.made(0, number) for number in range(120))
    verdicts = {fuzz.judged(kind, content, tmp_path, {})[0] for kind, content in made if kind == "zip"}
    assert ("finding" in verdicts) == (case != "the reader")
