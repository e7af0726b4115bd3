"""04 Tuning and ablation: the search, the ablation with its best parameters, and the effect of each speed-up.

python experiments/04_dl_tuning.py [overrides of train.py] [--fresh] [--small|--full] [out=DIR]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

from conveyorguard.evaluation.cells import CELLS, FURTHER_CELLS
from conveyorguard.sweeps.space import override
from experiments.stages.command_line import main
from experiments.stages.speed import speed_techniques
from experiments.stages.study import Overrides, StagedStudy, units_of_runs
from experiments.stages.tuning_page import Tuning, write_tuning

PRESET = {"dl_tuned": ["experiment=dl_tuned"]}  # the parameters that the seed study found
SEARCH = ["experiment=dl_tuned"]
DEFAULTS = {
    "small": [
        "sweep.n_trials=3",
        "trainer.max_epochs=2",
        "sweep.pruner.n_startup_trials=1",
        "sweep.pruner.n_warmup_steps=0",
    ],
    "full": ["sweep.timeout=null"],
}


def cells(best: Overrides) -> dict[str, Overrides]:
    """Return the overrides of the six cells of the ablation, by run name.

    Args:
        best: overrides of the best parameters.
    """
    return {
        f"tuned_{modality}_{'film' if film else 'plain'}": [
            "experiment=dl_tuned",
            f"modality={modality}",
            f"film={str(film).lower()}",
            *best,
        ]
        for modality, film in (*CELLS, *FURTHER_CELLS)
    }


def run(study: StagedStudy) -> Path:
    """Train the runs of the stage, write its page, and return its path."""
    search = study.search("search", SEARCH, DEFAULTS[study.size])
    best = [override(name, value) for name, value in search.best_params.items()]
    runs = study.train_all(cells(best))
    ablation = dict(zip((*CELLS.values(), *FURTHER_CELLS.values()), runs.values(), strict=True))
    preset = study.train_all(PRESET)["dl_tuned"]
    speed = speed_techniques(study.config(PRESET["dl_tuned"]), study.data(study.config(PRESET["dl_tuned"])), search)
    tuning = Tuning(
        search,
        study.sweep_config(SEARCH, DEFAULTS[study.size]),
        study.out / "runs" / "search",
        ablation,
        preset,
        study.find("baseline_cnn"),
        study.find("lightgbm"),
        speed,
    )
    return write_tuning(study.site, tuning)


def units(study: StagedStudy) -> int:
    """Return the units of work of the trainings of the stage."""
    return study.units_of_search(SEARCH, DEFAULTS[study.size]) + units_of_runs({**cells([]), **PRESET})(study)


if __name__ == "__main__":
    sys.exit(main(__doc__, {"04_dl_tuning": (run, units)}))
