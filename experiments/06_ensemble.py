"""06 Ensemble: voting, weighted voting and stacking of the models of stages 02 to 04 and of the default model.

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
    """The few epochs of a small study are for the slow networks; the default model takes a second for one and has all
    of them."""
    all_of_them = study.size == "small" and not any(line.startswith(f"{EPOCHS}=") for line in study.overrides)
    return {"fusion": ["model=fusion", *([f"{EPOCHS}=30"] if all_of_them else [])], **OTHERS}


def run(study: StagedStudy) -> Path:
    return write_ensemble_stage(study.site, study.train_all(runs(study)), study.out / "runs" / "ensemble")


def units(study: StagedStudy) -> int:
    return units_of_runs(runs(study))(study)


if __name__ == "__main__":
    sys.exit(main(__doc__, {"06_ensemble": (run, units)}))
