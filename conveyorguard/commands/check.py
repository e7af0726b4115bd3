"""Look for what would make the numbers of a run wrong."""

from __future__ import annotations

import sys

from conveyorguard.commands.words.parser import VerbParser

PARSER = VerbParser(
    "check RUN [depth=files|data|training] [KEY=VALUE ...]",
    """\
Look for what would make the numbers of a run wrong. Each check says what it expected and what it found:
  files      reads the run directory alone: sessions or devices in two parts of the split; metrics, calibration,
             alarms, model card or page that do not follow from predictions.parquet; an edited config
  data       also reads the recordings: other data, split, windows or labels; scaling fitted outside train;
             predictions that the checkpoint does not give; a modality without a gradient
  training   (default) also trains two small models, on shuffled labels and on constant input, a minute or two:
             they must not be better than chance
Exit status 1 where a check fails.""",
    """\
check outputs/2026-01-31/10-00-00-fusion-both
check RUN depth=files
check RUN depth=data data.root=PATH            where the recordings have moved""",
    paths="1",
    settings=["depth"],
)


def main(arguments: list[str]) -> None:
    """Check a run, print each verdict, and exit with status 1 where a check fails."""
    from conveyorguard.checks.run import DEEPEST, check_run
    from conveyorguard.commands.words.keys import refuse_unknown
    from conveyorguard.runs.saved import SavedRun

    words = PARSER.parse_words(arguments)
    if words.overrides:
        refuse_unknown(SavedRun(words.path, lazily=True), words.overrides)
    failed = []
    for outcome in check_run(words.path, words.settings.get("depth", DEEPEST), words.overrides):
        print(f"{outcome.verdict:>11}  {outcome.name}: {outcome.message}", flush=True)
        failed += [outcome.name] if outcome.verdict == "FAILED" else []
    if failed:
        print(f"{len(failed)} checks failed: {'; '.join(failed)}")
        sys.exit(1)
    print("no check failed")
