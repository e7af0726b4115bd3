"""01 Windows and split: how recordings become windows, who trains, validates and tests, and whether anything leaks.

python experiments/01_preprocess.py [overrides of train.py] [--fresh] [--small|--full] [out=DIR]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from experiments.stages.command_line import main
from experiments.stages.preprocess_page import write_preprocess
from experiments.stages.study import StagedStudy


def run(study: StagedStudy) -> Path:
    return write_preprocess(study.site, study.data(), study.config().scaling.fit_on)


def units(study: StagedStudy) -> int:
    return 0


if __name__ == "__main__":
    sys.exit(main(__doc__, {"01_preprocess": (run, units)}))
