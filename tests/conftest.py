"""Fixtures shared by several folders: schemas, small stores, and those of tests/support."""

import functools
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from omegaconf import OmegaConf

from conveyorguard.config.compose import compose_config, config_dir
from conveyorguard.data.schema import Schema
from conveyorguard.data.session import Session
from conveyorguard.data.store_build import prepare
from conveyorguard.runs.data import load_store

# helpers of tests show what was compared when an assertion fails, as tests do
pytest.register_assert_rewrite("tests.checks", "tests.data", "tests.sweeps", "tests.system")
pytest_plugins = [
    "tests.support.runs",
    "tests.support.made_runs",
    "tests.support.pages",
    "tests.support.studies",
    "tests.support.recorded",
    "tests.support.plant",
]

# machines are shared, so the time of an example means nothing
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")
# for `make mutation`, which runs the same tests a thousand times: few, fixed examples without shrinking
settings.register_profile(
    "mutation",
    parent=settings.get_profile("shared"),
    max_examples=15,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)

# a shell ignores Ctrl-C for background processes, and tests that send it would wait forever
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Mark the tests on the full simulated set, which takes seconds to build, as `twin`; put watch tests first.

    Tests of the watch wait for minutes; at the end of a parallel run the other workers would be idle meanwhile.
    """
    items.sort(key=lambda item: not item.path.name.startswith("test_watch"))
    for item in items:
        if "twin" in item.fixturenames:
            item.add_marker("twin")


@pytest.fixture(scope="session")
def schema_node():
    """Return the `schema` block of conf/data/aihub.yaml as a new plain mapping, with changes."""

    def make(**changes):
        cfg = OmegaConf.create({"data": OmegaConf.load(config_dir() / "data" / "aihub.yaml")})
        return {**OmegaConf.to_container(cfg.data.schema, resolve=True), **changes}

    return make


@pytest.fixture(scope="session")
def schema(schema_node):
    return Schema.from_config(schema_node())


@pytest.fixture(scope="session")
def plain_schema():
    """A schema of two channels, one environment channel, four states and no camera."""
    return Schema.from_config(
        {
            "channels": {"heat": {"unit": "degC"}, "amps": {"unit": "A", "scaling": "log"}},
            "environment": {"air": {"unit": "degC"}},
            "states": [{"name": name} for name in ("normal", "minor", "moderate", "severe")],
        }
    )


@pytest.fixture(scope="session")
def session_of():
    """Build a session from times and states; other arrays are derived from the times unless given."""

    def make(name, time, state=None, device="a01", kind="a", **arrays):
        time = np.asarray(time)
        arrays.setdefault("sensors", np.stack([20 + 0.1 * time, 1 + 0.01 * time], axis=1))
        arrays.setdefault("environment", np.full((len(time), 1), 22.0))
        return Session(name, device, kind, time, state=None if state is None else np.asarray(state), **arrays)

    return make


def _given(root, schema, sessions):
    return sessions


@pytest.fixture
def store_of(tmp_path):
    """Build a new store of the given sessions."""
    count = iter(range(100_000))

    def make(sessions, schema, **options):
        return prepare(
            functools.partial(_given, sessions=sessions),
            schema,
            None,
            tmp_path / f"store{next(count)}",
            "given",
            jobs=1,
            **options,
        )

    return make


@pytest.fixture(scope="session")
def twin_config(tmp_path_factory):
    """Compose the config of the full simulated set, 341 sessions, without its camera."""
    cache = tmp_path_factory.mktemp("twin")

    def make(*overrides):
        return compose_config(
            [
                "data=simulated",
                "data.sessions=341",
                "data.schema.thermal=null",
                "modality=sensor",
                "trainer=cpu",
                f"paths.cache={cache}",
                *overrides,
            ]
        )

    return make


@pytest.fixture(scope="session")
def twin(twin_config):
    """The store of `twin_config`."""
    return load_store(twin_config())
