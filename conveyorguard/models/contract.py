"""The contract that trainings, checks, pages and exports rely on, checked for a model on synthetic data."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from conveyorguard.data.scaling import Scaling, ScalingSettings
from conveyorguard.data.schema import THERMAL_STATISTICS, Schema
from conveyorguard.data.windows import WindowSettings
from conveyorguard.errors import ConfigError
from conveyorguard.models.contract_tabular import check_tabular

__all__ = ["check_model"]

COMBINATIONS = [
    [*modality, *environment]
    for modality in (["sensors"], ["thermal"], ["sensors", "thermal"])
    for environment in ([], ["environment"])
]
WINDOWS = 4  # of the synthetic batch
LOGITS = ("window", "second")
STEPS = 5  # of the optimizer; within them a gate that starts at zero has opened to gradients
ROUNDING = 1e-4  # difference of logits that batches of other sizes may cause
SYNTHETIC = {
    "channels": {
        "heat": {"unit": "degC"},
        "current": {"unit": "A", "scaling": "log"},
        "dust": {"unit": "ug/m3"},
    },
    "environment": {"air": {"unit": "degC"}, "humidity": {"unit": "%"}},
    "thermal": {"shape": [30, 40], "stored": [15, 20]},
    "states": [{"name": name} for name in ("fine", "used", "worn", "broken")],
}


def check_model(
    model: type,
    *,
    schema: Schema | None = None,
    window: WindowSettings | None = None,
    scaling: ScalingSettings | None = None,
    **settings: Any,
) -> None:
    """Check on synthetic data that a model keeps the contract; it takes seconds.

    A network is built as `model(schema=..., inputs=[...], **settings)` for each combination of inputs; it may refuse
    one with a ConfigError. Its class names in `NEEDS` the settings that matter with one input only, and says in
    `PER_SECOND` whether it returns logits of each second. It takes a scaled batch, in which an unused input is a
    missing key, and returns {"window": (B, K), "second": (B, T, K) or absent} logits.

    A tabular model has `TABULAR = True`, is built as `model(schema=..., seed=..., threads=1, **settings)` and has the
    methods of `conveyorguard.models.tabular.Tabular`.

    Args:
        model: the class.
        schema: of the data it is for; None: a synthetic one.
        window: length of the windows and number of their frames.
        scaling: of a network's batches.
        settings: of the model, as its yaml gives them.

    Raises:
        AssertionError: the model breaks a rule; the message names it.
        ConfigError: it refuses every combination of inputs, or a package that it needs is not installed.

    Example:
        from conveyorguard.models import check_model
        from mypackage.models import MyModel

        def test_my_model_keeps_the_contract():
            check_model(MyModel, width=32)
    """
    schema = schema or Schema.from_config(SYNTHETIC)
    if getattr(model, "TABULAR", False):
        check_tabular(model, schema, settings)
        return
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # batches are so small that several threads are slower
    try:
        with torch.random.fork_rng(devices=[]):
            _check_network(model, schema, window or WindowSettings(), scaling or ScalingSettings(), settings)
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Candidate:
    """A network with one combination of inputs."""

    network: type
    schema: Schema
    window: WindowSettings
    scaling: ScalingSettings
    settings: dict[str, Any]
    inputs: list[str]

    def __str__(self) -> str:
        return f"{self.network.__name__} with inputs {', '.join(self.inputs)}"

    def build(self, seed: int) -> nn.Module:
        """Return the network with weights drawn from a seed.

        Raises:
            ConfigError: the network refuses these inputs.
            AssertionError: it cannot be built for another reason.
        """
        torch.manual_seed(seed)
        try:
            return self.network(schema=self.schema, inputs=list(self.inputs), **self.settings)
        except ConfigError:
            raise
        except Exception as error:
            raise AssertionError(
                f"{self} must be built from schema, inputs and settings, or refused with a ConfigError; it raises "
                f"{_described(error)}"
            ) from error

    def batch(self) -> dict[str, Tensor]:
        """Return a scaled batch of these inputs, always the same."""
        g, size = torch.Generator().manual_seed(0), self.window.size

        def uniform(low: float, high: float, *shape: int) -> Tensor:
            return low + (high - low) * torch.rand(WINDOWS, *shape, generator=g)

        states = len(self.schema.states)
        raw = {
            "index": torch.arange(WINDOWS),
            "mask": torch.ones(WINDOWS, size, 3, dtype=torch.bool),
            "window": torch.randint(states, (WINDOWS,), generator=g),
            "second": torch.randint(states, (WINDOWS, size), generator=g),
        }
        if "sensors" in self.inputs:
            channels = len(self.schema.channels)
            raw |= {"sensors": uniform(0, 2, size, channels), "sensors_start": uniform(0, 2, channels)}
        if "environment" in self.inputs:
            raw["environment"] = uniform(0, 2, size, len(self.schema.environment))
        if "thermal" in self.inputs:
            assert self.schema.thermal is not None
            frames, statistics = len(self.window.thermal_seconds), len(THERMAL_STATISTICS)
            raw["thermal"] = uniform(20, 100, frames, *self.schema.thermal.stored_shape)
            raw |= {
                "thermal_stats": uniform(20, 60, size, statistics),
                "thermal_stats_start": uniform(20, 60, statistics),
            }
        return Scaling(self.schema, self.scaling)(raw)

    def logits(self, network: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return what the network returns for a batch; an exception becomes an AssertionError."""
        try:
            return network(dict(batch))
        except Exception as error:
            raise AssertionError(
                f"{self} fails on a batch of these inputs alone: {_described(error)}. An input that is not used is a "
                "missing key: read what `inputs` names, or refuse the combination with a ConfigError when it is built"
            ) from error

    def evaluated(self, network: nn.Module, batch: dict[str, Tensor]) -> list[Tensor]:
        """Return the logits in evaluation mode: of the window and, if there are any, of the seconds."""
        with torch.no_grad():
            logits = self.logits(network.eval(), batch)
        return [logits[name] for name in LOGITS if name in logits]


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _check_network(
    network: type, schema: Schema, window: WindowSettings, scaling: ScalingSettings, settings: dict[str, Any]
) -> None:
    _must_declare_needs_and_seconds(network)
    refusals, claimed = [], []
    for inputs in COMBINATIONS:
        if not set(inputs) <= {*schema.inputs}:
            continue
        candidate = Candidate(network, schema, window, scaling, settings, inputs)
        try:
            candidate.build(0)
            claimed.append(candidate)
        except ConfigError as error:
            refusals.append(str(error))
    if not claimed:
        raise ConfigError(f"{network.__name__} must take at least one combination of inputs: {'; '.join(refusals)}")
    for candidate in claimed:
        for rule in NETWORK_RULES:
            rule(candidate)


