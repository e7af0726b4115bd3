"""A plant whose logger writes a row each ten minutes with dates, and a run trained on its files."""

import numpy as np
import pandas as pd
import pytest

from conveyorguard.commands.train import train
from conveyorguard.config.compose import compose_config

PERIOD = 600  # s
YAML = """\
defaults: [table, _self_]
name: plant
root: {root}
reader: {{period: 10min, time_zone: Europe/Berlin, device_pattern: "^(.+)_"}}
schema:
  columns: {{time: time, state: state}}
  channels: {{pressure: bar, flow: l/min}}
  states: [{{name: ok}}, {{name: worn}}, {{name: broken}}]
"""


def plant_table(number, state=True, rows=150):
    """Return a recording that wears from ok to broken, with dates of Berlin around the end of summer time."""
    rng = np.random.default_rng(number)
    states = np.repeat([0, 1, 2], [rows // 2, rows // 3, rows - rows // 2 - rows // 3])
    times = pd.date_range("2024-10-26 12:00", periods=rows, freq="10min", tz="Europe/Berlin") + pd.Timedelta(
        days=number
    )
    table = pd.DataFrame(
        {
            "time": times.strftime("%Y-%m-%d %H:%M:%S%z"),
            "pressure": (5 - states + 0.2 * rng.normal(size=rows)).round(4),
            "flow": (20 + 3 * states + rng.normal(size=rows)).round(4),
        }
    )
    return table.assign(state=np.array(["ok", "worn", "broken"])[states]) if state else table


def write_plant(folder, numbers):
    """Write recordings as csv files, two of a device."""
    folder.mkdir(exist_ok=True)
    for number in numbers:
        plant_table(number).to_csv(folder / f"pump{number // 2}_{number}.csv", index=False)


@pytest.fixture(scope="module")
def plant(cache, tmp_path_factory):
    """Write the recordings and the yaml of a plant, train on them; return the run directory and the yaml's folder."""
    place = tmp_path_factory.mktemp("plant")
    write_plant(place / "recordings", range(16))
    (place / "conf" / "data").mkdir(parents=True)
    (place / "conf" / "data" / "plant.yaml").write_text(YAML.format(root=place / "recordings"))
    words = ["--config-dir", str(place / "conf"), "data=plant", "model=lightgbm", "model.n_estimators=10"]
    train(compose_config([*words, f"paths.cache={cache}"]), place / "run", words[2:])
    return place / "run", place / "conf"
