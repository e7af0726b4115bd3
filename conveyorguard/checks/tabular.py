"""Checks of a tabular model: what its preparation was fitted on, and whether it uses each modality."""

from __future__ import annotations

import numpy as np
import pandas as pd

from conveyorguard.checks.subject import SAME_MODEL, Failed, NotChecked, difference_of
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.windows import Windows
from conveyorguard.training.fit_tabular import TabularClassifier, importance


def scaling_is_fitted_on_train(model: TabularClassifier, data: Windows) -> str:
    """Compare a linear model's medians, means and standard deviations with those of the train windows."""
    estimator = getattr(model.model, "estimator", None)
    scaler = getattr(estimator, "named_steps", {}).get("standardscaler")
    if scaler is None:
        raise NotChecked("trees do not scale features")
    features = model.features(WindowDataset(data.store, data.part("train"), data.settings, model.inputs))
    with np.errstate(invalid="ignore"):
        medians = np.nan_to_num(np.nanmedian(features, axis=0))
    known = np.where(np.isfinite(features), features, medians).astype(np.float64)
    sd = known.std(axis=0)
    sd[sd < 1e-6 * np.abs(known).max(axis=0)] = 1.0  # constant but for rounding: not scaled
    imputer = estimator.named_steps["simpleimputer"]  # type: ignore[union-attr]
    for statistic, fitted, expected in (
        ("median", imputer.statistics_, medians),
        ("mean", scaler.mean_, known.mean(axis=0)),
        ("sd", scaler.scale_, sd),
    ):
        difference = np.abs(fitted - expected) / sd
        worst = int(difference.argmax())
        if difference[worst] > 1e-3:
            raise Failed(
                f"{statistic} = {expected[worst]:.6g} of {model.names[worst]} in the checkpoint, as in train",
                f"{fitted[worst]:.6g}",
            )
    return f"median, mean and sd of {len(sd)} features equal those of the train windows"


def every_modality_is_used(model: TabularClassifier, data: Windows, table: pd.DataFrame | None) -> str:
    """Check that importance.csv is what the model gives, and that each modality has a gain."""
    if table is None:
        raise Failed("importance.csv beside a tabular model", "none")
    _must_be_importance(table, importance(model, data))
    gain = table.groupby("modality")["gain"].sum()
    unused = [name for name in model.inputs if not gain.get(name, 0) > 0]
    if unused:
        raise Failed(
            f"a gain from each of {', '.join(model.inputs)} in importance.csv",
            f"none from {', '.join(unused)}: the model ignores it",
        )
    return ", ".join(f"{name} {gain[name]:.0%}" for name in model.inputs) + " of the gain"


def _must_be_importance(table: pd.DataFrame, computed: pd.DataFrame) -> None:
    """Compare importance.csv with the importance that the model gives.

    Args:
        table: content of importance.csv.
        computed: the importance computed again.
    """
    wanted, actual = computed.set_index("feature"), table.set_index("feature")
    if set(wanted.index) != set(actual.index):
        raise Failed(
            f"the model's {len(wanted)} features in importance.csv",
            f"{len(actual)}; {difference_of(set(wanted.index), set(actual.index), 'of the model')}",
        )
    actual = actual.loc[wanted.index]
    if (different := np.flatnonzero(wanted["modality"].to_numpy() != actual["modality"].to_numpy())).size:
        name = wanted.index[different[0]]
        raise Failed(f"modality = {wanted['modality'][name]} of {name} in importance.csv", actual["modality"][name])
    for measure in ("gain", "shap"):
        expected, written = (table[measure].to_numpy(float) for table in (wanted, actual))
        different = np.flatnonzero(~np.isclose(written, expected, rtol=SAME_MODEL, atol=SAME_MODEL, equal_nan=True))
        if different.size:
            row = different[0]
            raise Failed(
                f"{measure} = {expected[row]:.6g} of {wanted.index[row]} in importance.csv, as computed from the model",
                f"{written[row]:.6g}",
            )
