"""What judging every second costs a default run: user CPU seconds of train.py, beside those of window.label=majority.

python experiments/every_second.py [models=NAME,...] [repeats=N] [out=FILE] [overrides of train.py]

Trains each of the models (by default all: lightgbm, lightgbm_extended, fusion) with `window.label=last` and with
`majority`, in turn, on one thread, so that what else runs on the machine disturbs both alike; the fastest of the
repeats (default 3) counts. Writes the table as csv (default experiments/every_second.csv).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

MODELS = {
    "lightgbm": ["model=lightgbm"],
    "lightgbm_extended": ["model=lightgbm", "features=extended"],
    "fusion": ["model=fusion"],
}
LABELS = ("majority", "last")
OPTIONS = {"models": ",".join(MODELS), "repeats": "3", "out": str(Path(__file__).parent / "every_second.csv")}
TRAIN = Path(__file__).resolve().parents[1] / "train.py"


def main(words: list[str]) -> None:
    """Measure, print and write the table."""
    options = OPTIONS | {key: value for key, _, value in (w.partition("=") for w in words) if key in OPTIONS}
    overrides = [word for word in words if word.partition("=")[0] not in OPTIONS]
    chosen = {name: MODELS[name] for name in options["models"].split(",")}
    seconds: dict[tuple[str, str], list[float]] = {}
    with TemporaryDirectory() as folder:
        user_seconds(["model=lightgbm", *overrides], folder)  # builds the frame store
        for _ in range(int(options["repeats"])):
            for model, settings in chosen.items():
                for label in LABELS:
                    took = user_seconds([*settings, f"window.label={label}", *overrides], folder)
                    seconds.setdefault((model, label), []).append(took)
    rows = [
        {"model": model, **{label: min(seconds[model, label]) for label in LABELS}, "runs": int(options["repeats"])}
        for model in chosen
    ]
    table = pd.DataFrame(rows).assign(ratio=lambda rows: rows["last"] / rows["majority"]).round(2)
    print(table.to_string(index=False))
    table.to_csv(options["out"], index=False)


def user_seconds(overrides: list[str], folder: str) -> float:
    """Return the user CPU time [s] of a training on one thread, its store in the folder."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CONVEYORGUARD_CACHE": f"{folder}/cache"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command = [sys.executable, str(TRAIN), *overrides, "threads=1", f"hydra.run.dir={folder}/run"]
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before


if __name__ == "__main__":
    main(sys.argv[1:])
