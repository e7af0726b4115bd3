"""Checks that need only the files of a run: split, predictions, and what follows from them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from conveyorguard.checks.subject import SAME_MODEL, Failed, NotChecked, Subject, difference_of, must_equal, some
from conveyorguard.data.splits import Split
from conveyorguard.metrics.alarms import OperatingPoint
from conveyorguard.runs.derive import Derived, derive
from conveyorguard.runs.provenance import config_hash
from conveyorguard.system.files import read_json


def config_is_unchanged(subject: Subject) -> str:
    """Check config.yaml against its hash in provenance.json, and the seed and data set recorded there."""
    written, now = subject.run.provenance.get("config"), config_hash(subject.run.config)
    if written is None:
        raise NotChecked("provenance.json holds no hash of config.yaml, because an older version wrote the run")
    if written != now:
        raise Failed(f"config.yaml with hash {written}", f"{now}: it was edited after the run")
    facts = subject.run.provenance
    store = str(facts["store"].get("name")).rpartition("-")[0]  # a store is named DATASET-HASH
    must_equal(
        "provenance.json",
        {"seed": subject.run.seed, "data set of the store": subject.run.settings["data"]["name"]},
        {"seed": facts.get("seed"), "data set of the store": store},
    )
    return f"hash {now}"


def no_session_in_two_parts(subject: Subject) -> str:
    """Check that split.json puts each session into one part; out of fold, validation is that of train by design."""
    sessions = dict(subject.saved_split["sessions"])
    validation = sessions.pop("val") if subject.out_of_fold else sessions["train"]
    if validation != sessions["train"]:
        raise Failed("the sessions of train as validation, which is out of fold", "others")
    owners: dict[str, list[str]] = {}
    for part, names in sessions.items():
        for name in names:
            owners.setdefault(name, []).append(part)
    twice = {name: parts for name, parts in owners.items() if len(parts) > 1}
    if twice:
        raise Failed(
            "each session in one part of the split", some(f"{n} in {' and '.join(p)}" for n, p in twice.items())
        )
    return ", ".join(f"{part} {len(names)}" for part, names in sessions.items()) + " sessions, none in two parts"


def split_matches_record(subject: Subject) -> str:
    """Check split.json against config.yaml and against its hash, here and in provenance.json."""
    saved = subject.saved_split
    must_equal("split.json", {"settings": subject.run.settings["split"]}, {"settings": saved["settings"]})
    split_hash = Split(saved["settings"], saved["sessions"], saved["note"]).hash
    recorded = {"split.json": saved.get("hash"), "provenance.json": subject.run.provenance.get("split")}
    for name, written in recorded.items():
        if written != split_hash:
            raise Failed(f"hash {split_hash} of the sessions in split.json, in {name}", str(written))
    return f"hash {split_hash}"


def no_device_in_two_parts(subject: Subject) -> str:
    """Check that the evaluated parts share no device, unless the split is by session."""
    devices = subject.run.predictions[["split", "session", "device"]].drop_duplicates()
    return devices_apart(subject, {str(part): set(rows["device"]) for part, rows in devices.groupby("split")})


def devices_apart(subject: Subject, devices: dict[str, set[str]]) -> str:
    """Check that parts share no device, unless split is `auto` or `session`.

    Args:
        subject: the run.
        devices: the devices of each part.
    """
    shared = {device for a in devices for b in devices if a < b for device in devices[a] & devices[b]}
    name = subject.saved_split["settings"]["name"]
    counts = ", ".join(f"{part} {len(names)}" for part, names in devices.items())
    message = f"{counts} devices, {len(shared)} in several parts"
    if name in ("auto", "session"):
        return f"{message}; split={name} separates sessions, not devices"
    if shared:
        raise Failed(f"each device in one part, because split={name}", f"{some(sorted(shared))} in several parts")
    return message


def predictions_cover_split(subject: Subject) -> str:
    """Check that predictions.parquet has the parts set in config.yaml, all their sessions, and each window once."""
    table = subject.run.predictions
    if set(subject.parts) != set(subject.run.wanted_parts):
        raise Failed(
            f"windows of {' and '.join(subject.run.wanted_parts)} in predictions.parquet, as config.yaml sets",
            f"windows of {' and '.join(subject.parts)}",
        )
    twice = table[table.duplicated(["session", "start"])]
    if len(twice):
        raise Failed(
            "one row per window in predictions.parquet",
            f"{len(twice)} rows too many, the first for {twice['session'].iloc[0]} at {twice['start'].iloc[0]} s",
        )
    for part, rows in subject.parts.items():
        wanted, actual = set(subject.saved_split["sessions"].get(part, [])), set(rows["session"])
        if wanted != actual:
            raise Failed(
                f"the {len(wanted)} sessions of {part} in predictions.parquet",
                f"{len(actual)}; {difference_of(wanted, actual, 'in the split')}",
            )
    return ", ".join(f"{part} {len(rows):,}" for part, rows in subject.parts.items()) + " windows"


def counts_match_split(subject: Subject) -> str:
    """Check the numbers of sessions and windows in provenance.json, which card and page show."""
    facts = subject.run.provenance
    sessions = {part: len(names) for part, names in subject.saved_split["sessions"].items()}
    must_equal("provenance.json", {"sessions": sessions}, {"sessions": facts.get("sessions")})
    windows = {part: len(rows) for part, rows in subject.parts.items()}
    recorded = facts.get("windows", {})
    must_equal("provenance.json", {"windows": windows}, {"windows": {part: recorded.get(part) for part in windows}})
    return ", ".join(f"{part} {count} sessions" for part, count in sessions.items())


def probabilities_are_valid(subject: Subject) -> str:
    """Check that probabilities are in [0, 1] and sum to 1, and that y_pred is the most probable state."""
    table = subject.run.predictions
    for prefix in ("p", "c"):
        columns = [f"{prefix}{k}" for k in range(len(subject.run.schema.states))]
        if missing := [name for name in columns if name not in table]:
            raise Failed(f"columns {', '.join(columns)} in predictions.parquet", f"no {', '.join(missing)}")
        p = table[columns].to_numpy(np.float64)
        odd = np.flatnonzero(~((p >= 0) & (p <= 1)).all(axis=1) | (np.abs(p.sum(axis=1) - 1) > 1e-4))
        if len(odd):
            raise Failed(
                f"{prefix}0.. in [0, 1] with sum 1 in predictions.parquet",
                f"{len(odd)} other rows, the first is row {odd[0]}: {p[odd[0]]}",
            )
        if prefix == "p":
            rows, predicted = np.arange(len(p)), table["y_pred"].to_numpy()
            wrong = np.flatnonzero(p[rows, predicted] < p.max(axis=1))
            if len(wrong):
                raise Failed(
                    "y_pred to be the most probable state in predictions.parquet",
                    f"another in {len(wrong)} rows, the first is row {wrong[0]}",
                )
    return f"{len(table):,} rows"


def metrics_follow_from_predictions(subject: Subject) -> str:
    """Recompute metrics.json from predictions.parquet."""
    expected, saved = _derived(subject).metrics, read_json(subject.run.folder / "metrics.json")
    if not _has_deployed_answer(subject):
        del expected["now"]
    must_equal("metrics.json", expected, saved)
    return f"{len(subject.run.metrics)} parts, all figures recomputed from predictions.parquet"


def calibration_and_alarms_follow_from_predictions(subject: Subject) -> str:
    """Recompute calibration.json, memory.json, alarms.json and c0.. from p0.. in predictions.parquet."""
    saved, record = read_json(subject.run.folder / "alarms.json"), subject.run.alarms
    earlier = record is not None and record.choice is None and "alarms" not in subject.run.settings
    point = record.operating_point if record and earlier else None
    derived = _derived(subject, OperatingPoint(point.on, point.off) if point else None)
    alarms = derived.alarms
    if earlier:
        alarms, saved = _as_earlier(alarms, saved), _as_earlier(saved, saved)
    must_equal("alarms.json", alarms, saved)
    records = {"calibration": derived.calibration} | ({"memory": derived.memory} if derived.memory else {})
    for name, expected in records.items():
        must_equal(f"{name}.json", expected, read_json(subject.run.folder / f"{name}.json"))
    columns = [f"c{k}" for k in range(len(subject.run.schema.states))]
    apart = np.abs(derived.predictions[columns].to_numpy() - subject.run.predictions[columns].to_numpy()).max()
    if apart > SAME_MODEL:
        raise Failed("c0.. in predictions.parquet to follow from p0..", f"values that differ by up to {apart:.2g}")
    return f"temperature {derived.calibration['temperature']:.3f}, operating point {derived.alarms['operating_point']}"


def _as_earlier(alarms: dict[str, Any], saved: dict[str, Any]) -> dict[str, Any]:
    """Return what can be compared of an alarms.json with one of an earlier version.

    That is what the earlier file holds, without the delays, which counted from the first worn state then, and without
    intervals, whose rule was another.

    Args:
        alarms: Content to reduce.
        saved: Content of the earlier file.
    """
    reduced = {key: alarms.get(key) for key in saved if key != "parts"}
    reduced["parts"] = {
        part: {
            **{
                key: alarms["parts"][part].get(key)
                for key in figures
                if key not in ("delay_seconds", "sessions") and not key.endswith("_interval")
            },
            "sessions": [
                {key: value for key, value in row.items() if key != "delay"}
                for row in alarms["parts"][part]["sessions"]
            ],
        }
        for part, figures in saved["parts"].items()
        if part in alarms["parts"]
    }
    return reduced


def _derived(subject: Subject, point: OperatingPoint | None = None) -> Derived:
    """Recompute what follows from the predictions as trained.

    Args:
        subject: The run.
        point: Operating point of an earlier version, which is evaluated rather than chosen.
    """
    calibrated = {f"c{k}" for k in range(len(subject.run.schema.states))}
    tables = [rows.drop(columns=list(calibrated & set(rows))) for rows in subject.parts.values()]
    if "val" not in subject.parts:
        raise Failed("validation windows in predictions.parquet", f"parts {', '.join(subject.parts)}")
    window = subject.run.window
    if not _has_deployed_answer(subject):
        window = replace(window, label="majority")  # no memory was tried then
    return derive(tables, subject.run.schema, window, subject.run.alarm_settings, point)


def _has_deployed_answer(subject: Subject) -> bool:
    """Return whether the run's version evaluated the deployed answer and tried a memory."""
    return "eval_stride" in subject.run.settings["window"]
