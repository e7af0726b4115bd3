"""Every command and every Python block of README.md and docs/ works.

Each command is composed: its parser takes it and its config can be built. Those that need nothing but this machine are
also run, document by document in an empty folder, with sizes turned down. A command of no known kind fails.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import pandas as pd
import pytest

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.commands.verbs import VERBS
from conveyorguard.commands.words.keys import compose_checked, first_values
from conveyorguard.commands.words.train_parser import TrainParser
from tests.data.table.plant import write_plant
from tests.docs.blocks import DOCUMENTS, blocks, commands
from tests.support.places import ROOT
from tests.support.pumps import write_pumps
from tests.support.runs import SMALL

pytestmark = pytest.mark.promise("code", "Every command and Python block of README.md and docs/ works as it stands.")

COMMANDS = {document: commands(document) for document in DOCUMENTS}
ALL = [command for listed in COMMANDS.values() for command in listed]
WITH_COMMANDS = [document for document, listed in COMMANDS.items() if listed]
# with recordings of a plant; the runs of the other documents are of simulated data
PLANT = ("README.md", "alarms.md", "best.md", "own-data.md", "predict.md")
# what is composed alone, and why
COMPOSED = {
    r"^(make|pip install|git clone|cd) ": "network",
    r"trainer=(gpu|ddp_2xT4)": "GPU",
    r"submitit_slurm": "SLURM",
    r"/kaggle/": "Kaggle",
    r"data=aihub": "the AI Hub set",
    r"^wandb sync": "account",
    r"experiments/": "run by tests/stages/test_whole_study.py",
}
SMALLER = {
    "seed=0,1,2": "seed=0,1",
    "modality=sensor,image,both film=true,false seed=0,1": "modality=sensor film=true,false seed=0,1",
    "split.fold=0,1,2,3,4": "split.fold=0,1",
    "data.sessions=341": "data.sessions=12",
    "curve=4,8,16": "curve=4,6",
    "minutes=10": "minutes=0",
    "sqlite:////shared/study.db": "sqlite:///study.db",
}
CLASS = blocks(ROOT / "docs" / "how-to" / "python.md", "python")[1].text
YAML = blocks(ROOT / "docs" / "how-to" / "python.md", "yaml")[0].text


def is_training(words):
    """Return whether a command is train.py or the verb."""
    return words[:2] == ("python", "train.py") or words[:2] == ("conveyorguard", "train")


def verb_of(words):
    """Return a verb and the words after it, or nothing."""
    if words[:3] == ("python", "-m", "conveyorguard"):
        return words[3], list(words[4:])
    return (words[1], list(words[2:])) if words[0] == "conveyorguard" else None


def write_user_files(folder):
    """Write the class and the yaml of docs/how-to/python.md."""
    (folder / "mypackage.py").write_text(CLASS, encoding="utf-8")
    (folder / "FOLDER" / "model").mkdir(parents=True)
    (folder / "FOLDER" / "model" / "mine.yaml").write_text(YAML, encoding="utf-8")


@pytest.fixture
def empty(tmp_path, monkeypatch):
    """An empty working directory, with the yaml files that a user would have written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_user_files(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.place)
def test_command_is_taken_by_its_parser_and_its_config_composes(command, empty, monkeypatch):
    (empty / "conf" / "data").mkdir(parents=True)
    (empty / "conf" / "data" / "plant.yaml").write_text("defaults: [table, _self_]\nname: plant\nroot: recordings\n")
    for variable in command.variables:
        monkeypatch.setenv(*variable.split("=", 1))
    words, verb = command.words, verb_of(command.words)
    if is_training(words):
        parsed = TrainParser().parse_words(list(words[2:]))
        overrides = first_values(parsed.overrides) if parsed.options.multirun else parsed.overrides
        compose_checked(overrides, parsed.options.config_dir)
    elif verb:
        parsed = VERBS[verb[0]].PARSER.parse_words(verb[1])
        if not parsed.paths:  # else the config is the run's
            compose_checked(parsed.overrides, parsed.options.config_dir)
    elif words[:1] == ("python",) and words[1].startswith("experiments/"):
        assert (ROOT / words[1]).is_file() and set(words[2:]) <= {"--small", "--full", "--fresh"}
    elif words[0] == "make":
        done = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif words[:2] == ("pip", "install"):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        named = re.findall(r"\[([\w,]+)\]", command.text)
        assert {name for names in named for name in names.split(",")} <= set(extras["optional-dependencies"])
        assert "-c" not in words or (ROOT / words[words.index("-c") + 1]).is_file()
    elif words[:2] == ("wandb", "sync"):
        assert words[2].endswith("wandb/offline-run-*")
    else:
        assert words[0] in ("git", "cd"), f"{command.place}: neither run nor composed"


def smaller(command):
    """Return the words of a training with its sizes turned down."""
    text = shlex.join(command.words[2:])
    for large, small in SMALLER.items():
        text = text.replace(large, small)
    words = shlex.split(text)
    extra = [word for word in SMALL if not (word.startswith("trainer=") and "trainer=" in text)]
    if "data=plant" in words:
        extra = [word for word in extra if not word.startswith("data")]
    if "--cfg" in words or "ckpt_path=" in text:  # what is resumed has its sizes already
        extra = []
    return [*words, *extra, *(["sweep.n_trials=2"] if "sweep=optuna" in words else [])]


def run_training(command, folder, environment):
    """Train as typed but for the sizes; the first run of a document without one becomes its RUN."""
    variables = dict(variable.split("=", 1) for variable in command.variables)
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *smaller(command)],
        cwd=folder,
        env=environment | variables,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{command.place}: {command.text}\n{done.stdout}{done.stderr}"
    if "data=plant" in command.words and not (folder / "RUN").exists():
        (folder / "RUN").symlink_to(folder / done.stdout.splitlines()[-1])


