"""Checks of a model on window features: what its preparation was fitted on, and what it makes of each modality."""

from __future__ import annotations

import numpy as np
import pandas as pd

from conveyorguard.checks.subject import SAME_MODEL, Failed, NotChecked, difference_of
from conveyorguard.data.datamodule import WindowDataset
from conveyorguard.data.windows import Windows
from conveyorguard.training.fit_tabular import TabularClassifier, importance


def scaling_is_of_train(model: TabularClassifier, data: Windows) -> str:
    """A linear model's medians, means and sds are those of the train windows; trees have none."""
    estimator = getattr(model.model, "estimator", None)
    scaler = getattr(estimator, "named_steps", {}).get("standardscaler")
    if scaler is None:
        raise NotChecked("trees compare features as they are: there is no scaling")
    features = model.features(WindowDataset(data.store, data.part("train"), data.settings, model.inputs))
    with np.errstate(invalid="ignore"):
        medians = np.nan_to_num(np.nanmedian(features, axis=0))
    known = np.where(np.isfinite(features), features, medians).astype(np.float64)
    sd = known.std(axis=0)
    sd[sd < 1e-6 * np.abs(known).max(axis=0)] = (
        1.0  # of equal values rounding leaves something, which is not divided by
    )
    imputer = estimator.named_steps["simpleimputer"]  # type: ignore[union-attr]
    for what, fitted, own in (
        ("median", imputer.statistics_, medians),
        ("mean", scaler.mean_, known.mean(axis=0)),
        ("sd", scaler.scale_, sd),
    ):
        apart = np.abs(fitted - own) / sd  # a feature is known as well as it varies
        worst = int(apart.argmax())
        if apart[worst] > 1e-3:
            raise Failed(f"the train windows' {what} of {model.names[worst]}, {own[worst]:.6g}", f"{fitted[worst]:.6g}")
    return f"medians, means and sds of {len(sd)} features are those of the train windows"


def every_modality_is_used(model: TabularClassifier, data: Windows, table: pd.DataFrame | None) -> str:
    """By the gain in importance.csv, which must be what the model gives."""
    if table is None:
        raise Failed("importance.csv beside a tabular model", "none")
    _must_be_importance(table, importance(model, data))
    worth = table.groupby("modality")["gain"].sum()
    deaf = [name for name in model.inputs if not worth.get(name, 0) > 0]
    if deaf:
        raise Failed(f"a feature of each of {', '.join(model.inputs)} in use", f"none of {', '.join(deaf)}")
    return ", ".join(f"{name} {worth[name]:.0%}" for name in model.inputs) + " of the gain"


def _must_be_importance(table: pd.DataFrame, made: pd.DataFrame) -> None:
    """Whether importance.csv is what the model gives."""
    wanted, found = made.set_index("feature"), table.set_index("feature")
    if set(wanted.index) != set(found.index):
        raise Failed(
            f"the model's {len(wanted)} features in importance.csv",
            f"{len(found)}; {difference_of(set(wanted.index), set(found.index), 'of the model')}",
        )
    found = found.loc[wanted.index]
    if (apart := np.flatnonzero(wanted["modality"].to_numpy() != found["modality"].to_numpy())).size:
        name = wanted.index[apart[0]]
        raise Failed(f"{name} of {wanted['modality'][name]} in importance.csv", str(found["modality"][name]))
    for measure in ("gain", "shap"):
        own, other = (table[measure].to_numpy(float) for table in (wanted, found))
        apart = np.flatnonzero(~np.isclose(other, own, rtol=SAME_MODEL, atol=SAME_MODEL, equal_nan=True))
        if apart.size:
            raise Failed(
                f"{measure} = {own[apart[0]]:.6g} of {wanted.index[apart[0]]} in importance.csv, as the model gives it",
                f"{other[apart[0]]:.6g}",
            )
