"""Checks of a run directory against the recordings: split, windows, and what follows from them without a model."""

from __future__ import annotations

import numpy as np

from conveyorguard.checks.files import devices_apart
from conveyorguard.checks.subject import SAME_MODEL, Failed, NotChecked, Subject, difference_of, must_equal, some
from conveyorguard.data.leakage import leaks_of
from conveyorguard.data.ranges import training_ranges
from conveyorguard.data.splits import PARTS
from conveyorguard.evaluation.shortcuts import shortcut_predictions
from conveyorguard.runs.derive import data_facts
from conveyorguard.system.files import read_json
from conveyorguard.training.fit import fitted_rows


def data_are_the_runs(subject: Subject) -> str:
    written, found = subject.run.data_fingerprint, subject.data.store.fingerprint
    if written is None:
        raise NotChecked("stores had another layout when it was made; windows, labels and predictions are compared")
    if written != found:
        raise Failed(
            f"data of fingerprint {written[:12]}", f"{found[:12]}: other recordings, or another version of the reader"
        )
    return f"fingerprint {found[:12]}"


def split_is_of_the_data(subject: Subject) -> str:
    for part, wanted in subject.windows_today.split.sessions.items():
        found = subject.saved_split["sessions"].get(part, [])
        if sorted(wanted) != sorted(found):
            raise Failed(
                f"the {len(wanted)} sessions of {part} that data and config.yaml give",
                f"{len(found)}; {difference_of(set(wanted), set(found), 'so dealt')}",
            )
    return "the sessions of each part are those that data and config.yaml give"


def devices_of_all_parts_are_apart(subject: Subject) -> str:
    frame = subject.data.frame
    return devices_apart(subject, {part: set(frame["device"][frame["part"] == part]) for part in PARTS})


def windows_match(subject: Subject) -> str:
    keys, facts = ["session", "start"], ["end", "device", "kind", "y_true", "seconds_to_end", "seconds_since_onset"]
    frame = subject.data.frame.rename(columns={"label": "y_true"})
    for part, rows in subject.parts.items():
        wanted, found = (
            table.astype({"session": str}).drop_duplicates(keys).set_index(keys)[facts].sort_index()
            for table in (frame[frame["part"] == part], rows)
        )
        if set(wanted.index) != set(found.index):
            raise Failed(
                f"the {len(wanted):,} windows that data and split give for {part}",
                f"{len(found):,}; {difference_of(set(wanted.index), set(found.index), 'of the data')}",
            )
        for name in facts:
            own, other = wanted[name], found[name]
            apart = np.flatnonzero(~((own == other) | (own.isna() & other.isna())))
            if len(apart):
                row = apart[0]
                session, start = (wanted.index.get_level_values(key)[row] for key in keys)
                raise Failed(
                    f"{name} = {own.iloc[row]} of the {part} window of {session} at {start} s",
                    f"{other.iloc[row]} ({len(apart)} windows of {len(own)} differ)",
                )
    outside = frame["part"].isna().sum()
    if outside and subject.settings["split"].get("train_devices") is None:
        raise Failed("every labelled session in a part of the split", f"{outside} windows of sessions in none")
    return "sessions, seconds, devices, kinds and labels of every window are those of the data"


def hours_and_devices(subject: Subject) -> str:
    """What the card says that the model was trained on."""
    data, facts = subject.data, subject.run.provenance
    if "data" not in facts:
        raise NotChecked("provenance.json does not tell them: the run is of an older version")
    found = data_facts(data.store, data.split.sessions)
    must_equal("provenance.json", {"data": found}, {"data": facts["data"]})
    count = int((data.frame["part"] == "train").sum())
    must_equal("provenance.json", {"windows": {"train": count}}, {"windows": {"train": facts["windows"].get("train")}})
    return f"{sum(found['hours']['train'].values()):.2f} h of {len(found['devices']['train'])} devices to train on"


def ranges_are_of_train(subject: Subject) -> str:
    data, path = subject.data, subject.run.folder / "ranges.json"
    if subject.run.is_ensemble and not path.exists():
        raise NotChecked("there is no ranges.json, as in an ensemble's run directory")
    must_equal("ranges.json", training_ranges(data.store, fitted_rows(data, "train")), read_json(path))
    return "least and greatest values are those of the train sessions"


def no_channel_gives_the_state_away(subject: Subject) -> str:
    data = subject.data
    leaks = leaks_of(data.store, data.split.sessions["train"])
    if certain := [leak.message for leak in leaks if leak.certain]:
        raise Failed("channels that measure the device", "; ".join(certain))
    return (
        "; ".join(leak.message for leak in leaks) or "no channel counts down, copies the label or names the recording"
    )


def shortcuts_are_of_the_data(subject: Subject) -> str:
    """They are trees without chance, made again in a moment."""
    saved = subject.run.shortcuts
    if saved is None and subject.run.is_ensemble:
        raise NotChecked("there is no shortcuts.parquet, as in an ensemble's run directory")
    if saved is None:
        raise Failed("shortcuts.parquet, the baselines that the model is held against", "none")
    keys = ["shortcut", "split", "session", "start"]
    first = next(iter(subject.run.schema.channels))  # older runs have its threshold rather than the best channel's
    channel = first if f"{first} threshold" in set(saved["shortcut"]) else None
    again = shortcut_predictions(subject.data, subject.run.wanted_parts, channel)
    values = ["y_true", "y_pred", *(f"p{k}" for k in range(len(subject.run.schema.states)))]
    wanted, found = (table.astype({"session": str}).set_index(keys)[values].sort_index() for table in (again, saved))
    if not wanted.index.equals(found.index):
        raise Failed(
            f"predictions of {some(again['shortcut'].unique())} on the {len(wanted):,} windows of the data",
            f"{len(found):,} of {some(saved['shortcut'].unique())}; "
            f"{difference_of(set(wanted.index), set(found.index), 'of the data')}",
        )
    apart = np.flatnonzero((np.abs(wanted.to_numpy(float) - found.to_numpy(float)) > SAME_MODEL).any(axis=1))
    if len(apart):
        raise Failed(
            f"the predictions that the shortcut '{wanted.index.get_level_values('shortcut')[apart[0]]}' gives on "
            "these data",
            f"others in {len(apart)} of {len(wanted)} rows",
        )
    return f"{again['shortcut'].nunique()} shortcuts, fitted again on the train windows, give them again"
