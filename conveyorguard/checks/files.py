"""Checks of a run directory that need nothing but its files: split, predictions, and what follows from them."""

from __future__ import annotations

import numpy as np

from conveyorguard.checks.subject import SAME_MODEL, Failed, NotChecked, Subject, difference_of, must_equal, some
from conveyorguard.data.splits import Split
from conveyorguard.runs.derive import Derived, derive
from conveyorguard.runs.provenance import config_hash
from conveyorguard.system.files import read_json


def config_is_the_runs(subject: Subject) -> str:
    written, now = subject.run.provenance.get("config"), config_hash(subject.run.config)
    if written is None:
        raise NotChecked("provenance.json holds no digest of the config: the run is of an older version")
    if written != now:
        raise Failed(f"a config.yaml of digest {written}", f"{now}: it was edited after the run")
    facts = subject.run.provenance
    store = str(facts["store"].get("name")).rpartition("-")[0]  # a store is called as its data set and by a digest
    must_equal(
        "provenance.json",
        {"seed": subject.run.seed, "data set of the store": subject.run.settings["data"]["name"]},
        {"seed": facts.get("seed"), "data set of the store": store},
    )
    return f"digest {now}"


def sessions_are_apart(subject: Subject) -> str:
    sessions = subject.saved_split["sessions"]
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


def split_is_the_recorded_one(subject: Subject) -> str:
    saved = subject.saved_split
    must_equal("split.json", {"settings": subject.run.settings["split"]}, {"settings": saved["settings"]})
    digest = Split(saved["settings"], saved["sessions"], saved["note"]).hash
    digests = {"split.json": saved.get("hash"), "provenance.json": subject.run.provenance.get("split")}
    for name, written in digests.items():
        if written != digest:
            raise Failed(f"the digest of the sessions in split.json, {digest}, in {name}", str(written))
    return f"digest {digest}"


def devices_are_apart(subject: Subject) -> str:
    devices = subject.run.predictions[["split", "session", "device"]].drop_duplicates()
    return devices_apart(subject, {str(part): set(rows["device"]) for part, rows in devices.groupby("split")})


def devices_apart(subject: Subject, devices: dict[str, set[str]]) -> str:
    shared = {device for a in devices for b in devices if a < b for device in devices[a] & devices[b]}
    name = subject.saved_split["settings"]["name"]
    counts = ", ".join(f"{part} {len(names)}" for part, names in devices.items())
    message = f"{counts} devices, {len(shared)} in several parts"
    if name in ("auto", "session"):
        return f"{message}: split={name} holds out sessions, not devices"
    if shared:
        raise Failed(f"each device in one part, as split={name} means it", f"{some(sorted(shared))} in several parts")
    return message


def predictions_are_of_the_split(subject: Subject) -> str:
    table = subject.run.predictions
    if set(subject.parts) != set(subject.run.wanted_parts):
        raise Failed(
            f"windows of {' and '.join(subject.run.wanted_parts)}, which the run was to be evaluated on",
            f"those of {' and '.join(subject.parts)}",
        )
    twice = table[table.duplicated(["session", "start"])]
    if len(twice):
        raise Failed(
            "a row a window",
            f"{len(twice)} windows twice, first {twice['session'].iloc[0]} at {twice['start'].iloc[0]} s",
        )
    for part, rows in subject.parts.items():
        wanted, found = set(subject.saved_split["sessions"].get(part, [])), set(rows["session"])
        if wanted != found:
            raise Failed(
                f"the {len(wanted)} sessions of {part} in predictions.parquet",
                f"{len(found)}; {difference_of(wanted, found, 'in the split')}",
            )
    return ", ".join(f"{part} {len(rows):,}" for part, rows in subject.parts.items()) + " windows"


def counts_are_of_the_split(subject: Subject) -> str:
    """What card and page say of the sizes of the parts."""
    facts = subject.run.provenance
    sessions = {part: len(names) for part, names in subject.saved_split["sessions"].items()}
    must_equal("provenance.json", {"sessions": sessions}, {"sessions": facts.get("sessions")})
    windows = {part: len(rows) for part, rows in subject.parts.items()}
    known = facts.get("windows", {})
    must_equal("provenance.json", {"windows": windows}, {"windows": {part: known.get(part) for part in windows}})
    return ", ".join(f"{part} {count} sessions" for part, count in sessions.items())


def probabilities_are_probabilities(subject: Subject) -> str:
    table = subject.run.predictions
    for prefix in ("p", "c"):
        columns = [f"{prefix}{k}" for k in range(len(subject.run.schema.states))]
        if missing := [name for name in columns if name not in table]:
            raise Failed(f"columns {', '.join(columns)}", f"no {', '.join(missing)}")
        p = table[columns].to_numpy(np.float64)
        odd = np.flatnonzero(~((p >= 0) & (p <= 1)).all(axis=1) | (np.abs(p.sum(axis=1) - 1) > 1e-4))
        if len(odd):
            raise Failed(
                f"{prefix}0.. between 0 and 1 with sum 1",
                f"{len(odd)} rows that are not, first row {odd[0]}: {p[odd[0]]}",
            )
        if prefix == "p":
            rows, guess = np.arange(len(p)), table["y_pred"].to_numpy()
            wrong = np.flatnonzero(p[rows, guess] < p.max(axis=1))
            if len(wrong):
                raise Failed(
                    "y_pred the state of the largest probability", f"another in {len(wrong)} rows, first row {wrong[0]}"
                )
    return f"{len(table):,} rows"


def metrics_follow(subject: Subject) -> str:
    must_equal("metrics.json", _derived(subject).metrics, subject.run.metrics)
    return f"{len(subject.run.metrics)} parts, all figures computed again from predictions.parquet"


def calibration_and_alarms_follow(subject: Subject) -> str:
    derived = _derived(subject)
    for name, expected in (("calibration", derived.calibration), ("alarms", derived.alarms)):
        must_equal(f"{name}.json", expected, read_json(subject.run.folder / f"{name}.json"))
    columns = [f"c{k}" for k in range(len(subject.run.schema.states))]
    apart = np.abs(derived.predictions[columns].to_numpy() - subject.run.predictions[columns].to_numpy()).max()
    if apart > SAME_MODEL:
        raise Failed("calibrated probabilities that follow from p0..", f"c0.. that differ by up to {apart:.2g}")
    return f"temperature {derived.calibration['temperature']:.3f}, operating point {derived.alarms['operating_point']}"


def _derived(subject: Subject) -> Derived:
    calibrated = {f"c{k}" for k in range(len(subject.run.schema.states))}
    tables = [rows.drop(columns=list(calibrated & set(rows))) for rows in subject.parts.values()]
    if "val" not in subject.parts:
        raise Failed("validation windows in predictions.parquet", f"parts {', '.join(subject.parts)}")
    return derive(tables, subject.run.schema, subject.run.window.stride)
