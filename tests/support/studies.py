"""Staged studies on 12 simulated sessions."""

import pandas as pd
import pytest

from conveyorguard.reporting.eda_page import write_eda
from experiments.stages.preprocess_page import write_preprocess
from experiments.stages.seed_figures import REFERENCE
from experiments.stages.study import StagedStudy

TINY = ["data=simulated", "data.sessions=12", "trainer=cpu", "trainer.max_epochs=1", "threads=1"]
LINEAR = ["model=logistic_regression", "modality=sensor"]


@pytest.fixture(scope="session")
def tiny(cache):
    """Make a study on 12 sessions, with networks of 1 epoch, in a folder that the test gives."""

    def make(out, *overrides, **settings):
        return StagedStudy(out, overrides=[*TINY, f"paths.cache={cache}", *overrides], **settings)

    return make


@pytest.fixture(scope="session")
def explored(tiny, tmp_path_factory):
    """A study with the pages of stages 00 and 01; tests only read it."""
    study = tiny(tmp_path_factory.mktemp("explored"), size="small")
    write_eda(study.site, study.data(), REFERENCE)
    write_preprocess(study.site, study.data(), study.config().scaling.fit_on)
    return study


def table(study, name):
    """Return a table of the study's site."""
    return pd.read_csv(study.out / "tables" / f"{name}.csv")


@pytest.fixture(scope="session")
def linear(tiny, tmp_path_factory):
    """The directory of a trained run of a study; tests only read or copy it."""
    return tiny(tmp_path_factory.mktemp("linear")).train("linear", LINEAR).folder
