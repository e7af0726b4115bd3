"""The words after a verb: paths of any character, suggestions for mistyped words, and refusals with status 2."""

import argparse
import shutil
import subprocess
import sys

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from conveyorguard.cli import main
from conveyorguard.commands.words.keys import compose_checked, explain, first_values
from conveyorguard.commands.words.parser import VerbParser
from conveyorguard.commands.words.train_parser import hydra_arguments
from conveyorguard.commands.words.values import quote_paths
from conveyorguard.config.compose import compose_config
from conveyorguard.errors import ConfigError
from tests.support.places import ROOT

ODD = "데이터 (1), it's a=b#c"
NAMES = (
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40)
    .filter(lambda name: name not in (".", "..") and "${" not in name)
    .filter(lambda name: len(name.encode()) < 200)
)
PARSER = VerbParser("look RUN", "Look at a run.", "look RUN", paths="1", settings=["out"])


@given(NAMES)
@example(ODD)
@example("'quoted'")
@example("end\\")
@example("a\\'b")
def test_value_of_a_path_key_reaches_the_config_as_it_was_typed(name):
    for key in ("data.root", "hydra.run.dir", "ckpt_path", "sweep.storage"):
        for multirun in (False, True) if "," not in name else (False,):
            (word,) = quote_paths([f"{key}=/plant/{name}"], multirun)
            assert OverridesParser.create().parse_override(word).value() == f"/plant/{name}"
            assert quote_paths([word], multirun) == [word], "a word that is quoted already is not quoted again"


@settings(max_examples=20, deadline=None)
@given(NAMES)
@example(ODD)
def test_config_holds_the_path_as_it_was_typed(name):
    root = f"/plant/{name}"
    assert compose_config(quote_paths(["data=aihub", f"data.root={root}"])).data.root == root


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=NAMES.filter(lambda name: not name.startswith("-") and not name.startswith("out=")))
@example(name="seed=1")
@example(name=ODD)
def test_existing_folder_of_any_name_is_the_path_of_a_verb(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    words = PARSER.parse_words(["window.size=3", name, "out=x"])
    assert [str(path) for path in words.paths] == [name]
    assert words.overrides == ["window.size=3"] and str(words.out) == "x"


def test_word_that_is_no_folder_is_an_override():
    assert PARSER.parse_words(["RUN", "seed=1"]).overrides == ["seed=1"]


def test_override_named_like_a_folder_is_asked_for_with_plus_signs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "seed=1").mkdir()
    with pytest.raises(ConfigError, match=r"takes one path, not 2 \(RUN, seed=1\); write \+\+KEY=VALUE"):
        PARSER.parse_words(["RUN", "seed=1"])
    assert PARSER.parse_words(["RUN", "++seed=1"]).overrides == ["++seed=1"]


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert quote_paths(["data.root=~/plant", "seed=~"]) == ["data.root='/home/me/plant'", "seed=~"]
    assert str(PARSER.parse_words(["RUN", "out=~/x"]).out) == "/home/me/x"


def test_comma_separates_paths_in_a_multirun_unless_the_path_exists(tmp_path):
    folder = tmp_path / "a,b"
    assert quote_paths([f"data.root={folder}"], multirun=True) == [f"data.root='{tmp_path}/a','b'"]
    assert quote_paths([f"data.root={folder}"]) == [f"data.root='{folder}'"]
    folder.mkdir()
    assert quote_paths([f"data.root={folder}"], multirun=True) == [f"data.root='{folder}'"]
    assert quote_paths(["hydra.sweep.dir=a,b"], multirun=True) == ["hydra.sweep.dir='a,b'"]
    assert quote_paths(["data.root=choice(a,b)"], multirun=True) == ["data.root=choice(a,b)"]


def test_interpolation_and_missing_marker_keep_their_meaning(monkeypatch):
    monkeypatch.setenv("PLANT", "/x/데이터")
    assert compose_config(quote_paths(["data.root=${oc.env:PLANT}"])).data.root == "/x/데이터"
    assert quote_paths(["data.root=???", "ckpt_path=null"]) == ["data.root=???", "ckpt_path=null"]


def test_training_arguments_keep_number_and_order():
    typed = ["-m", "data.root=/x y", "--config-dir", str(ROOT / "conf"), "seed=0,1", "~sweep.pruner"]
    assert hydra_arguments(typed) == ["-m", "data.root='/x y'", *typed[2:]]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("epochs=3", "epochs: no such key; did you mean trainer.max_epochs?"),
        ("lr=0.1", "did you mean optimizer.lr?"),
        ("window.sise=3", "window.sise: no such key; did you mean window.size"),
        ("modle=lightgbm", "modle: no such key; did you mean model?"),
        ("model=lightgmb", "model=lightgmb: no such choice; did you mean lightgbm?"),
        ("split=xyz", "write one of auto, device, kfold, out_of_fold, session"),
        ("zzzzzz=1", "--cfg job prints the whole config"),
        ("trainer.max_time=1", "write +trainer.max_time=1 to add it"),
        ("foo", "foo: expected KEY=VALUE"),
        ("window.label=한글", "window.label: the value 한글 cannot be read; put it in quotes of its own"),
        ("+experiment=dl_tuned", "+experiment: the config has this key already; leave out the +"),
        ("+seed=3", "+seed: the config has this key already; leave out the +"),
        ("+epochs=3", "+epochs: nothing reads this key; did you mean trainer.max_epochs?"),
        ("++epochs=3", "+epochs: nothing reads this key"),
        ("+trainer.precisoin=16", "did you mean trainer.precision?"),
        ("+model.nothing=3", "+model.nothing: nothing reads this key"),
        ("+window.nothing=3", "+window.nothing: nothing reads this key"),
    ],
)
def test_mistyped_override_is_refused_with_what_may_have_been_meant(word, message):
    with pytest.raises(ConfigError) as error:
        compose_checked([word])
    assert message in str(error.value)


