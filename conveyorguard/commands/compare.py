"""Put runs side by side."""

from __future__ import annotations

from conveyorguard.commands.arguments import new_folder, several_paths


def main(arguments: list[str]) -> None:
    """compare RUN... | compare MULTIRUN_DIR [out=DIRECTORY]

    Put runs side by side, or all runs of a multirun: every metric with its interval, paired differences, the shortcut
    baselines, seeds averaged, folds pooled. Writes comparison.html and its tables as csv into `out`: by default the
    multirun's directory, or a new one in outputs/. Runs over different windows or splits are refused.
    """
    from conveyorguard.evaluation.compare import compare
    from conveyorguard.reporting.compare_page import write_comparison
    from conveyorguard.reporting.terminal import print_comparison

    paths, out = several_paths(arguments, "compare")
    comparison = compare(paths)
    multirun = len(paths) == 1 and not (paths[0] / "config.yaml").exists()
    print_comparison(comparison)
    print(write_comparison(comparison, out or (paths[0] if multirun else new_folder("comparison"))))
