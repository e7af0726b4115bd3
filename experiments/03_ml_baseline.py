"""03 Trees: LightGBM, forests and a linear model on window statistics, by features and by inputs.

python experiments/03_ml_baseline.py [overrides of train.py] [--fresh] [--small|--full] [out=DIR]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from experiments.stages.command_line import main
from experiments.stages.study import StagedStudy, units_of_runs
from experiments.stages.trees_page import write_trees

MODELS = {
    **{name: [f"model={name}"] for name in ("lightgbm", "extra_trees", "random_forest", "logistic_regression")},
    "lightgbm_extended": ["model=lightgbm", "features=extended"],
    "lightgbm_without_start": ["model=lightgbm", "features=extended", "features.from_start=false"],
    "extra_trees_extended": ["model=extra_trees", "features=extended"],
    "random_forest_extended": ["model=random_forest", "features=extended"],
    "logistic_regression_extended": ["model=logistic_regression", "features=extended"],
}
# of the cell of both modalities with film, the run `lightgbm` above is used
OTHER_CELLS = {cell: name for cell, name in {**CELLS, **FURTHER_CELLS}.items() if cell != ("both", True)}
ABLATION = {
    f"lightgbm_{modality}_{'film' if film else 'plain'}": [
        "model=lightgbm",
        f"modality={modality}",
        f"film={str(film).lower()}",
    ]
    for modality, film in OTHER_CELLS
}


def run(study: StagedStudy) -> Path:
    """Train the runs of the stage, write its page, and return its path."""
    models, others = study.train_all(MODELS), study.train_all(ABLATION)
    cells = dict(zip(OTHER_CELLS.values(), others.values(), strict=True)) | {CELLS["both", True]: models["lightgbm"]}
    return write_trees(study.site, models, cells, shown="lightgbm")


units = units_of_runs({**MODELS, **ABLATION})

if __name__ == "__main__":
    sys.exit(main(__doc__, {"03_ml_baseline": (run, units)}))
