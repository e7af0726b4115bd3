"""Find the best model for a data set."""

from __future__ import annotations

from conveyorguard.commands.words.parser import VerbParser

PARSER = VerbParser(
    "best [data=NAME] [minutes=30] [workers=N] [out=FOLDER] [KEY=VALUE ...]",
    """\
Find the best model for a data set and train it. Candidates are trees, a linear model and the network; each is trained
on folds of devices over train and validation together, and judged by the state now on devices it was not trained on.
The plan is printed and saved before the first training; what does not fit into the minutes is left out of it.

The chosen model is trained on all of train and validation, and looks at the test part once. FOLDER, by default
outputs/best/NAME, then holds best.html (candidates with intervals, the reason, a learning curve) and model/, a run
directory that predict, watch, export and compare take. The same command goes on where it was interrupted.
modality=sensor,both and film=true,false restrict or extend the candidates.""",
    """\
best                                           the simulated recordings
best --config-dir conf data=plant minutes=10
best data=aihub data.root=PATH workers=2 modality=sensor""",
    settings=["out", "minutes", "workers"],
)


def main(arguments: list[str]) -> None:
    """Search, print the choice and write the page."""
    from conveyorguard.commands.search import search
    from conveyorguard.errors import ConfigError
    from conveyorguard.reporting.best_page import write_best

    words = PARSER.parse_words(arguments)
    values = {}
    for name, default, least in (("minutes", "30", 0.0), ("workers", "1", 1.0)):
        text = words.settings.get(name, default)
        try:
            values[name] = float(text)
        except ValueError:
            values[name] = -1.0
        if not least <= values[name] < float("inf") or (name == "workers" and values[name] % 1):
            raise ConfigError(f"{name}={text}: write a number, e.g. {name}={default}")
    result = search(words, values["minutes"], int(values["workers"]))
    page = write_best(result)
    print(f"{result.choice.reason}: {result.folder / 'model'}")
    print(page)
