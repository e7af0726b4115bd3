"""An objective that cannot choose a model is refused before training; states that train lacks are named."""

import numpy as np
import pytest

from conveyorguard.commands.train import print_data, refuse_objective
from conveyorguard.data.windows import WindowSettings, split_windows
from conveyorguard.errors import ConfigError


@pytest.fixture
def windows_of(store_of, session_of, plain_schema):
    """Return windows of a session a part, each of these states, and of a second session of test."""

    def make(**states):
        sessions = [session_of(part, range(len(of_part)), of_part, device=part) for part, of_part in states.items()]
        sessions.append(session_of("test2", range(40), [0] * 40, device="test"))
        data = split_windows(
            store_of(sessions, plain_schema), WindowSettings(5, 5, thermal_frames="all"), {"name": "session", "seed": 0}
        )
        data.split.sessions.update(train=["train"], val=["val"], test=["test", "test2"])
        data.frame["part"] = data.frame["session"].str.removesuffix("2")
        return data

    return make


@pytest.mark.parametrize("objective", ["val/severe_recall", "val/severe_precision", "val/severe_as_normal"])
def test_objective_on_worst_state_is_refused_without_such_windows(windows_of, objective):
    data = windows_of(train=[0] * 20 + [3] * 20, val=[0] * 20 + [1] * 20, test=[0] * 40)
    with pytest.raises(ConfigError, match="whose windows are all normal, minor"):
        refuse_objective(objective, data)
    for usable in ("val/macro_f1", "val/nll", "val/loss", "val/qwk", "val/accuracy"):
        refuse_objective(usable, data)


def test_kappa_is_refused_on_a_single_state(windows_of):
    data = windows_of(train=[0] * 20 + [3] * 20, val=[0] * 40, test=[0] * 40)
    with pytest.raises(ConfigError, match="are all normal"):
        refuse_objective("val/qwk", data)
    refuse_objective("val/accuracy", data)


def test_state_without_train_window_is_named_before_training(windows_of, capsys):
    data = windows_of(train=[0] * 20 + [1] * 20, val=[0] * 20 + [3] * 20, test=[0] * 40)
    assert np.array_equal(data.class_counts() > 0, [True, True, False, False])
    print_data(data, [])
    assert "the train part has no window of moderate, severe" in " ".join(capsys.readouterr().err.split())
