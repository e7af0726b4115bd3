"""Networks as plain modules. A model is `Model(schema, **hparams)`; it takes a scaled batch and returns logits.

Every network declares two facts that let a run list the settings it does not use:

- `NEEDS`: hyper-parameters that matter only with a certain input, e.g. `{"thermal_frames": "thermal"}`;
- `PER_SECOND`: whether it returns `second` logits beside `window`.

`tabular.py` holds what is no network: estimators of window features, `Model(schema, seed, threads, **hparams)`.
`check_model(MyModel)` tells whether a model, also of another package, keeps to all this.
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
