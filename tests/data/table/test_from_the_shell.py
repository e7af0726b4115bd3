"""Tables as a user meets them in the shell: from a folder of files to a page and alarms."""

import os
import shlex
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from tests.data.table.plant import lines_of, write_plant
from tests.support.places import ROOT


def shell(line, cwd):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "CONVEYORGUARD_CACHE": str(cwd / "cache")}
    done = subprocess.run(
        [sys.executable, "-m", "conveyorguard", *shlex.split(line)],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.mark.slow
def test_from_a_folder_of_csv_to_a_page_and_alarms(tmp_path):
    """Five channels, a camera and three states, by three commands in an empty folder, in under ten minutes."""
    camera = (240, 320)
    began = time.monotonic()
    write_plant(tmp_path / "recordings", camera=camera)
    written, _ = shell("schema recordings out=conf/data/plant.yaml", tmp_path)
    assert written.splitlines()[-2] == "Look at it, then: python -m conveyorguard train --config-dir conf data=plant"
    assert len(lines_of((tmp_path / "conf" / "data" / "plant.yaml").read_text(encoding="utf-8"))) <= 20
    printed, messages = shell("train --config-dir conf data=plant threads=1", tmp_path)
    run = tmp_path / printed.splitlines()[-1]
    assert "12 sessions" in messages
    predictions = pd.read_parquet(run / "predictions.parquet")
    test = predictions[predictions["split"] == "test"]
    assert (
        {"p0", "p1", "p2"} <= {*test} and "p3" not in test and set(test["device"]) <= {f"press{i}" for i in range(1, 5)}
    )
    assert (test["y_true"] == test["y_pred"]).mean() > 0.7
    assert "oil_temp" in (run / "report.html").read_text(encoding="utf-8") and (run / "MODEL_CARD.md").exists()

    new = tmp_path / "new"
    write_plant(new, sessions=6, camera=camera, first=50)
    for path in sorted(new.glob("*.csv")):  # as they come from a machine: nobody has labelled them
        table = pd.read_csv(path, sep=";", decimal=",").drop(columns="condition")
        if path.stem.startswith("press1"):
            table = table.drop(columns="flow")
        if path.stem.startswith("press2"):
            table["rpm"] = 1450.0
        table.to_csv(path, index=False, sep=";", decimal=",")
    printed, _ = shell(f"predict {shlex.quote(str(run))} data.root=new out=predicted", tmp_path)
    out = tmp_path / "predicted"
    assert printed.splitlines()[-1] == "predicted/predictions.html"
    recordings = pd.read_csv(out / "recordings.csv", keep_default_na=False).set_index("session")
    alarms = pd.read_csv(out / "alarms.csv")
    assert len(recordings) == 6 and set(recordings["worst_state"]) == {"failing"}
    assert len(set(alarms["session"])) >= 4 and (alarms["begin"] >= 29).all()
    for name, message in recordings["unlike_training"].items():
        assert ("flow is missing" in message) == name.startswith("press1"), (name, message)
        assert ("rpm stays at 1450" in message) == name.startswith("press2"), (name, message)
    page = (out / "predictions.html").read_text(encoding="utf-8")
    assert all(name in page for name in recordings.index) and "thermal frames up to the alarm" in page
    took = time.monotonic() - began
    print(f"csv to page and alarms in {took:.0f} s")
    assert took < 600


@pytest.mark.slow
def test_pictures_one_a_second_from_the_shell(tmp_path):
    """48 x 64 pixels, 8 bits, half a degree a step; trees, on devices never trained on."""
    write_plant(tmp_path / "recordings", camera=(48, 64))
    for path in sorted((tmp_path / "recordings" / "thermal").glob("*.npy")):
        folder = path.with_suffix("")
        folder.mkdir()
        for second, frame in enumerate(np.load(path)):
            Image.fromarray(np.clip(frame * 2, 0, 255).astype(np.uint8)).save(folder / f"{second}.png")
        path.unlink()
    shell("schema recordings out=conf/data/plant.yaml", tmp_path)
    plant = "--config-dir conf data=plant data.reader.thermal_scale=0.5"
    printed, _ = shell(f"train {plant} split=kfold split.n_folds=4 model=lightgbm", tmp_path)
    predictions = pd.read_parquet(tmp_path / printed.splitlines()[-1] / "predictions.parquet").query("split == 'test'")
    assert (predictions["y_true"] == predictions["y_pred"]).mean() > 0.7 and predictions["device"].nunique() == 1
