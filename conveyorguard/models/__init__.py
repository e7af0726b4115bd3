"""Networks as plain modules. A model is `Model(schema, **hparams)`; it takes a scaled batch and returns logits.

Every network declares two facts that let a run list the settings it does not use:

- `NEEDS`: hyper-parameters that matter only with a certain input, e.g. `{"thermal_frames": "thermal"}`;
- `PER_SECOND`: whether it returns `second` logits beside `window`.

`tabular.py` holds what is no network: estimators of window features, `Model(schema, seed, threads, **hparams)`.
"""
