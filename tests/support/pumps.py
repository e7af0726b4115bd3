"""Recordings of pumps as the Python example of the README names them."""

import numpy as np
import pandas as pd


def write_pumps(folder, count=9):
    """Write recordings of pumps that wear, with the column names of the README's example."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for i in range(count):
        state = np.repeat([0, 1, 2], [100 + 5 * i, 80, 60 - 5 * i])
        pressure, flow = 5 - state + 0.2 * rng.normal(size=240), 20 + 3 * state + rng.normal(size=240)
        labels = np.array(["ok", "worn", "broken"])[state]
        table = pd.DataFrame({"time": np.arange(240), "pressure": pressure, "flow": flow, "state": labels})
        table.to_csv(folder / f"pump{i}.csv", index=False)
