"""`check_model`: the models of this package keep the contract, and a broken rule is named."""

import os
import pickle
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from pydoc import locate

import numpy as np
import pytest
import torch
from torch import nn

from conveyorguard.config.compose import WHITELIST
from conveyorguard.errors import ConfigError
from conveyorguard.models import check_model
from conveyorguard.models.tabular import ExtraTrees

pytestmark = pytest.mark.promise(
    "code",
    "Each model of the project keeps the contract of `check_model`, and a model that breaks a rule is "
    "refused by the name of the rule.",
)

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "Fusion": {"bins": 24},
    "CNNTransformer": {"window_size": 30, "thermal_frames": 10, "embed_dim": 32},
    "LogisticRegression": {},
}
FEW_TREES = {"n_estimators": 20}


def _installed(model):
    package = getattr(model, "PACKAGE", None)
    return pytest.mark.skipif(bool(package) and not find_spec(package), reason=f"{package} is an extra")


MODELS = [locate(name) for name in WHITELIST if name.startswith("conveyorguard.models.")]


@pytest.mark.parametrize("model", [pytest.param(model, marks=_installed(model)) for model in MODELS])
def test_model_of_the_package_keeps_the_contract(model):
    check_model(model, **SETTINGS.get(model.__name__, FEW_TREES))


