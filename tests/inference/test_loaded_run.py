"""A run applied to a data set: predictions equal those from a store, oddities are reported, memory is bounded."""

import functools
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.config.saved import plain_values
from conveyorguard.data.archive import reader as archive
from conveyorguard.data.archive.writer import write
from conveyorguard.data.simulate import generate as simulate
from conveyorguard.data.stream import lenient, stream
from conveyorguard.errors import DataError
from conveyorguard.inference.data_schema import schema_for
from conveyorguard.inference.input_check import refuse_other
from conveyorguard.runs.data import load_windows
from tests.support.places import ROOT


@pytest.fixture(scope="module")
def sensor_run(compose, tmp_path_factory):
    """Trees on sensors alone: quick, and in need of filled-in values."""
    from conveyorguard.commands.train import train

    folder = tmp_path_factory.mktemp("sensor") / "run"
    train(compose("modality=sensor", "model=lightgbm", "model.n_estimators=20"), folder, [])
    return folder


@pytest.fixture(scope="module")
def archives(compose, tmp_path_factory):
    """Four sessions as unpacked archives."""
    folder = tmp_path_factory.mktemp("archives") / "set"
    write(folder, load_windows(compose()).store.schema, 4, 9, "folder")
    return folder


def sources(root):
    return sorted(path for path in root.rglob("?S_*") if path.is_dir())


def predicted(run, root, tmp_path, *overrides, expect=0):
    out = tmp_path / "out"
    assert main(["predict", str(run), f"data.root={root}", f"out={out}", *overrides]) == expect
    if expect:
        return out
    recordings = pd.read_csv(out / "recordings.csv", keep_default_na=False).set_index("session")
    return pd.read_parquet(out / "predictions.parquet"), pd.read_csv(out / "alarms.csv"), recordings, out


@pytest.mark.parametrize("name", ["finished_run", pytest.param("sensor_run", marks=pytest.mark.slow)])
def test_predict_command_gives_the_numbers_of_a_store(name, compose, tmp_path, request):
    run = request.getfixturevalue(name)
    loaded, data = load_run(run), load_windows(compose())
    expected = loaded.predict_store(data.store)
    out = tmp_path / "out"
    assert main(["predict", str(run), f"out={out}"]) == 0
    for kind, table in (("predictions", expected.windows), ("seconds", expected.seconds)):
        streamed = pd.read_parquet(out / f"{kind}.parquet")
        key = ["session", "start" if kind == "predictions" else "time"]
        streamed, table = (t.sort_values(key).reset_index(drop=True) for t in (streamed, table))
        assert list(streamed) == list(table) and (streamed[key] == table[key]).all().all()
        columns = [c for c in table if c[0] in "cp" and c[1:].isdigit()]
        assert np.allclose(streamed[columns], table[columns], atol=1e-5, equal_nan=True)
    alarms = pd.read_csv(out / "alarms.csv")
    stamps = ["session", "begin", "end"]
    assert alarms[stamps].to_dict("records") == expected.alarms[stamps].to_dict("records")
    assert len(alarms) or name == "finished_run"  # after two epochs a network may raise no alarm; trees do


def test_run_trained_on_simulated_data_predicts_archives(finished_run, archives, tmp_path, capsys):
    windows, _, recordings, out = predicted(finished_run, archives, tmp_path)
    assert "read as archives of AI Hub" in capsys.readouterr().out
    assert set(windows["session"]) == set(recordings.index) == {path.name for path in sources(archives)}
    assert (windows["y_true"] >= 0).all() and "Against their labels" in (out / "predictions.html").read_text()


def copy_without(archives, tmp_path, change):
    """Copy the archives without labels, each file as `change(session number, path)` returns it; None leaves it out."""
    for i, folder in enumerate(sources(archives)):
        target = tmp_path / "new" / folder.name
        target.mkdir(parents=True)
        for path in sorted(folder.iterdir()):
            content = change(i, path)
            if content is not None:
                (target / path.name).write_bytes(content)
    return tmp_path / "new"


def without_columns(content, names):
    header, row = (line.split(",") for line in content.decode().split())
    keep = [i for i, name in enumerate(header) if name not in names]
    return "\n".join(",".join(line[i] for i in keep) for line in (header, row)).encode()


def test_odd_session_is_reported_and_the_others_are_predicted(sensor_run, archives, tmp_path):
    def change(i, path):
        content = path.read_bytes()
        if path.suffix == ".bin":
            return None  # the run uses sensors alone and needs no camera
        if i == 0:
            return without_columns(content, ["CT3", "PM10"])
        if i == 1:
            return without_columns(content, ["CT1", "CT2", "CT3", "CT4", "NTC"])
        if i == 2:  # a sensor that stops changing after a hundred seconds
            return (
                content
                if path.name < sorted(p.name for p in path.parent.iterdir())[300]
                else (
                    content.decode().split()[0] + "\n" + ",".join(["33.5", *content.decode().split()[1].split(",")[1:]])
                ).encode()
            )
        return content

    new = copy_without(archives, tmp_path, change)
    windows, _, recordings, _ = predicted(sensor_run, new, tmp_path)
    first, second, third, fourth = (recordings.loc[path.name] for path in sources(archives))
    assert "PM10, CT3, ex_temperature, ex_humidity, ex_illuminance are missing; the median" in first["unlike_training"]
    assert first["windows"] > 20 and "found no column" in second["noticed"] and second["windows"] == 0
    assert "NTC stays at 33.5 for" in third["unlike_training"] and "a dead sensor?" in third["unlike_training"]
    assert fourth["unlike_training"].count(",") == 2 or "CT3" not in fourth["unlike_training"]
    assert set(windows["session"]) == {path.name for path in sources(archives)} - {second.name}
    assert (windows["y_true"] == -1).all()


