"""00 Data: what was recorded, how the states show in it, and what follows for a model.

python experiments/00_eda.py [overrides of train.py] [--fresh] [--small|--full] [out=DIR]
e.g. python experiments/00_eda.py data=aihub data.root=PATH --full
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from conveyorguard.reporting.eda_page import write_eda
from experiments.stages.command_line import main
from experiments.stages.seed_figures import REFERENCE
from experiments.stages.study import StagedStudy


def run(study: StagedStudy) -> Path:
    """Write the page of the stage, and return its path."""
    return write_eda(study.site, study.data(), REFERENCE)


def units(study: StagedStudy) -> int:
    """Return 0: the stage trains nothing."""
    return 0


if __name__ == "__main__":
    sys.exit(main(__doc__, {"00_eda": (run, units)}))