def _must_declare_needs_and_seconds(network: type) -> None:
    name, needs = network.__name__, getattr(network, "NEEDS", None)
    assert isinstance(needs, dict) and {*needs.values()} <= {"sensors", "thermal", "environment"}, (
        f"{name}.NEEDS must say which settings matter with one input only, e.g. {{'frames': 'thermal'}}; it is {needs}"
    )
    per_second = getattr(network, "PER_SECOND", None)
    assert isinstance(per_second, bool), (
        f"{name}.PER_SECOND must be True if the model returns logits of each second, else False; it is {per_second}"
    )


def _must_return_logits(candidate: Candidate) -> None:
    network, batch = candidate.build(0), candidate.batch()
    states, per_second = len(candidate.schema.states), candidate.network.PER_SECOND  # type: ignore[attr-defined]
    for mode in (True, False):
        logits: Any = candidate.logits(network.train(mode), batch)
        assert isinstance(logits, dict) and "window" in logits, (
            f'{candidate} must return {{"window": logits}}, not {type(logits).__name__}'
        )
        assert ("second" in logits) == per_second, (
            f"{candidate} must return 'second', logits of each second, exactly if PER_SECOND is true; it is "
            f"{per_second}"
        )
        shapes = {"window": (WINDOWS, states), "second": (WINDOWS, candidate.window.size, states)}
        for name in shapes.keys() & logits.keys():
            shape = tuple(logits[name].shape)
            assert shape == shapes[name], f"{candidate} must return {name} of shape {shapes[name]}, not {shape}"
            assert logits[name].isfinite().all(), f"{candidate} must return finite numbers; some of {name} are not"


