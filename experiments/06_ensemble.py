"""06 Ensemble: voting, weighted voting and stacking of the models of stages 02 to 04 and of the default model.

python experiments/06_ensemble.py [overrides of train.py] [--fresh] [--small|--full] [out=DIR]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from conveyorguard.reporting.final_page import write_ensemble_stage
from conveyorguard.stages import Study, main, units_of_runs

RUNS = {
    "fusion": ["model=fusion"],
    "lightgbm": ["model=lightgbm"],
    "extra_trees": ["model=extra_trees"],
    "baseline_cnn": ["experiment=baseline_cnn"],
    "dl_tuned": ["experiment=dl_tuned"],
}


def run(study: Study) -> Path:
    return write_ensemble_stage(study.site, study.train_all(RUNS), study.out / "runs" / "ensemble")


units = units_of_runs(RUNS)

if __name__ == "__main__":
    sys.exit(main(__doc__, {"06_ensemble": (run, units)}))