def test_missing_channel_is_filled_with_the_training_median(sensor_run, archives, tmp_path):
    """Trees would read a missing value as zero, an impossible temperature."""
    loaded = load_run(sensor_run)
    middle = loaded.ranges["NTC"]["middle"]

    def filled_in(i, path):
        if path.suffix == ".bin":
            return None
        header, row = path.read_text().split()
        return f"{header}\n{middle:.9g},{row.split(',', 1)[1]}\n".encode()

    def left_out(i, path):
        return None if path.suffix == ".bin" else without_columns(path.read_bytes(), ["NTC"])

    tables = [
        predicted(sensor_run, copy_without(archives, tmp_path / str(k), change), tmp_path / str(k))[0]
        for k, change in enumerate((filled_in, left_out))
    ]
    assert np.allclose(tables[0][["p0", "p3"]], tables[1][["p0", "p3"]], atol=1e-6)


def test_short_session_is_named_and_no_readable_session_is_an_error(sensor_run, archives, tmp_path, capsys):
    first = sources(archives)[0].name

    def short(i, path):
        frames = sorted({p.stem for p in path.parent.iterdir()})
        return (
            path.read_bytes()
            if path.suffix == ".csv" and (path.parent.name != first or path.stem in frames[:20])
            else None
        )

    new = copy_without(archives, tmp_path, short)
    _, _, recordings, _ = predicted(sensor_run, new, tmp_path)
    assert "no 30 s without a gap" in recordings.loc[first, "noticed"]
    for path in new.rglob("*.csv"):
        path.write_text("nothing")
    out = predicted(sensor_run, new, tmp_path / "none", expect=2)
    assert "no session can be predicted" in capsys.readouterr().err and not list(out.glob("*"))


def test_data_in_other_units_are_refused(sensor_run, archives, tmp_path, capsys):
    predicted(sensor_run, archives, tmp_path, "data=aihub", "data.schema.channels.NTC.unit=degF", expect=2)
    assert "NTC in degF, not degC" in capsys.readouterr().err


def test_data_with_another_period_are_refused(sensor_run, tmp_path):
    loaded = load_run(sensor_run)
    config = loaded.run.config.copy()
    config.data.reader = {"_target_": "conveyorguard.data.table.sessions", "period": 2}
    with pytest.raises(DataError, match=r"a row every 1 s.*set data.reader.period=1"):
        schema_for(loaded, plain_values(config)["data"])


def test_strict_prediction_stops_at_the_first_defect(sensor_run, archives, tmp_path, capsys):
    new = copy_without(archives, tmp_path, lambda i, p: b"x" if i == 2 and p.name.endswith("0.csv") else p.read_bytes())
    predicted(sensor_run, new, tmp_path, "data.strict=true", expect=2)
    assert sources(archives)[2].name in capsys.readouterr().err


def test_stream_reads_only_a_few_sessions_ahead(schema):
    """The reader is asked for a session only when an earlier one has been taken."""
    asked = []

    def counted(root, schema):
        for item in simulate.sessions(root, schema, 30, 0):
            yield item.__class__(item.name, (), functools.partial(_note, asked, item))

    plain = schema.__class__.from_config({**schema.to_dict(), "thermal": None})
    count, recordings = stream(counted, plain, None, jobs=1)
    for taken in range(6):
        next(recordings)
        assert len(asked) <= taken + 3
    assert count == 30


def _note(asked, item):
    asked.append(item.name)
    return item.read()


def test_lenient_sets_incomplete_only_where_the_reader_takes_it():
    assert lenient(archive.sessions).keywords == {"incomplete": True}
    assert lenient(simulate.sessions) is simulate.sessions


def test_unused_inputs_of_the_data_may_differ(sensor_run, archives, tmp_path):
    """A run without the environment accepts data with another environment."""
    run = tmp_path / "run"
    subprocess.run(["cp", "-r", str(sensor_run), str(run)], check=True)
    loaded = load_run(run)
    assert "environment" in loaded.inputs
    other = loaded.schema.__class__.from_config({**loaded.schema.to_dict(), "environment": {"air": "degC"}})
    with pytest.raises(DataError, match="environment ex_temperature"):
        refuse_other(loaded.schema, other, loaded.inputs)
    refuse_other(loaded.schema, other, ["sensors"])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_sessions(finished_run, tmp_path):
    """Peak memory of the command and of its readers, 12 sessions against 48."""
    peaks = {}
    for count in (12, 48):
        code = (
            "import json, re\nfrom pathlib import Path\nimport psutil\nfrom conveyorguard.cli import main\n"
            f"assert main(['predict', {str(finished_run)!r}, 'data.sessions={count}', "
            f"'out={tmp_path / str(count)}']) == 0\n"
            # VmHWM is of the process itself; getrusage would inherit the peak of the test's process
            "def peak(pid):\n    return int(re.search(r'VmHWM:\\s+(\\d+)', "
            "Path(f'/proc/{pid}/status').read_text())[1])\n"
            "readers = psutil.Process().children(recursive=True)\n"
            "print(json.dumps([peak('self'), max(peak(reader.pid) for reader in readers)]))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=900,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
        peaks[count] = json.loads(done.stdout.splitlines()[-1])
    print("peak memory, KiB (command, its readers):", peaks)
    assert len(pd.read_csv(tmp_path / "48" / "recordings.csv")) == 48
    # the frames of a session are 23 MB: a few may be in memory at once, 36 more would be 0.8 GB
    assert all(many - few < 75_000 for few, many in zip(peaks[12], peaks[48], strict=True))
