"""Drafts of large files: some rows are looked at, values of states are counted in all."""

import numpy as np
import pandas as pd

from conveyorguard.data.draft import sample
from conveyorguard.data.draft.draft import draft
from conveyorguard.data.table import blocks


def test_state_in_few_rows_of_a_large_file_is_in_the_draft(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4000)
    monkeypatch.setattr(blocks, "HEAD", 4000)
    monkeypatch.setattr(sample, "KEPT", 20_000)
    rows = 10_000
    state = np.full(rows, "normal", dtype=object)
    state[4100:4105] = "broken"
    state[6000:] = "recovering"
    frame = pd.DataFrame({"time": np.arange(rows), "flow": np.arange(rows) % 97 + 0.5, "machine_status": state})
    (tmp_path / "set").mkdir()
    frame.to_csv(tmp_path / "set" / "pump.csv", index=False)
    drafted = draft(tmp_path / "set", "pump")
    assert "'machine_status' holds normal (5,995), broken (5), recovering (4,000)" in drafted.text
    (looked,) = (sentence for sentence in drafted.odd if "rows were looked at" in sentence)
    assert f"of {rows:,} rows" in looked and int(looked.split(" ")[0].replace(",", "")) < rows / 4
