"""07 Final comparison: every model of the study on the same windows, with intervals, shortcuts and a conclusion.

python experiments/07_final_comparison.py [overrides of train.py] [--fresh] [--small|--full] [out=DIR]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from experiments.stages.command_line import main
from experiments.stages.final_page import write_final
from experiments.stages.study import StagedStudy


def run(study: StagedStudy) -> Path:
    """Write the page of the stage, and return its path."""
    return write_final(study.site, *study.finished())


def units(study: StagedStudy) -> int:
    """Return 0: the stage trains nothing."""
    return 0


if __name__ == "__main__":
    sys.exit(main(__doc__, {"07_final_comparison": (run, units)}))
