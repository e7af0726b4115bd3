"""The schema by which a data set is read for a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from conveyorguard.data.durations import plain, text_of
from conveyorguard.data.schema import Schema
from conveyorguard.data.windows import period_of
from conveyorguard.errors import ConfigError, DataError
from conveyorguard.inference.input_check import refuse_other
from conveyorguard.inference.loaded_run import LoadedRun


def schema_for(loaded: LoadedRun, data: Mapping[str, Any]) -> Schema:
    """Return the schema by which a data set is read for a run; without the camera if the run does not use it.

    Args:
        loaded: the run.
        data: the `data` block of a config as plain values.

    Raises:
        DataError: the data do not have the inputs, states or period that the run was trained on.
        ConfigError: the run is a control that is given the environment of other sessions.
    """
    settings = loaded.run.settings
    parts = [part.run.settings for part in loaded.parts]
    if any(part["film"] and part.get("film_input") == "shuffled" for part in parts):
        raise ConfigError(
            "the run was trained with film_input=shuffled, a control that is given the environment of other sessions: "
            "it can be compared, but not applied. Train with film_input=environment"
        )
    node = data["schema"]
    schema = Schema.from_config(node if "thermal" in loaded.inputs else {**node, "thermal": None})
    refuse_other(loaded.schema, schema, loaded.inputs)
    period, trained = period_of(data), period_of(settings["data"])
    if period != trained:
        raise DataError(
            f"the run was trained on a row every {text_of(trained)}, the data are read as one every {text_of(period)}: "
            f"set data.reader.period={plain(trained)}"
        )
    return schema
