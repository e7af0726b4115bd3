"""The contract of tabular models, checked on synthetic features."""

from __future__ import annotations

import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from conveyorguard.data.schema import Schema
from conveyorguard.errors import ConfigError

ROWS, FEATURES = 240, 6  # synthetic: feature 1 follows the state, feature 4 is always NaN
ALONE = 6  # windows that are classified one at a time


def check_tabular(model: type, schema: Schema, settings: dict[str, Any]) -> None:
    """Check that a tabular model keeps the contract; see `conveyorguard.models.check_model`.

    Args:
        model: the class.
        schema: of the data.
        settings: of the model.
    """
    name, package, file = model.__name__, getattr(model, "PACKAGE", ""), getattr(model, "FILE", None)
    assert package is None or (isinstance(package, str) and package != ""), (
        f"{name}.PACKAGE must name the package that it needs beyond the project's, or be None"
    )
    if package and not find_spec(package):
        raise ConfigError(f"{name} needs the package {package}, which is not installed")
    assert isinstance(file, str) and file.startswith("best."), (
        f"{name}.FILE must name its checkpoint, best.* with the ending of its format; it is {file}"
    )

    def fitted(states: list[int]) -> tuple[Any, np.ndarray, np.ndarray]:
        x, y = _features(states)
        estimator: Any = model(schema=schema, seed=0, threads=1, **settings)
        estimator.fit(x, y)
        return estimator, x, y

    every = list(range(len(schema.states)))
    estimator, x, y = fitted(every)
    p = _must_give_probabilities(name, estimator, x, y, len(every))
    if len(every) > 2:
        absent = every[-2]
        rare = _must_give_probabilities(name, *fitted([k for k in every if k != absent]), len(every))[:, absent]
        assert rare.max() < 0.1, f"{name} must give a probability near 0 to a state that no train window has"
    alone = np.concatenate([estimator.probabilities(x[i : i + 1]) for i in range(ALONE)])
    assert np.allclose(alone, p[:ALONE], atol=1e-6), f"{name} must judge each window by itself"
    assert np.array_equal(fitted(every)[0].probabilities(x), p), (
        f"{name} must follow from its seed: fitted twice on the same features, it gives other probabilities"
    )
    _must_rate_features(name, estimator, x)
    loaded = _saved_and_loaded(name, estimator, model(schema=schema, seed=1, threads=1, **settings), file)
    assert np.allclose(loaded.probabilities(x), p, rtol=0, atol=1e-6), (
        f"{name} must give the same probabilities once loaded"
    )


def _features(states: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return synthetic features (ROWS, FEATURES), some of them NaN, and states (ROWS,)."""
    rng = np.random.default_rng(0)
    y = rng.choice(states, ROWS)
    x = rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
    x[:, 1] += 4 * y
    x[rng.random(x.shape) < 0.02] = np.nan
    x[:, 4] = np.nan
    return x, y


def _must_give_probabilities(name: str, estimator: Any, x: np.ndarray, y: np.ndarray, states: int) -> np.ndarray:
    p = np.asarray(estimator.probabilities(x))
    assert p.shape == (len(x), states), f"{name} must return probabilities of shape {(len(x), states)}, not {p.shape}"
    assert (p >= 0).all() and np.allclose(p.sum(axis=1), 1, atol=1e-4), (
        f"{name} must return probabilities: finite, none below 0, with sum 1 over the states"
    )
    assert float((p.argmax(axis=1) == y).mean()) > 0.5, (
        f"{name} must learn from one feature that follows the state, and keep the columns in the order of the states"
    )
    return p


def _must_rate_features(name: str, estimator: Any, x: np.ndarray) -> None:
    gain, contributions = np.asarray(estimator.gain()), estimator.contributions(x)
    assert gain.shape == (FEATURES,) and bool((gain >= 0).all()) and bool(np.isclose(gain.sum(), 1)), (
        f"{name}.gain() must give each feature its share, with sum 1"
    )
    assert contributions is None or (
        np.shape(contributions) == (FEATURES,) and bool(np.isfinite(contributions).all())
    ), f"{name}.contributions(x) must give a number for each feature, or be None"


def _saved_and_loaded(name: str, estimator: Any, other: Any, file: str) -> Any:
    """Save an estimator, load its file into another one and return that."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file
        estimator.save(path)
        assert path.is_file(), f"{name}.save(path) must write the file {file}"
        assert not _is_pickle(path), (
            f"{name} must be saved in its library's text or by skops: a pickle may execute anything once loaded"
        )
        try:
            other.load(path)
        except Exception as error:
            raise AssertionError(
                f"{name} must load what it has saved; it raises {type(error).__name__}: {error}"
            ) from error
    return other


def _is_pickle(path: Path) -> bool:
    """Return whether a file is a pickle, or an archive with one as torch.save writes it."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    return path.read_bytes()[:1] == b"\x80"