def test_check_imports_no_hydra_and_leaves_the_random_state_unchanged():
    code = """if True:
        import sys, torch
        from conveyorguard.models import check_model
        from conveyorguard.models.fusion import Fusion
        torch.manual_seed(3)
        before = torch.random.get_rng_state()
        check_model(Fusion, bins=24, width=16)
        assert torch.equal(before, torch.random.get_rng_state())
        assert not {"hydra", "omegaconf", "pytorch_lightning"} & set(sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Mean(nn.Module):
    """A network that keeps the contract: a linear layer on the mean over time of each input."""

    NEEDS = {}  # noqa: RUF012
    PER_SECOND = False
    KEYS = {"sensors": "sensors", "thermal": "thermal_stats", "environment": "environment"}  # noqa: RUF012

    def __init__(self, schema, inputs):
        super().__init__()
        self.states = len(schema.states)
        widths = {"sensors": len(schema.channels), "thermal": 6, "environment": len(schema.environment)}
        self.layers = nn.ModuleDict({name: nn.Linear(widths[name], self.states) for name in inputs})

    def of_window(self, batch):
        return sum(layer(batch[self.KEYS[name]].mean(1)) for name, layer in self.layers.items())

    def forward(self, batch):
        return {"window": self.of_window(batch)}


class NoNeeds(Mean):
    NEEDS = None


class NeedsOfAnUnknownInput(Mean):
    NEEDS = {"frames": "camera"}  # noqa: RUF012


class PerSecondUndeclared(Mean):
    PER_SECOND = None


class BareLogits(Mean):
    def forward(self, batch):
        return self.of_window(batch)


class OneStateTooFew(Mean):
    def forward(self, batch):
        return {"window": self.of_window(batch)[:, 1:]}


class UnannouncedSeconds(Mean):
    def forward(self, batch):
        window = self.of_window(batch)
        return {"window": window, "second": window[:, None].expand(-1, 30, -1)}


class MissingSeconds(Mean):
    PER_SECOND = True


class SecondsOfAnotherLength(Mean):
    PER_SECOND = True

    def forward(self, batch):
        window = self.of_window(batch)
        return {"window": window, "second": window[:, None].expand(-1, 29, -1)}


class NotFinite(Mean):
    def forward(self, batch):
        return {"window": self.of_window(batch).sub(1e9).sqrt()}


class Crosstalk(Mean):
    def forward(self, batch):
        window = self.of_window(batch)
        return {"window": window - window.mean(0)}


class Peeking(Mean):
    def forward(self, batch):
        return {"window": self.of_window(batch) + nn.functional.one_hot(batch["window"], self.states)}


class AlwaysNoisy(Mean):
    def forward(self, batch):
        window = self.of_window(batch)
        return {"window": window + torch.rand_like(window)}


class IgnoresTheSeed(Mean):
    def __init__(self, schema, inputs):
        torch.seed()
        super().__init__(schema, inputs)


class UnusedLayer(Mean):
    def __init__(self, schema, inputs):
        super().__init__(schema, inputs)
        self.unused = nn.Linear(2, 2)


class Detached(Mean):
    def forward(self, batch):
        return {"window": self.of_window(batch).detach()}


class InfiniteGradient(Mean):
    def forward(self, batch):
        return {"window": self.of_window(batch).mul(0).abs().sqrt()}


class Forgetful(Mean):
    """Draws numbers that are not in its state_dict."""

    def __init__(self, schema, inputs):
        super().__init__(schema, inputs)
        self.drawn = torch.rand(self.states)

    def forward(self, batch):
        return {"window": self.of_window(batch) * self.drawn}


class MeanOfMeasuredSeconds(Mean):
    def forward(self, batch):
        measured = batch["mask"].all(-1).float()
        return {"window": self.of_window(batch) * measured.sum(1, keepdim=True) / measured.sum(1, keepdim=True)}


class NeedsTheEnvironment(Mean):
    def forward(self, batch):
        return {"window": self.of_window(batch) + batch["environment"].mean((1, 2))[:, None]}


class FailsWithoutSensors(Mean):
    def __init__(self, schema, inputs):
        inputs[inputs.index("sensors")]
        super().__init__(schema, inputs)


BROKEN = {
    NoNeeds: "NoNeeds.NEEDS must say which settings matter with one input only",
    NeedsOfAnUnknownInput: "NEEDS must say .* it is {'frames': 'camera'}",
    PerSecondUndeclared: "PER_SECOND must be True",
    BareLogits: 'must return {"window": logits}, not Tensor',
    OneStateTooFew: r"OneStateTooFew with inputs sensors must return window of shape \(4, 4\), not \(4, 3\)",
    UnannouncedSeconds: "exactly if PER_SECOND is true; it is False",
    MissingSeconds: "exactly if PER_SECOND is true; it is True",
    SecondsOfAnotherLength: r"must return second of shape \(4, 30, 4\), not \(4, 29, 4\)",
    NotFinite: "must return finite numbers; some of window are not",
    Crosstalk: "must judge each window by itself",
    Peeking: "must not read the targets",
    AlwaysNoisy: "must judge each window by itself|must give the same logits twice",
    IgnoresTheSeed: "must follow from torch's seed",
    UnusedLayer: r"a gradient to each parameter.* none reached unused\.bias, unused\.weight",
    Detached: "must be differentiable",
    InfiniteGradient: "must have finite gradients",
    Forgetful: "the state_dict of another",
    MeanOfMeasuredSeconds: "must return finite logits of windows whose seconds were repaired",
    NeedsTheEnvironment: "with inputs sensors fails on a batch of these inputs alone: KeyError: 'environment'",
    FailsWithoutSensors: "with inputs thermal must be built .* or refused with a ConfigError; it raises ValueError",
}


@pytest.mark.parametrize("model", BROKEN, ids=lambda model: model.__name__)
def test_network_that_breaks_a_rule_is_refused_by_name_of_the_rule(model):
    with pytest.raises(AssertionError, match=BROKEN[model]):
        check_model(model)


def test_small_network_keeps_the_contract():
    check_model(Mean)


def test_combination_of_inputs_refused_by_config_error_is_skipped():
    class SensorsOnly(NeedsTheEnvironment):
        def __init__(self, schema, inputs):
            if inputs != ["sensors", "environment"]:
                raise ConfigError("it takes sensors and the environment")
            super().__init__(schema, inputs)

    check_model(SensorsOnly)


def test_network_that_refuses_every_combination_raises_config_error():
    class Nothing(Mean):
        def __init__(self, schema, inputs):
            raise ConfigError("not today")

    with pytest.raises(ConfigError, match="Nothing must take at least one combination of inputs: not today"):
        check_model(Nothing)


def test_schema_without_camera_builds_no_network_with_thermal(plain_schema):
    seen = []

    class Noting(Mean):
        def __init__(self, schema, inputs):
            seen.append(tuple(inputs))
            super().__init__(schema, inputs)

    check_model(Noting, schema=plain_schema)
    assert set(seen) == {("sensors",), ("sensors", "environment")}


class OtherShape(ExtraTrees):
    def probabilities(self, x):
        return super().probabilities(x)[:, 1:]


class OverOne(ExtraTrees):
    def probabilities(self, x):
        return super().probabilities(x) * 2


class ColumnsReversed(ExtraTrees):
    def probabilities(self, x):
        return super().probabilities(x)[:, ::-1]


class ProbabilityForAbsentState(ExtraTrees):
    def probabilities(self, x):
        return 0.6 * super().probabilities(x) + 0.1


class TabularCrosstalk(ExtraTrees):
    def probabilities(self, x):
        p = super().probabilities(x) + 0.01 * np.nan_to_num(x).mean() ** 2
        return p / p.sum(axis=1, keepdims=True)


class TabularIgnoresTheSeed(ExtraTrees):
    def __init__(self, schema, seed, threads, **settings):
        super().__init__(schema, int.from_bytes(os.urandom(3)), threads, **settings)


class Pickled(ExtraTrees):
    def save(self, path):
        path.write_bytes(pickle.dumps(self.estimator))


class TorchArchive(ExtraTrees):
    def save(self, path):
        torch.save({}, path)


class SavesNothing(ExtraTrees):
    def save(self, path):
        pass


class DoesNotLoad(ExtraTrees):
    def load(self, path):
        raise OSError("no such format")


class LoadsAnother(ExtraTrees):
    def load(self, path):
        super().load(path)
        self.estimator.estimators_.pop()


class GainOfTwo(ExtraTrees):
    def gain(self):
        return np.array([0.5, 0.5])


class ContributionsOfTwo(ExtraTrees):
    def contributions(self, x):
        return np.array([0.5, 0.5])


class AnotherFile(ExtraTrees):
    FILE = "model.skops"


class EmptyPackage(ExtraTrees):
    PACKAGE = ""


BROKEN_TABULAR = {
    OtherShape: r"OtherShape must return probabilities of shape \(240, 4\), not \(240, 3\)",
    OverOne: "must return probabilities: finite, none below 0, with sum 1",
    ColumnsReversed: "keep the columns in the order of the states",
    ProbabilityForAbsentState: "a probability near 0 to a state that no train window has",
    TabularCrosstalk: "must judge each window by itself",
    TabularIgnoresTheSeed: "must follow from its seed",
    Pickled: "a pickle may execute anything",
    TorchArchive: "a pickle may execute anything",
    SavesNothing: "must write the file best.skops",
    DoesNotLoad: "must load what it has saved; it raises OSError: no such format",
    LoadsAnother: "must give the same probabilities once loaded",
    GainOfTwo: r"gain\(\) must give each feature its share",
    ContributionsOfTwo: r"contributions\(x\) must give a number for each feature",
    AnotherFile: "FILE must name its checkpoint, best",
    EmptyPackage: "PACKAGE must name the package",
}


@pytest.mark.parametrize("model", BROKEN_TABULAR, ids=lambda model: model.__name__)
def test_tabular_model_that_breaks_a_rule_is_refused_by_name_of_the_rule(model):
    with pytest.raises(AssertionError, match=BROKEN_TABULAR[model]):
        check_model(model, **FEW_TREES)


def test_tabular_model_without_its_package_raises_config_error():
    class Elsewhere(ExtraTrees):
        PACKAGE = "no_such_package_anywhere"

    with pytest.raises(ConfigError, match="Elsewhere needs the package no_such_package_anywhere"):
        check_model(Elsewhere)
