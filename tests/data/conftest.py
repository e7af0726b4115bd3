"""A recording as a table, for the tests of tables and of drafts."""

import numpy as np
import pandas as pd
import pytest

from tests.data.table.plant import STATES, N


@pytest.fixture
def frame():
    """A sound recording of N seconds."""
    time = np.arange(N)
    return pd.DataFrame(
        {
            "time": time,
            "heat": 20 + time / 8,
            "Current (A)": 1.5 + time / 4,
            "air": 21.25,
            "state": np.array(STATES)[time * 3 // N],
        }
    )
