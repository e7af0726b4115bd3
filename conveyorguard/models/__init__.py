"""Models: networks as plain torch modules, and classifiers of window features (`tabular`).

A network is built as `Model(schema, inputs, **settings)`, takes a scaled batch and returns logits. It declares two
facts, from which a run lists the settings that it does not use:

- `NEEDS`: settings that matter with one input only, such as `{"thermal_frames": "thermal"}`;
- `PER_SECOND`: whether it returns `second` logits beside `window`.

A tabular model is built as `Model(schema, seed, threads, **settings)`. `check_model(MyModel)` checks that a model, also
of another package, keeps this contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from conveyorguard.models.contract import check_model

__all__ = ["check_model"]


def __getattr__(name: str) -> Any:
    if name == "check_model":
        from conveyorguard.models.contract import check_model  # with torch, which tabular models do without

        return check_model
    raise AttributeError(f"module {__name__} has no attribute {name}")