def run_watch(words, folder, environment):
    """Start a watch, stop it by Ctrl-C once it has written an alarm."""
    process = subprocess.Popen([sys.executable, "-m", "conveyorguard", *words], cwd=folder, env=environment)
    end = time.monotonic() + 120
    while not list(folder.glob("outputs/watch/*/alarms.csv")):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 0


@pytest.fixture
def place(request, empty, cache, monkeypatch):
    """A function that fills the empty folder with what a document takes for granted."""
    monkeypatch.setenv("CONVEYORGUARD_CACHE", str(cache))

    def make(document):
        for name in ("recordings", "new_recordings", "NEW"):
            write_plant(
                empty / name, sessions=12 if name == "recordings" else 4, first=0 if name == "recordings" else 20
            )
        if document.name == "README.md":
            return empty
        if document.name not in PLANT:
            fill_with_simulated(empty, {word for command in COMMANDS[document] for word in command.words}, request)
            return empty
        shutil.copytree(empty / "NEW", empty / "FOLDER", dirs_exist_ok=True)
        assert main(["schema", "recordings", "out=conf/data/plant.yaml"]) == 0
        if document.name in ("alarms.md", "predict.md"):
            run_training(commands(ROOT / "README.md")[PLANT_TRAINING], empty, environment_of(empty))
        return empty

    return make


PLANT_TRAINING = next(i for i, command in enumerate(commands(ROOT / "README.md")) if "data=plant" in command.words)


def environment_of(folder):
    """Return the environment of a command: the checkout and the folder can be imported, no key is known."""
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "WANDB_MODE": "offline"}


def fill_with_simulated(folder, words, request):
    """Put runs on small simulated data under the names that a document uses, and archives into FOLDER."""
    train_run = request.getfixturevalue("train_run")
    trees = ("model=lightgbm", "features=extended", "model.n_estimators=20")
    arms = {
        "OTHER_RUN": trees,
        "TREES_RUN": trees,
        "SENSOR_RUN": ("modality=sensor",),
        "IMAGE_RUN": ("modality=image",),
    }
    for name, overrides in arms.items():
        if name in words:
            shutil.copytree(train_run(*overrides), folder / name)
    if any(word.split("=")[-1].startswith("RUN") for word in words):
        shutil.copytree(request.getfixturevalue("finished_run"), folder / "RUN")
    if "multirun/DATE/TIME" in words:
        for number, name in enumerate(("RUN", "OTHER_RUN")):
            shutil.copytree(folder / name, folder / "multirun" / "DATE" / "TIME" / str(number))
    if "data.root=FOLDER" in words:
        assert main(["simulate", "archives", "data.sessions=4", "data.archive=folder"]) == 0
        shutil.copytree("archives", "FOLDER", dirs_exist_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("document", WITH_COMMANDS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_of_a_document_run_in_order(document, place, capfd):
    """A command that stands in several documents is run in the first."""
    earlier = {command.text for other in DOCUMENTS[: DOCUMENTS.index(document)] for command in COMMANDS[other]}
    todo = [
        command
        for command in COMMANDS[document]
        if command.text not in earlier and not any(re.search(pattern, command.text) for pattern in COMPOSED)
    ]
    if not todo:
        pytest.skip("its commands are run elsewhere, or composed alone")
    folder = place(document)
    for command in todo:
        began = time.monotonic()
        if is_training(command.words):
            run_training(command, folder, environment_of(folder))
        else:
            verb, words = verb_of(command.words)
            words = [SMALLER.get(word, word) for word in words]
            if "--watch" in words:
                run_watch([verb, *words], folder, environment_of(folder))
            else:
                status = status_of([verb, *words])
                allowed = {0, 1} if verb in ("check", "reproduce") else {0}  # 1: a check failed, the numbers differ
                assert status in allowed, f"{command.place}: {command.text}\n{''.join(capfd.readouterr())}"
        print(f"{time.monotonic() - began:6.1f} s  {command.text}")


def status_of(words):
    """Return the exit status of a verb."""
    try:
        return main(words)
    except SystemExit as exit_:
        return exit_.code


def test_python_blocks_run_in_order_and_end_with_a_page_and_a_run_that_predicts(empty, capsys):
    """Those of the README, of docs/how-to/python.md, which goes on with its data, and the others."""
    write_pumps(empty / "recordings")
    (empty / "RUN").symlink_to(empty / "outputs" / "pumps")
    frame_table = pd.read_csv(empty / "recordings" / "pump3.csv").drop(columns="state").assign(session="new")
    names = {"__name__": "documents", "frame_table": frame_table}
    first = [ROOT / "README.md", ROOT / "docs" / "how-to" / "python.md"]
    for document in [*first, *(path for path in DOCUMENTS if path not in first)]:
        for block in blocks(document, "python"):
            exec(compile(block.text, block.place, "exec"), names)
    scores = capsys.readouterr().out.split()
    assert float(scores[0]) > 0.8, scores
    assert set(names["windows"]["session"]) == {"new"}

    run = empty / "outputs" / "pumps"
    assert "broken" in (run / "report.html").read_text(encoding="utf-8")
    assert main(["check", str(run), "depth=files"]) == 0, capsys.readouterr().out
    assert main(["report", str(run)]) == 0
    windows = load_run(run).predict(frame_table)
    assert windows["state"].iloc[0] == "ok" and windows["state"].iloc[-1] == "broken"
