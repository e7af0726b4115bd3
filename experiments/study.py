"""The whole study: every stage in order, with an index page. Complete runs are reused.

python experiments/study.py [overrides of train.py] [--fresh] [--small|--full] [out=DIR]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from importlib import import_module

from experiments.stages.command_line import main
from experiments.stages.study import TITLES

if __name__ == "__main__":
    stages = {name: import_module(name) for name in TITLES}  # the scripts beside this one
    sys.exit(main(__doc__, {name: (stage.run, stage.units) for name, stage in stages.items()}))
