"""Checks of a run directory against the data, without the model: split, windows, and what follows from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from conveyorguard.checks.files import devices_apart
from conveyorguard.checks.subject import SAME_MODEL, Failed, NotChecked, Subject, difference_of, must_equal, some
from conveyorguard.data.leakage import leaks_of
from conveyorguard.data.ranges import training_ranges
from conveyorguard.data.splits import PARTS
from conveyorguard.evaluation.shortcuts import judged_shortcuts
from conveyorguard.runs.derive import data_facts
from conveyorguard.runs.out_of_fold import predicted_by_folds
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import read_json
from conveyorguard.training.fit import fitted_rows


def data_are_unchanged(subject: Subject) -> str:
    """Compare the data's fingerprint with the one recorded in the run."""
    recorded, current = subject.run.data_fingerprint, subject.data.store.fingerprint
    if recorded is None:
        raise NotChecked("an older version wrote the run, with another store layout; windows are compared instead")
    if recorded != current:
        raise Failed(
            f"data with fingerprint {recorded[:12]}",
            f"{current[:12]}: other recordings, or another version of the reader",
        )
    return f"fingerprint {current[:12]}"


def split_follows_from_data(subject: Subject) -> str:
    """Compare the sessions of each part with those that data and config give today."""
    for part, wanted in subject.windows_today.split.sessions.items():
        saved = subject.saved_split["sessions"].get(part, [])
        if sorted(wanted) != sorted(saved):
            raise Failed(
                f"the {len(wanted)} sessions that data and config.yaml give for {part} in split.json",
                f"{len(saved)}; {difference_of(set(wanted), set(saved), f'of {part} today')}",
            )
    return "each part has the sessions that data and config.yaml give"


def no_device_in_two_parts_of_data(subject: Subject) -> str:
    """Check that train, validation and test share no device, unless split is `auto` or `session`.

    Out of fold, validation holds the devices of train and is left out.
    """
    parts = [part for part in PARTS if not (part == "val" and subject.out_of_fold)]
    return devices_apart(subject, {part: set(subject.data.part(part)["device"]) for part in parts})


def validation_is_out_of_fold(subject: Subject) -> str:
    """Check that the predictions of validation are those of the folds' runs, none of which trained on its own fold."""
    if not subject.out_of_fold:
        return "validation has sessions of its own, none of which trains"
    split = subject.run.settings["split"]
    folder = Path(split["runs"])
    if not folder.is_dir():
        raise NotChecked(f"the runs of the folds are not at {folder}")
    for fold in range(split["n_folds"]):
        sessions = SavedRun(folder / f"fold{fold}").saved_split["sessions"]
        if both := sorted(set(sessions["train"]) & set(sessions["val"])):
            raise Failed(f"no session of fold{fold} that it was trained on", some(both))
    columns = [f"p{k}" for k in range(len(subject.run.schema.states))]
    wanted = predicted_by_folds(split, subject.data)
    expected, saved = (
        table.astype({"session": str}).sort_values(["session", "start"])[columns].to_numpy()
        for table in (wanted, subject.parts["val"])
    )
    if not np.array_equal(expected, saved):
        raise Failed("in predictions.parquet the probabilities of the folds' runs for validation", "others")
    return f"{len(wanted):,} windows by {split['n_folds']} runs, none trained on a session that it predicts"


def windows_match_data(subject: Subject) -> str:
    """Compare the windows in predictions.parquet, their times, device, kind and label with those of the data."""
    keys, facts = ["session", "start"], ["end", "device", "kind", "y_true", "seconds_to_end", "seconds_since_onset"]
    for part, rows in subject.parts.items():
        wanted, saved = (
            table.astype({"session": str}).drop_duplicates(keys).set_index(keys)[facts].sort_index()
            for table in (subject.data.judged(part).rename(columns={"label": "y_true"}), rows)
        )
        if set(wanted.index) != set(saved.index):
            raise Failed(
                f"the {len(wanted):,} windows that data and split give for {part} in predictions.parquet",
                f"{len(saved):,}; {difference_of(set(wanted.index), set(saved.index), 'in the data')}",
            )
        for name in facts:
            expected, actual = wanted[name], saved[name]
            different = np.flatnonzero(~((expected == actual) | (expected.isna() & actual.isna())))
            if len(different):
                row = different[0]
                session, start = (wanted.index.get_level_values(key)[row] for key in keys)
                raise Failed(
                    f"{name} = {expected.iloc[row]} for the {part} window of {session} at {start} s",
                    f"{actual.iloc[row]} ({len(different)} windows of {len(expected)} differ)",
                )
    outside = subject.data.frame["part"].isna().sum()
    if outside and subject.settings["split"].get("train_devices") is None:
        raise Failed("every labelled session in a part of the split", f"{outside} windows of sessions in no part")
    return "session, seconds, device, kind and label of every window are those of the data"


