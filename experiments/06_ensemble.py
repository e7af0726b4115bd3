"""06 Ensemble: voting, weighted voting and stacking of the models of stages 02 to 04 and the default model.

python experiments/06_ensemble.py [overrides of train.py] [--fresh] [--small|--full] [out=DIR]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from experiments.stages.command_line import main
from experiments.stages.final_page import write_ensemble_stage
from experiments.stages.study import Overrides, StagedStudy, units_of_runs

EPOCHS = "trainer.max_epochs"
OTHERS = {
    "lightgbm": ["model=lightgbm"],
    "extra_trees": ["model=extra_trees"],
    "baseline_cnn": ["experiment=baseline_cnn"],
    "dl_tuned": ["experiment=dl_tuned"],
}


def runs(study: StagedStudy) -> dict[str, Overrides]:
    """Return the overrides of each member, by run name.

    A small study trains its networks for a few epochs. The default model, at about a second an epoch, is exempt.
    """
    is_exempt = study.size == "small" and not any(line.startswith(f"{EPOCHS}=") for line in study.overrides)
    return {"fusion": ["model=fusion", *([f"{EPOCHS}=30"] if is_exempt else [])], **OTHERS}


def run(study: StagedStudy) -> Path:
    """Train the runs of the stage, write its page, and return its path."""
    return write_ensemble_stage(study.site, study.train_all(runs(study)), study.out / "runs" / "ensemble")


def units(study: StagedStudy) -> int:
    """Return the units of work of the trainings of the stage."""
    return units_of_runs(runs(study))(study)


if __name__ == "__main__":
    sys.exit(main(__doc__, {"06_ensemble": (run, units)}))
