"""Studies on a few recordings."""

import pytest

from experiments.stages.study import Study

TINY = ["data=simulated", "data.sessions=12", "trainer=cpu", "trainer.max_epochs=1", "threads=1"]


@pytest.fixture(scope="session")
def tiny(cache):
    """A study on 12 recordings with networks of one epoch, in a folder of the test's own."""

    def make(out, *overrides, **settings):
        return Study(out, overrides=[*TINY, f"paths.cache={cache}", *overrides], **settings)

    return make
