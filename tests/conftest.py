"""What the tests of several folders share: the schemas, stores of a few lines, and the fixtures of tests/support."""

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

# helpers of the tests say what was compared, as tests do
pytest.register_assert_rewrite("tests.checks", "tests.data", "tests.sweeps", "tests.system")
pytest_plugins = [
    "tests.support.runs",
    "tests.support.made_runs",
    "tests.support.pages",
    "tests.support.studies",
    "tests.support.recorded",
]

# machines are shared: how long an example takes says nothing
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")
# for `make mutation`, where the same tests run a thousand times: few examples, the same ones, none of them made smaller
settings.register_profile(
    "mutation",
    parent=settings.get_profile("shared"),
    max_examples=15,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
)

# a shell starts what shall run in the background deaf to Ctrl-C, and the tests that press it would wait for nothing
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    """Marks the tests on the simulated set at full size, which takes seconds to make: `-m "not twin"`. Those of the
    watch, which wait for minutes to pass, come first: at the end another worker would have nothing left to do
    meanwhile."""
    items.sort(key=lambda item: not item.path.name.startswith("test_watch"))
    for item in items:
        if "twin" in item.fixturenames:
            item.add_marker("twin")


@pytest.fixture(scope="session")
def schema_node():
    """The `schema` block of conf/data/aihub.yaml as a plain mapping, a new one each time."""

    def make(**changes):
        cfg = OmegaConf.create({"data": OmegaConf.load(config_dir() / "data" / "aihub.yaml")})
        return {**OmegaConf.to_container(cfg.data.schema, resolve=True), **changes}

    return make


@pytest.fixture(scope="session")
def schema(schema_node):
    return Schema.from_config(schema_node())


@pytest.fixture(scope="session")
def plain_schema():
    """Two channels, one of them in A, one environment channel, four states, no camera."""
    return Schema.from_config(
        {
            "channels": {"heat": {"unit": "degC"}, "amps": {"unit": "A", "scaling": "log"}},
            "environment": {"air": {"unit": "degC"}},
            "states": [{"name": name} for name in ("normal", "minor", "moderate", "severe")],
        }
    )


@pytest.fixture(scope="session")
def session_of():
    """A session of the given times and states; what is not given is made from the times."""

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
    """A store of the given sessions; every call makes a new one."""
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
    """Overrides to the config of the simulated set at full size, 341 sessions, without its camera."""
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
