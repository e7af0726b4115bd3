"""Look for what would make the numbers of a run wrong."""

from __future__ import annotations

import sys

from conveyorguard.commands.arguments import one_path, take_options


def main(arguments: list[str]) -> None:
    """check RUN [depth=files|data|training] [key=value ...]

    Look for what would make the numbers of a run wrong, and say of each what was expected and what was found:
      files      sessions or devices in two parts of the split; predictions of other sessions, or without a part;
                 metrics, calibration or alarms that do not follow from predictions.parquet; a model card or a page with
                 other figures; an edited config; a file that does not hold what it should. Reads the run directory
                 alone.
      data       also: other recordings; another split, other windows, labels or facts of windows than the data
                 give; shortcuts or a history that are not of these data and this model; scaling or ranges fitted
                 outside train; predictions that the checkpoint does not give; a model that knows labels from constant
                 input; a modality that receives no gradient.
      training   (default) also: two small models of the run's kind, trained on shuffled labels and on constant
                 input, a minute or two, that are better than chance.
    Overrides say where the recordings are now (data.root=PATH). Exit status 1 when a check fails.
    """
    from conveyorguard.checks.run import DEEPEST, check_run

    folder, words = one_path(arguments, "check RUN")
    options, overrides = take_options(words, "depth")
    failed = []
    for outcome in check_run(folder, options.get("depth", DEEPEST), overrides):
        print(f"{outcome.verdict:>11}  {outcome.name}: {outcome.message}", flush=True)
        failed += [outcome.name] if outcome.verdict == "FAILED" else []
    if failed:
        print(f"{len(failed)} checks failed: {'; '.join(failed)}")
        sys.exit(1)
    print("no check failed")
