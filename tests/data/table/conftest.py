"""A table, written and read."""

import pandas as pd
import pytest

from conveyorguard.data.table import reader as table
from tests.data.table.plant import schema_of


@pytest.fixture
def read(tmp_path):
    """The one recording of a folder with the given table in it."""

    def make(content, schema=None, name="rec.csv", **options):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pd.DataFrame):
            content.to_parquet(path) if path.suffix == ".parquet" else content.to_csv(path, index=False)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8", newline="")
        else:
            path.write_bytes(content)
        (item,) = table.sessions(tmp_path / "set", schema or schema_of(), **options)
        return item.read()

    return make
