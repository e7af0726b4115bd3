"""02 First network: the seed study's CNN and Transformers on every frame, trained with its settings.

python experiments/02_baseline_cnn.py [overrides of train.py] [--fresh] [--small|--full] [out=DIR]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from experiments.stages.command_line import main
from experiments.stages.network_page import write_baseline
from experiments.stages.study import StagedStudy, units_of_runs

RUNS = {"baseline_cnn": ["experiment=baseline_cnn"]}


def run(study: StagedStudy) -> Path:
    """Train the runs of the stage, write its page, and return its path."""
    return write_baseline(study.site, study.train_all(RUNS)["baseline_cnn"])


units = units_of_runs(RUNS)

if __name__ == "__main__":
    sys.exit(main(__doc__, {"02_baseline_cnn": (run, units)}))
