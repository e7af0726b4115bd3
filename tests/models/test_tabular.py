"""Every tabular model: probabilities, the same bits when fitted twice or loaded, and no code in its file."""

import json
import zipfile
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import skops.io
from sklearn.preprocessing import FunctionTransformer

from conveyorguard.errors import RunError
from conveyorguard.models.log_mean import LogMean
from conveyorguard.models.tabular import (
    CatBoost,
    ExtraTrees,
    LightGBM,
    LogisticRegression,
    RandomForest,
    SklearnModel,
    XGBoost,
)

SCHEMA = SimpleNamespace(states=range(4))
MODELS = [LightGBM, ExtraTrees, RandomForest, LogisticRegression, LogMean] + [
    pytest.param(model, marks=pytest.mark.skipif(not find_spec(model.PACKAGE), reason=f"{model.PACKAGE} is an extra"))
    for model in (XGBoost, CatBoost)
]
every = pytest.mark.parametrize("make", MODELS)


def few(make, **settings):
    """A model of few trees."""
    settings = settings if make is LogisticRegression else {"n_estimators": 20, **settings}
    return make(SCHEMA, seed=0, threads=1, **settings)


def windows(states=(0, 1, 2, 3), n=300):
    """Features and states: feature 1 follows the state, feature 4 is always NaN, the others have gaps."""
    rng = np.random.default_rng(0)
    y = rng.choice(states, n)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    x[:, 1] += 4 * y
    x[rng.random(x.shape) < 0.02] = np.nan
    x[:, 4] = np.nan
    return x, y


@every
def test_model_learns_the_state_and_credits_the_feature_that_follows_it(make):
    x, y = windows()
    model = few(make)
    model.fit(x, y)
    p = model.probabilities(x)
    assert p.shape == (300, 4) and np.allclose(p.sum(axis=1), 1, atol=1e-5) and (p >= 0).all()
    assert (p.argmax(axis=1) == y).mean() > 0.9
    gain = model.gain()
    assert gain.shape == (6,) and gain.argmax() == 1 and gain.sum() == pytest.approx(1) and gain[4] == 0


@every
def test_model_fitted_twice_or_loaded_gives_the_same_bits(make, tmp_path):
    x, y = windows()
    first, again = few(make), few(make)
    first.fit(x, y)
    again.fit(x, y)
    assert np.array_equal(first.probabilities(x), again.probabilities(x))
    first.save(tmp_path / make.FILE)
    loaded, reloaded = few(make), few(make)
    loaded.load(tmp_path / make.FILE)
    assert np.allclose(loaded.probabilities(x), first.probabilities(x), rtol=0, atol=1e-12)
    loaded.save(tmp_path / f"again-{make.FILE}")
    reloaded.load(tmp_path / f"again-{make.FILE}")
    assert np.array_equal(loaded.probabilities(x), reloaded.probabilities(x))


@every
def test_state_absent_from_train_keeps_its_column(make):
    x, y = windows(states=(0, 1, 3))
    model = few(make)
    model.fit(x, y)
    p = model.probabilities(x)
    assert p.shape == (300, 4) and p[:, 2].max() < 0.05 and (p.argmax(axis=1) == y).mean() > 0.9


@every
def test_balanced_weights_make_a_rare_state_predicted_more_often(make):
    """Two states overlap and one is rare; the weights have mean 1 with both rules."""
    rng = np.random.default_rng(1)
    y = (rng.random(2000) < 0.06).astype(int) * 3
    x = (rng.normal(size=(2000, 1)) + y[:, None] / 3).astype(np.float32)
    predicted = {}
    for rule in ("balanced", "none"):
        model = few(make, class_weight=rule)
        assert model.sample_weight(y).mean() == pytest.approx(1)
        model.fit(x[:1000], y[:1000])
        predicted[rule] = (model.probabilities(x[1000:]).argmax(axis=1) == 3).sum()
    assert predicted["balanced"] > 3 * max(predicted["none"], 1)
    weight = few(make).sample_weight(y)
    assert weight[y == 0].sum() == pytest.approx(weight[y == 3].sum())


def test_only_lightgbm_has_shap_values_and_they_sum_to_its_score():
    x, y = windows()
    model = few(LightGBM)
    model.fit(x, y)
    shap = model.contributions(x)
    whole = model.booster.predict(x, pred_contrib=True).reshape(300, 4, 7)
    assert shap.shape == (6,) and shap.argmax() == 1 and shap[4] == 0
    assert np.allclose(whole.sum(axis=2), model.booster.predict(x, raw_score=True)), "SHAP values must sum to the score"
    assert shap == pytest.approx(np.abs(whole[..., :6]).mean(axis=(0, 1)))
    assert few(ExtraTrees).contributions(x) is None


def test_unknown_class_weight_is_refused():
    with pytest.raises(ValueError, match="balanced or none"):
        few(LightGBM, class_weight="heavy")


def test_file_with_a_foreign_type_or_estimator_is_not_loaded(tmp_path):
    x, y = windows()
    model = few(ExtraTrees)
    model.fit(x, y)
    foreign = tmp_path / "foreign.skops"
    skops.io.dump(FunctionTransformer(print_it), foreign)
    with pytest.raises(RunError, match="print_it"):
        model.load(foreign)
    few_linear = few(LogisticRegression)
    model.save(tmp_path / "trees.skops")
    with pytest.raises(RunError, match="expected a Pipeline, found a ExtraTreesClassifier"):
        few_linear.load(tmp_path / "trees.skops")


def print_it(x):
    return x


def test_tree_with_indices_outside_its_nodes_is_not_loaded(tmp_path):
    x, y = windows()
    model = few(RandomForest)
    model.fit(x, y)
    for child in ("left_child", "right_child", "feature"):
        broken = few(RandomForest)
        broken.fit(x, y)
        state = broken.estimator.estimators_[3].tree_.__getstate__()
        state["nodes"][child][0] = 10_000
        broken.estimator.estimators_[3].tree_.__setstate__(state)
        broken.save(tmp_path / "broken.skops")
        with pytest.raises(RunError, match="points outside itself"):
            model.load(tmp_path / "broken.skops")


def test_saved_file_holds_no_pickle(tmp_path):
    x, y = windows()
    for make in (LightGBM, ExtraTrees, LogisticRegression):
        model = few(make)
        model.fit(x, y)
        model.save(tmp_path / make.FILE)
        if isinstance(model, SklearnModel):
            with zipfile.ZipFile(tmp_path / make.FILE) as file:
                assert {name.rsplit(".", 1)[-1] for name in file.namelist()} <= {"json", "npy"}
                json.loads(file.read("schema.json"))
        else:
            assert (tmp_path / make.FILE).read_text().startswith("tree\n")