@pytest.mark.parametrize(
    "word",
    [
        "+trainer.max_time='00:01:00:00'",
        "++seed=3",
        "experiment=dl_tuned",
        "+data.schema.channels.extra={unit: A}",
        "+optimizer.amsgrad=true",
        "+features.lags=[1]",
        "++hydra.job.chdir=true",
        "+trainer.log_every_n_steps=5",
    ],
)
def test_added_key_that_something_reads_is_taken(word):
    compose_checked([word])


def test_added_key_that_an_interpolation_reads_is_taken():
    assert compose_checked(["+wide=12", "model.width=${wide}"]).model.width == 12


def test_every_choice_of_a_multirun_is_looked_at():
    words = ["model=lightgbm,fusoin", "seed=range(3)"]
    assert "did you mean fusion?" in str(explain(words, ConfigError("Hydra's")))
    assert first_values(words) == ["model=lightgbm", "seed=0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predcit", "RUN"], "unknown verb predcit; did you mean predict?"),
        (["predict", "RUN", "--wacth"], "no option --wacth; did you mean --watch?"),
        (["compare", "ouT=x"], "ouT=x is no existing file or folder; did you mean out=?"),
        (["report", "RUN", "seed=1"], "seed=1 is no existing file or folder"),
        (["report"], "a path is missing\nusage: python -m conveyorguard report RUN"),
        (["simulate", "a=b"], "a path is missing; if a=b is to be one, write ./a=b"),
        (["prepare", "plant"], "plant: expected KEY=VALUE"),
        (["eda", "out="], "out= has no value"),
        (["prepare", "--config-dir", "nowhere"], "--config-dir nowhere: no such folder"),
        (["prepare", "--config-dir"], "expected one argument"),
        (["prepare", "seed=${nope}"], "Interpolation key 'nope' not found"),
        (["train", "--multrun"], "no option --multrun; did you mean --multirun?"),
        (["train", "epochs=3"], "epochs: no such key; did you mean trainer.max_epochs?"),
        (["train", "+epochs=3"], "+epochs: nothing reads this key"),
        (["train", "-m", "+epochs=3,4"], "+epochs: nothing reads this key"),
    ],
)
def test_mistyped_command_is_refused_with_status_2(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["conveyorguard"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert main(words) == 2
    captured = capsys.readouterr()
    assert message in captured.err and captured.err.startswith("ConfigError: ") and not captured.out
    assert not list(tmp_path.iterdir())


def test_mistyped_key_of_a_saved_config_is_refused_by_every_verb_of_a_run(capsys):
    run = str(ROOT / "tests" / "fixtures" / "runs" / "lightgbm")
    for verb in ("reproduce", "check", "diagnose"):
        assert main([verb, run, "epochs=3"]) == 2
        error = capsys.readouterr().err
        assert "config.yaml has no such key; did you mean trainer.max_epochs?" in error, verb


def test_words_between_options_are_sorted():
    parser = VerbParser("look RUN", "Look at a run.", "look RUN", paths="+")
    parser.add_argument("--watch", action="store_true")
    words = parser.parse_words(["a", "--watch", "b", "--config-dir", str(ROOT / "conf"), "seed=1", "c"])
    assert [str(path) for path in words.paths] == ["a", "b", "c"] and words.overrides == ["seed=1"]
    assert isinstance(words.options, argparse.Namespace) and words.options.watch


def test_verbs_take_paths_of_any_character(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVEYORGUARD_CACHE", str(tmp_path / "cache"))
    run, plant, conf = f"run {ODD}", tmp_path / f"plant {ODD}", tmp_path / f"conf {ODD}"
    shutil.copytree(ROOT / "tests" / "fixtures" / "runs" / "lightgbm", run)
    (conf / "data").mkdir(parents=True)
    (conf / "data" / "plant.yaml").write_text("defaults: [aihub, _self_]\nname: plant\n", encoding="utf-8")

    assert main(["simulate", str(plant), "data.sessions=2", "data.archive=folder"]) == 0
    assert main(["report", run]) == 0
    assert main(["check", "depth=files", run]) == 0, capsys.readouterr().out
    data = ["--config-dir", str(conf), "data=plant", f"data.root={plant}"]
    assert main(["prepare", *data]) == 0, capsys.readouterr().err
    assert main(["predict", *data, run, f"out=out {ODD}"]) == 0, capsys.readouterr().err
    assert (tmp_path / f"out {ODD}" / "predictions.html").is_file()


def test_training_takes_the_path_as_it_is_typed(tmp_path):
    line = [sys.executable, str(ROOT / "train.py"), "data=aihub", f"data.root={tmp_path}/{ODD}", "--cfg", "job"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert OmegaConf.create(done.stdout).data.root == f"{tmp_path}/{ODD}"


@pytest.mark.slow
def test_training_writes_into_a_folder_of_any_name(command, tmp_path):
    folder = tmp_path / ODD
    command("model=lightgbm", "model.n_estimators=5", f"hydra.run.dir={folder}")
    assert (folder / "report.html").is_file()


@pytest.mark.slow
def test_refused_jobs_of_a_multirun_end_without_a_traceback(command):
    done = command("-m", "window.size=0", "seed=0,1", expect=2)
    assert "ConfigError: the config cannot work" in done.stderr and "Traceback" not in done.stderr