def hours_and_devices_match_data(subject: Subject) -> str:
    """Recompute hours, devices and number of train windows in provenance.json, which the card shows."""
    data, facts = subject.data, subject.run.provenance
    if "data" not in facts:
        raise NotChecked("provenance.json holds no hours and devices, because an older version wrote the run")
    current = data_facts(data.store, data.split.sessions)
    must_equal("provenance.json", {"data": current}, {"data": facts["data"]})
    count = len(data.part("train"))
    must_equal("provenance.json", {"windows": {"train": count}}, {"windows": {"train": facts["windows"].get("train")}})
    return f"{sum(current['hours']['train'].values()):.2f} h of {len(current['devices']['train'])} devices in train"


def ranges_are_those_of_train(subject: Subject) -> str:
    """Recompute ranges.json from the train sessions."""
    data, path = subject.data, subject.run.folder / "ranges.json"
    if subject.run.is_ensemble and not path.exists():
        raise NotChecked("the run is an ensemble and has no ranges.json")
    must_equal("ranges.json", training_ranges(data.store, fitted_rows(data, "train")), read_json(path))
    return "range and median of each channel are those of the train sessions"


def no_channel_gives_the_state_away(subject: Subject) -> str:
    """Look for channels that count down to a failure, copy the label or name the session (`data.leakage`)."""
    data = subject.data
    leaks = leaks_of(data.store, data.split.sessions["train"])
    if certain := [leak.message for leak in leaks if leak.certain]:
        raise Failed("channels that measure the device", "; ".join(certain))
    return "; ".join(leak.message for leak in leaks) or "no channel counts down, copies the label or names the session"


def shortcuts_follow_from_data(subject: Subject) -> str:
    """Fit the shortcut baselines again (they are deterministic trees) and compare their predictions."""
    saved = subject.run.shortcuts
    if saved is None and subject.run.is_ensemble:
        raise NotChecked("the run is an ensemble and has no shortcuts.parquet")
    if saved is None:
        raise Failed("shortcuts.parquet, the baselines that the model is compared with", "none")
    keys = ["shortcut", "split", "session", "start"]
    first = next(iter(subject.run.schema.channels))  # older runs have its threshold rather than the best channel's
    channel = first if f"{first} threshold" in set(saved["shortcut"]) else None
    again = judged_shortcuts(subject.data, subject.run.wanted_parts, channel)
    values = ["y_true", "y_pred", *(f"p{k}" for k in range(len(subject.run.schema.states)))]
    wanted, actual = (table.astype({"session": str}).set_index(keys)[values].sort_index() for table in (again, saved))
    if not wanted.index.equals(actual.index):
        raise Failed(
            f"{len(wanted):,} predictions of {some(again['shortcut'].unique())} in shortcuts.parquet",
            f"{len(actual):,} of {some(saved['shortcut'].unique())}; "
            f"{difference_of(set(wanted.index), set(actual.index), 'of the data')}",
        )
    different = np.flatnonzero((np.abs(wanted.to_numpy(float) - actual.to_numpy(float)) > SAME_MODEL).any(axis=1))
    if len(different):
        raise Failed(
            f"in shortcuts.parquet the predictions of '{wanted.index.get_level_values('shortcut')[different[0]]}' on "
            "these data",
            f"other values in {len(different)} of {len(wanted)} rows",
        )
    return f"{again['shortcut'].nunique()} shortcuts, fitted again on the train windows, give the same predictions"
