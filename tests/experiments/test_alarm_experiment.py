"""One validation session in ten that is mislabelled does not multiply false alarms."""

import pandas as pd

from experiments import alarm_threshold

MISLABELLED, BOUND = "mislabelled: false alarms in 100 h", "bound in 100 h"


def test_committed_table_keeps_bound_on_false_alarms():
    table = pd.read_csv(alarm_threshold.TABLE)
    assert table["fault sessions"].tolist() == list(alarm_threshold.FAULTS)
    assert (table[MISLABELLED] < table[BOUND]).all() and (table["mislabelled: faults missed"] < 0.25).all()


def test_small_simulation_keeps_bound_on_false_alarms():
    table = alarm_threshold.simulate(faults=(10,), replicates=8, hours=300)
    assert (table[MISLABELLED] < table[BOUND]).all() and (table["mislabelled: faults missed"] < 0.4).all()
