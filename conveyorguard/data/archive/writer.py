"""Writes simulated sessions as archives in the layout of AI Hub #71802."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import joblib
import numpy as np

from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.data.simulate.generate import simulate
from conveyorguard.data.simulate.kinds import CHANNELS, ENVIRONMENT
from conveyorguard.data.simulate.plan import Plan, plan
from conveyorguard.errors import ConfigError, DataError
from conveyorguard.system.files import replacing
from conveyorguard.system.progress import track


def write(out: Path, schema: Schema, sessions: int, seed: int, archive: str) -> int:
    """Write simulated sessions as archives in the layout of AI Hub #71802.

    Args:
        archive: 'zip' or 'folder'.

    Returns:
        The number of sessions written.

    Raises:
        ConfigError: another `archive`, or a schema without the camera or with channels other than the simulator's, or
            fewer than 1 session.
        DataError: `out` is not empty.
    """
    if archive not in ("zip", "folder"):
        raise ConfigError(f"data.archive={archive}: unknown kind of archive. Set data.archive to zip or folder.")
    if out.exists() and any(out.iterdir()):
        raise DataError(f"{out}: the folder is not empty and is never overwritten. Give an empty or new folder.")
    if schema.thermal is None or tuple(schema.channels) != CHANNELS:
        raise ConfigError(
            "data.schema: archives hold all channels and the camera. Use the schema of conf/data/aihub.yaml."
        )
    # workers are reused, with the working directory that they were started in
    top = out.resolve() / "67.제조현장 이송장치의 열화 예지보전 멀티모달 데이터" / "3.개방데이터" / "1.데이터"
    plans = plan(sessions, seed)
    work = (joblib.delayed(_write_session)(item, top, schema, seed, archive) for item in plans)
    for _ in track(joblib.Parallel(n_jobs=-1, return_as="generator")(work), "simulating", len(plans)):
        pass
    return len(plans)


def _write_session(item: Plan, top: Path, schema: Schema, seed: int, archive: str) -> None:
    part = "Training" if item.name.startswith("T") else "Validation"
    save = _save_zip if archive == "zip" else _save_folder
    data, tags = _files(item, simulate(item, schema, seed), schema)
    save(top / part / "01.원천데이터" / item.name, data)
    save(top / part / "02.라벨링데이터" / (item.name[0] + "L" + item.name[2:]), tags)


def _files(item: Plan, session: Session, schema: Schema) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files of the source and of the label archive, content by name."""
    data, tags = {}, {}
    month_day = item.name[-9:-5]
    manufacturer = "A" if item.kind == "oht" else "B" if int(item.device[3:]) <= 9 else "C"
    assert session.state is not None
    for i, second in enumerate(session.time):
        clock = (item.start + int(second)) % 86400
        hms = f"{clock // 3600:02d}{clock // 60 % 60:02d}{clock % 60:02d}"
        stem = f"{item.device}_{month_day}_{hms}"
        row = ",".join(f"{v:.2f}".rstrip("0").rstrip(".") for v in session.sensors[i])
        data[f"{stem}.csv"] = f"{','.join(CHANNELS)}\n{row}\n".encode()
        frame = np.round(session.thermal[i].astype(np.float64), 2)
        stream = io.BytesIO()
        np.lib.format.write_array(stream, frame, allow_pickle=False)
        data[f"{stem}.bin"] = stream.getvalue()
        hottest = np.unravel_index(frame.argmax(), frame.shape)
        label = {
            "meta_info": [
                {
                    "device_id": item.device,
                    "device_manufacturer": manufacturer,
                    "collection_date": f"{month_day[:2]}-{month_day[2:]}",
                    "collection_time": f"{hms[:2]}:{hms[2:4]}:{hms[4:]}",
                    "duration_time": str(item.seconds),
                    "cumulative_operating_day": "100",
                    "equipment_history": "0",
                    "location": "simulated",
                    "filename": stem,
                    "img-id": f"{stem}.bin",
                }
            ],
            "sensor_data": [
                {
                    name: [
                        {
                            "value": round(float(session.sensors[i, c]), 2),
                            "data_unit": schema.channels[name].unit,
                            "trend": "0",
                        }
                    ]
                    for c, name in enumerate(CHANNELS)
                }
            ],
            "ir_data": [
                {"temp_max": [{"value_TGmx": float(frame.max()), "X_Tmax": int(hottest[1]), "Y_Tmax": int(hottest[0])}]}
            ],
            "annotations": [{"tagging": [{"state": str(int(session.state[i]))}]}],
            "external_data": [
                {
                    name: [{"value": round(float(v), 1)}]
                    for name, v in zip(ENVIRONMENT, session.environment[i], strict=True)
                }
            ],
        }
        tags[f"{stem}.json"] = json.dumps(label, ensure_ascii=False, indent=2).encode()
    return data, tags


def _save_folder(stem: Path, contents: dict[str, bytes]) -> None:
    stem.mkdir(parents=True)
    for name, raw in contents.items():
        (stem / name).write_bytes(raw)


def _save_zip(stem: Path, contents: dict[str, bytes]) -> None:
    """Write a zip whose member names begin with a slash, as in the real archives."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with (
        replacing(stem.with_name(f"{stem.name}.zip")) as aside,
        zipfile.ZipFile(aside, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, raw in contents.items():
            archive.writestr(f"/{name}", raw)
