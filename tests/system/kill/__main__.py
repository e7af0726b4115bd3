"""kill -9 at random moments, then the same command again: no half-written file is read, no finished work is lost.

    python -m tests.system.kill                                   (make kill, which has a time limit)
    python -m tests.system.kill --stages prepare,training --kills 20 --seed 1 --seconds 1200

Stages: prepare (while the frame store is built), checkpoint (while a checkpoint file is written), training (between
start and end of a training), sweep (its parent or one of its trials). Each kill is a line of the log: stage, number,
victim, seconds since the stage was entered, what was on the disk. A kill counts only if it hit a living process inside
its stage. The result of each stage is compared with that of the same work undisturbed. Exit status 1 if something is
lost, repeated or different, or if there were fewer kills than requested.
"""

import argparse
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from conveyorguard.errors import ConveyorGuardError
from tests.system.kill.prepare import Prepare
from tests.system.kill.stage import Lost
from tests.system.kill.sweep import Sweep
from tests.system.kill.training import Checkpoint, Training

STAGES = {stage.name: stage for stage in (Prepare, Checkpoint, Training, Sweep)}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--stages", default=",".join(STAGES))
    options.add_argument("--kills", type=int, default=20, help="inside each stage")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument(
        "--seconds",
        type=float,
        default=float("inf"),
        help="limit for each stage; exit status 1 if it is too short for the kills",
    )
    arguments = options.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    failed, short = [], list[str]()
    with tempfile.TemporaryDirectory(prefix="kill-") as place:
        for name in arguments.stages.split(","):
            stage = STAGES[name](Path(place) / name, random.Random(f"{arguments.seed} {name}"))
            try:
                stage.run(arguments.kills, time.time() + arguments.seconds)
            except (Lost, AssertionError, ConveyorGuardError) as error:
                print(f"{name:>10}      LOST: {error}", flush=True)
                failed.append(name)
            finally:
                for process in stage.living():
                    process.kill()
            if len(stage.log) < arguments.kills:
                short.append(f"{name}: only {len(stage.log)} of {arguments.kills} kills within the limit")
    print("lost something: " + ", ".join(failed) if failed else "nothing was lost")
    print("\n".join(short), flush=True)
    return 1 if failed or short else 0


if __name__ == "__main__":
    sys.exit(main())
