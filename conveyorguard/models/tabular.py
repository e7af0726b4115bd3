"""Classifiers of window features: trees and a linear model.

They are saved in their library's text format or by skops, never as a pickle.
"""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import lightgbm
import numpy as np
import skops.io
from sklearn import ensemble, linear_model
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from conveyorguard.data.schema import Schema
from conveyorguard.errors import RunError

__all__ = ["CatBoost", "ExtraTrees", "LightGBM", "LogisticRegression", "RandomForest", "Tabular", "XGBoost"]


class Tabular(ABC):
    """Base of the classifiers of K states from features (n, F), NaN where unknown.

    The same arguments, data and number of threads give the same model, bit for bit.

    Args:
        schema: of the data.
        seed: of the random numbers of fitting.
        threads: used to fit; predictions do not depend on it.
        class_weight: 'balanced' weights a window by 1 / number of train windows of its state, as in the seed study;
            or 'none'.
    """

    TABULAR: ClassVar[bool] = True  # marks it as no network without an import of this module
    PACKAGE: ClassVar[str | None] = None  # that it needs beyond the dependencies of the project
    FILE: ClassVar[str]  # name of the checkpoint: best.* with the ending of its format

    def __init__(self, schema: Schema, seed: int, threads: int, class_weight: str):
        if class_weight not in ("balanced", "none"):
            raise ValueError(f"model.class_weight={class_weight}: write balanced or none")
        self.states, self.seed, self.threads, self.class_weight = len(schema.states), seed, threads, class_weight

    def sample_weight(self, y: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
        """Return weights (n,) of the rows, which balance the states unless `class_weight` is none.

        Their mean is 1, so that balancing does not change the strength of regularisation.

        Args:
            y: states (n,).
            weight: (n,) further weights, by which those of the states are multiplied; None: 1.
        """
        rows = np.ones(len(y)) if weight is None else weight
        if self.class_weight != "none":
            rows = rows / np.bincount(y, rows, minlength=self.states).clip(1e-12)[y]
        return rows / rows.mean()

    @abstractmethod
    def fit(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        """Train on features x (n, F) and states y (n,), rows weighted by `weight` (n,).

        The probability of a state that is absent is near 0.
        """

    @abstractmethod
    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Return probabilities (n, K) of features x (n, F)."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the fitted model."""

    @abstractmethod
    def load(self, path: Path) -> None:
        """Read what `save` wrote. Nothing in the file is executed."""

    @abstractmethod
    def gain(self) -> np.ndarray:
        """Return the importance (F,) of each feature in the model's own measure, with sum 1."""

    def contributions(self, x: np.ndarray) -> np.ndarray | None:
        """Return mean |SHAP value| (F,) over windows and states, in [log-odds]; None if the library has none."""
        return None


class LightGBM(Tabular):
    """Gradient boosting by lightgbm. The number of trees is fixed: validation does not choose it."""

    FILE = "best.txt"

    def __init__(
        self,
        schema: Schema,
        seed: int,
        threads: int,
        class_weight: str = "balanced",
        n_estimators: int = 300,
        learning_rate: float = 0.03,
        num_leaves: int = 15,
        min_child_samples: int = 20,
        colsample_bytree: float = 0.2,
        subsample: float = 0.8,
        reg_lambda: float = 1.0,
    ):
        super().__init__(schema, seed, threads, class_weight)
        self.rounds = n_estimators
        self.parameters = {
            "objective": "multiclass",
            "num_class": self.states,
            "learning_rate": learning_rate,
            "num_leaves": num_leaves,
            "min_data_in_leaf": min_child_samples,
            "feature_fraction": colsample_bytree,
            "bagging_fraction": subsample,
            "bagging_freq": 1,
            "lambda_l2": reg_lambda,
            "seed": seed,
            "num_threads": threads,
            "deterministic": True,
            "force_row_wise": True,
            "verbose": -1,
        }

    def fit(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        data = lightgbm.Dataset(x, y, weight=self.sample_weight(y, weight))
        self.booster = lightgbm.train(self.parameters, data, self.rounds)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(self.booster.predict(x, num_threads=self.threads))

    def save(self, path: Path) -> None:
        self.booster.save_model(path)

    def load(self, path: Path) -> None:
        self.booster = lightgbm.Booster(model_file=path)

    def gain(self) -> np.ndarray:
        return _share(self.booster.feature_importance("gain"))

    def contributions(self, x: np.ndarray) -> np.ndarray:
        values = np.asarray(self.booster.predict(x, pred_contrib=True, num_threads=self.threads))
        # per state: the features, then the expected value
        return np.abs(values.reshape(len(x), self.states, -1)[:, :, :-1]).mean(axis=(0, 1))


class SklearnModel(Tabular):
    """Base of the classifiers by scikit-learn."""

    FILE = "best.skops"
    # Types that skops does not trust by itself: trees, whose indices `load` checks, and the dtype kept by the imputer.
    TRUSTED: ClassVar[tuple[str, ...]] = ("sklearn.tree._tree.Tree", "numpy.dtype")
    estimator: Any

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        p = np.zeros((len(x), self.states))
        p[:, self.estimator.classes_] = self.estimator.predict_proba(x)
        return p

    def save(self, path: Path) -> None:
        skops.io.dump(self.estimator, path, compression=zipfile.ZIP_DEFLATED, compresslevel=1)

    def load(self, path: Path) -> None:
        foreign = set(skops.io.get_untrusted_types(file=path)) - set(self.TRUSTED)
        if foreign:
            raise RunError(
                f"{path}: holds {', '.join(sorted(foreign))}, which no model of this package needs; not loaded. "
                "Train the model again"
            )
        estimator = skops.io.load(path, trusted=self.TRUSTED)
        if type(estimator) is not type(self.estimator):
            raise RunError(
                f"{path}: expected a {type(self.estimator).__name__}, found a {type(estimator).__name__}; "
                "train the model again"
            )
        for tree in (member.tree_ for member in getattr(estimator, "estimators_", [])):
            nodes = np.stack([tree.children_left, tree.children_right])
            if nodes.min() < -1 or nodes.max() >= tree.node_count or tree.feature.max() >= estimator.n_features_in_:
                raise RunError(f"{path}: a tree points outside itself; the file is damaged, train the model again")
        self.estimator = estimator


class Forest(SklearnModel):
    """Base of the forests: trees grown independently, their probabilities averaged."""

    ESTIMATOR: ClassVar[type]

    def __init__(
        self,
        schema: Schema,
        seed: int,
        threads: int,
        class_weight: str = "balanced",
        n_estimators: int = 300,
        min_samples_leaf: int = 3,
        max_features: float = 0.5,
    ):
        super().__init__(schema, seed, threads, class_weight)
        self.estimator = self.ESTIMATOR(
            n_estimators,
            min_samples_leaf=min_samples_leaf,
            max_features=max_features,
            random_state=seed,
            n_jobs=threads,
        )

    def fit(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        self.estimator.fit(x, y, sample_weight=self.sample_weight(y, weight))
        self.estimator.n_jobs = 1  # threads sum the trees in the order they finish, which changes the last bits

    def gain(self) -> np.ndarray:
        return _share(self.estimator.feature_importances_)


class ExtraTrees(Forest):
    """Extremely randomised trees (Geurts et al., 2006)."""

    ESTIMATOR = ensemble.ExtraTreesClassifier


class RandomForest(Forest):
    """Random forest (Breiman, 2001)."""

    ESTIMATOR = ensemble.RandomForestClassifier


class LogisticRegression(SklearnModel):
    """Logistic regression on standardised features; NaN is replaced by the feature's median."""

    def __init__(
        self,
        schema: Schema,
        seed: int,
        threads: int,
        class_weight: str = "balanced",
        C: float = 1.0,
        max_iter: int = 2000,
    ):
        super().__init__(schema, seed, threads, class_weight)
        self.estimator = make_pipeline(
            SimpleImputer(strategy="median", keep_empty_features=True),
            StandardScaler(),
            linear_model.LogisticRegression(C=C, max_iter=max_iter),
        )

    def fit(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        with threadpool_limits(self.threads):
            self.estimator.fit(x, y, logisticregression__sample_weight=self.sample_weight(y, weight))

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        with threadpool_limits(1):
            return super().probabilities(x)

    def gain(self) -> np.ndarray:
        return _share(np.abs(self.estimator[-1].coef_).mean(axis=0))


class XGBoost(Tabular):
    """Gradient boosting by xgboost."""

    PACKAGE, FILE = "xgboost", "best.json"

    def __init__(
        self,
        schema: Schema,
        seed: int,
        threads: int,
        class_weight: str = "balanced",
        n_estimators: int = 300,
        learning_rate: float = 0.03,
        max_depth: int = 4,
        min_child_weight: float = 3.0,
        colsample_bytree: float = 0.2,
        subsample: float = 0.8,
        reg_lambda: float = 1.0,
    ):
        super().__init__(schema, seed, threads, class_weight)
        self.rounds = n_estimators
        self.parameters = {
            "objective": "multi:softprob",
            "num_class": self.states,
            "eta": learning_rate,
            "max_depth": max_depth,
            "min_child_weight": min_child_weight,
            "colsample_bytree": colsample_bytree,
            "subsample": subsample,
            "lambda": reg_lambda,
            "tree_method": "hist",
            "seed": seed,
            "nthread": threads,
            "device": "cpu",
        }

    def fit(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        import xgboost

        self.booster = xgboost.train(
            self.parameters, xgboost.DMatrix(x, y, weight=self.sample_weight(y, weight)), self.rounds
        )

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        import xgboost

        return self.booster.predict(xgboost.DMatrix(x))

    def save(self, path: Path) -> None:
        self.booster.save_model(path)

    def load(self, path: Path) -> None:
        import xgboost

        self.booster = xgboost.Booster({"nthread": self.threads}, model_file=path)

    def gain(self) -> np.ndarray:
        gains = self.booster.get_score(importance_type="total_gain")  # has only the features that are used: f0, f7, ...
        return _share(np.array([gains.get(f"f{i}", 0.0) for i in range(self.booster.num_features())]))


class CatBoost(Tabular):
    """Gradient boosting by catboost."""

    PACKAGE, FILE = "catboost", "best.json"

    def __init__(
        self,
        schema: Schema,
        seed: int,
        threads: int,
        class_weight: str = "balanced",
        n_estimators: int = 300,
        learning_rate: float = 0.1,
        depth: int = 5,
        rsm: float = 0.2,
        reg_lambda: float = 3.0,
    ):
        super().__init__(schema, seed, threads, class_weight)
        self.parameters = {
            "loss_function": "MultiClass",
            "classes_count": self.states,
            "iterations": n_estimators,
            "learning_rate": learning_rate,
            "depth": depth,
            "rsm": rsm,
            "l2_leaf_reg": reg_lambda,
            "random_seed": seed,
            "thread_count": threads,
            "allow_writing_files": False,
            "verbose": False,
        }

    def fit(self, x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> None:
        import catboost

        self.booster = catboost.CatBoostClassifier(**self.parameters)
        self.booster.fit(x, y, sample_weight=self.sample_weight(y, weight))

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        return self.booster.predict_proba(x, thread_count=self.threads)

    def save(self, path: Path) -> None:
        self.booster.save_model(str(path), format="json")

    def load(self, path: Path) -> None:
        import catboost

        self.booster = catboost.CatBoostClassifier()
        self.booster.load_model(str(path), format="json")

    def gain(self) -> np.ndarray:
        return _share(self.booster.get_feature_importance())


def _share(values: np.ndarray) -> np.ndarray:
    """Return the values scaled to sum 1, or zeros if the model uses no feature."""
    return np.asarray(values, float) / (np.sum(values) or 1.0)
