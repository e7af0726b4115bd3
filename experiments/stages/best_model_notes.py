"""Notes at the end of the best model's summary: on its runs, and on what `diagnose` would recommend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import median

from conveyorguard.evaluation.advice import SINGLE as DIAGNOSED
from conveyorguard.evaluation.advice import advise
from conveyorguard.runs.provenance import commit_of
from conveyorguard.runs.saved import SavedRun

SINGLE = ("fusion_sensor_film", "fusion_image_film")
Runs = dict[str, dict[int, dict[int, SavedRun]]]  # runs[arm][seed][fold]


def each_run(runs: Runs) -> Iterator[tuple[str, SavedRun]]:
    """Yield the name of the arm and the run, for every run."""
    for arm, by_seed in runs.items():
        for by_fold in by_seed.values():
            for run in by_fold.values():
                yield arm, run


def notes_on_fusion(runs: Runs) -> list[str]:
    """Return a note on what the rule of `diagnose` recommends in each fold, for the seed that all its arms have."""
    arms = {"fusion": "fusion_both_film", **dict(zip(DIAGNOSED.values(), SINGLE, strict=True))}
    if not all(arm in runs for arm in arms.values()):
        return []
    seed = min(runs["fusion_both_film"])
    chosen = Counter(
        advise(run, {label: runs[arm][seed][fold] for label, arm in arms.items()}, "test").choice
        for fold, run in runs["fusion_both_film"][seed].items()
    )
    choices = ", ".join(f"{choice} in {count}" for choice, count in chosen.most_common())
    return [
        f"Recommended by the rule of `diagnose` on validation in {chosen.total()} folds: {choices}. The rule does not "
        "consider the use of the camera when a sensor fails."
    ]


def notes_on_runs(runs: dict[str, Runs]) -> list[str]:
    """Return notes on the commits of the runs, which may be older than the summary, and on their latency."""
    commits = Counter(commit_of(run.provenance["git"]) for of_split in runs.values() for _, run in each_run(of_split))
    fused = runs["kfold"]["fusion_both_film"]
    latencies = [run.provenance["latency_ms"] for by_fold in fused.values() for run in by_fold.values()]
    return [
        "Runs by the commit that trained them: "
        f"{', '.join(f'{count} of {commit}' for commit, count in commits.most_common())}.",
        "Latency of fusion_both_film when its runs were trained, possibly beside another training: median "
        f"{median(latencies):.1f} ms, maximum {max(latencies):.1f} ms a window. The target uses the latency now.",
    ]
