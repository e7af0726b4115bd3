"""Whether data have the inputs that a run was trained on."""

from __future__ import annotations

from collections.abc import Collection

from conveyorguard.data.schema import Schema
from conveyorguard.errors import DataError


def refuse_other(trained: Schema, schema: Schema, inputs: Collection[str]) -> None:
    """Check that data have the inputs and states that the run was trained on; inputs it does not use may differ.

    Args:
        trained: of the run.
        schema: channels, units, camera and states of the data.
        inputs: which of sensors, thermal and environment the run uses.

    Raises:
        DataError: channels, units, camera or number of states differ.
    """
    for group, known, current in (
        ("sensors", trained.channels, schema.channels),
        ("environment", trained.environment, schema.environment),
    ):
        if group not in inputs:
            continue
        if list(known) != list(current):
            raise DataError(
                f"the run was trained on the {group} {', '.join(known)}; the data have "
                f"{', '.join(current) or 'none'}. In data.schema, name the channels as in the training and "
                "give the column of each as `column`"
            )
        wrong = [
            f"{name} in {current[name].unit}, not {known[name].unit}"
            for name in known
            if known[name].unit != current[name].unit
        ]
        if wrong:
            raise DataError(
                f"the data have other units than the run was trained on: {'; '.join(wrong)}. Convert the data"
            )
    if "thermal" in inputs:
        trained_frames, frames = (s.thermal and (s.thermal.stored_shape, s.thermal.reduce) for s in (trained, schema))
        if trained_frames != frames:
            raise DataError(
                f"the run was trained on thermal frames of stored shape and reduction {trained_frames}, the data "
                f"have {frames or 'none'}. Set data.schema.thermal as in the run's config.yaml"
            )
    if len(schema.states) != len(trained.states):
        raise DataError(
            f"the run was trained on {len(trained.states)} states, the data have {len(schema.states)}. Set "
            "data.schema.states as in the run's config.yaml"
        )