def _must_judge_each_window_by_itself(candidate: Candidate) -> None:
    network, batch = candidate.build(0), candidate.batch()
    whole = candidate.evaluated(network, batch)
    for i in range(WINDOWS):
        single = candidate.evaluated(network, {name: value[i : i + 1] for name, value in batch.items()})
        assert all(
            torch.allclose(a[i : i + 1], b, atol=ROUNDING, rtol=ROUNDING) for a, b in zip(whole, single, strict=True)
        ), (
            f"{candidate} must judge each window by itself: in evaluation, the other windows of the batch change its "
            "logits"
        )


def _must_not_read_the_labels(candidate: Candidate) -> None:
    network, batch = candidate.build(0), candidate.batch()
    other = {name: (batch[name] + 1) % len(candidate.schema.states) for name in ("index", "window", "second")}
    assert _equal(candidate.evaluated(network, batch), candidate.evaluated(network, {**batch, **other})), (
        f"{candidate} must not read the targets 'window' and 'second' or the 'index' that lie beside its inputs"
    )


def _must_be_repeatable(candidate: Candidate) -> None:
    batch = candidate.batch()
    first, again = (candidate.build(0) for _ in range(2))
    logits = candidate.evaluated(first, batch)
    assert _equal(logits, candidate.evaluated(first, batch)), (
        f"{candidate} must give the same logits twice in evaluation mode"
    )
    assert _equal(logits, candidate.evaluated(again, batch)), (
        f"{candidate} must follow from torch's seed: built twice with the same seed, it gives other logits"
    )


def _must_train_every_parameter(candidate: Candidate) -> None:
    network, batch = candidate.build(0), candidate.batch()
    without_gradient = {name for name, _ in network.named_parameters()}
    for sizes in _trained(candidate, network, batch):
        assert all(np.isfinite(size) for size in sizes.values()), (
            f"{candidate} must have finite gradients; some are not"
        )
        without_gradient -= {name for name, size in sizes.items() if size > 0}
        if not without_gradient:
            return
    raise AssertionError(
        f"{candidate} must give a gradient to each parameter, from what it returns; in {STEPS} steps none reached "
        f"{', '.join(sorted(without_gradient))}. Use or remove them: a training by several processes waits for each"
    )


def _trained(candidate: Candidate, network: nn.Module, batch: dict[str, Tensor]) -> Iterator[dict[str, float]]:
    """Train a few steps; yield the largest absolute gradient of each parameter that has one, step by step."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(STEPS):
        optimizer.zero_grad()
        logits = candidate.logits(network.train(), batch)
        loss = sum(
            (F.cross_entropy(logits[name].flatten(0, -2), batch[name].flatten()) for name in LOGITS if name in logits),
            torch.zeros(()),
        )
        assert loss.requires_grad, f"{candidate} must be differentiable: its logits have no gradient"
        loss.backward()
        yield {
            name: float(parameter.grad.abs().max())
            for name, parameter in network.named_parameters()
            if parameter.grad is not None
        }
        optimizer.step()


def _must_be_restored_by_its_state(candidate: Candidate) -> None:
    network, other, batch = candidate.build(0), candidate.build(1), candidate.batch()
    candidate.logits(network.train(), batch)  # a layer such as batch norm may keep statistics of it
    stream = io.BytesIO()
    torch.save(network.state_dict(), stream)
    stream.seek(0)
    try:
        other.load_state_dict(torch.load(stream, weights_only=True))
    except Exception as error:
        raise AssertionError(
            f"{candidate} must take back its own state_dict, loaded with weights_only=True; it raises "
            f"{_described(error)}"
        ) from error
    assert _equal(candidate.evaluated(network, batch), candidate.evaluated(other, batch)), (
        f"{candidate} must give the same logits with the state_dict of another: keep all that is learned or drawn in "
        "parameters and buffers"
    )


def _must_accept_repaired_seconds(candidate: Candidate) -> None:
    network, batch = candidate.build(0), candidate.batch()
    batch["mask"][0], batch["mask"][1:, ::2] = False, False
    assert all(bool(logits.isfinite().all()) for logits in candidate.evaluated(network, batch)), (
        f"{candidate} must return finite logits of windows whose seconds were repaired, even all of them ('mask' is "
        "False there)"
    )


NETWORK_RULES = (
    _must_return_logits,
    _must_judge_each_window_by_itself,
    _must_not_read_the_labels,
    _must_be_repeatable,
    _must_train_every_parameter,
    _must_be_restored_by_its_state,
    _must_accept_repaired_seconds,
)


def _equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
