"""01 Windows and split: windows of each part and state, the split into train, val and test, and checks for leakage.

python experiments/01_preprocess.py [overrides of train.py] [--fresh] [--small|--full] [out=DIR]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from experiments.stages.command_line import main
from experiments.stages.preprocess_page import write_preprocess
from experiments.stages.study import StagedStudy


def run(study: StagedStudy) -> Path:
    """Write the page of the stage, and return its path."""
    return write_preprocess(study.site, study.data(), study.config().scaling.fit_on)


def units(study: StagedStudy) -> int:
    """Return 0: the stage trains nothing."""
    return 0


if __name__ == "__main__":
    sys.exit(main(__doc__, {"01_preprocess": (run, units)}))
