"""Files that come from elsewhere carry no code: checkpoints, configs, tables, names. And pages tell nothing of the
machine."""

import ast
import html
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import skops.io
import torch
from omegaconf import OmegaConf

from conveyorguard import load_run
from conveyorguard.cli import main
from conveyorguard.config.checks import check
from conveyorguard.config.compose import build
from conveyorguard.errors import ConfigError, RunError
from conveyorguard.models.tabular import ExtraTrees
from conveyorguard.runs.saved import SavedRun
from conveyorguard.system.files import read_json, write_json

ROOT = Path(__file__).parents[2]
SOURCES = [*(ROOT / "conveyorguard").rglob("*.py"), *(ROOT / "experiments").glob("*.py"), ROOT / "train.py"]
SECRET = "s3cret-value-of-the-environment"


class Tripwire:
    """Whoever unpickles it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch '{self.path}'",)


@pytest.fixture
def copied(finished_run, tmp_path):
    """A copy of a sound run, to be poisoned; afterwards nothing of it may have been executed."""
    folder, mark = shutil.copytree(finished_run, tmp_path / "copy"), tmp_path / "executed"
    yield folder
    assert not mark.exists(), "code from a file was executed"


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "executed"


# Unpickling


def calls(tree):
    """(dotted name, keyword arguments) of every call of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_unpickles_or_evaluates(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, words in calls(tree):
        if name == "torch.load":
            assert words.get("weights_only") == "True", f"{name} without weights_only=True"
        if name.endswith(("np.load", "numpy.load", "read_array")):
            assert words.get("allow_pickle") == "False", f"{name} without allow_pickle=False"
        if name.endswith("trainer.fit"):
            assert words.get("weights_only") == "True", f"{name} resumes without weights_only=True"
        assert name not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), name
        assert not re.search(
            r"(pickle|dill|marshal|shelve|joblib|yaml)\.(loads?|Unpickler|unsafe_load|full_load|open)$", name
        ), name
        assert not name.endswith(("read_pickle", "to_pickle", "load_from_checkpoint")), name
        assert words.get("shell") != "True", f"{name} runs a shell"
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {
        f"{node.module}.{a.name}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names
    }
    assert not {name for name in imported if re.match(r"(pickle|dill|cloudpickle|marshal|shelve)\b", name)} - {
        "pickle.UnpicklingError"
    }


TRACE = """
import sys
import conveyorguard.cli, conveyorguard.checks.run, conveyorguard.reporting.prediction_page
import conveyorguard.evaluation.ensemble

def no_unpickling(event, arguments):
    if event == "pickle.find_class":
        frame = sys._getframe()
        # joblib's pipe to worker processes of this very command
        while frame and "loky" not in frame.f_code.co_filename:
            frame = frame.f_back
        if frame is None:
            raise RuntimeError(f"unpickled {arguments}")

sys.addaudithook(no_unpickling)
run = sys.argv[1]
for verb in (["check", run, "depth=data"], ["report", run], ["compare", run], ["predict", run, "data.seed=0"]):
    assert conveyorguard.cli.main(verb) == 0, verb
"""


@pytest.mark.slow
def test_no_verb_unpickles_anything_of_a_run(copied, tmp_path):
    """Python tells its audit hooks of every class that an unrestricted unpickler looks up."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", TRACE, str(copied)], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_trace_would_see_an_unpickling(tmp_path, mark):
    done = subprocess.run(
        [sys.executable, "-c", TRACE.replace("run = ", "import pickle; pickle.loads(pickle.dumps(sys.exit)); run = ")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert "unpickled" in done.stderr


@pytest.mark.parametrize("content", ["pickle", "torch archive", "cut short", "empty", "other tensors", "text"])
def test_a_poisoned_or_damaged_checkpoint_is_refused_by_name(content, copied, mark):
    path = copied / "checkpoints" / "best.ckpt"
    if content == "pickle":
        import pickle

        path.write_bytes(pickle.dumps({"state_dict": Tripwire(mark)}))
    elif content == "torch archive":
        torch.save({**torch.load(path, weights_only=True), "extra": Tripwire(mark)}, path)
    elif content == "cut short":
        path.write_bytes(path.read_bytes()[:5000])
    elif content == "empty":
        path.write_bytes(b"")
    elif content == "other tensors":
        torch.save({"weights": torch.zeros(3)}, path)
    else:
        path.write_text("no checkpoint")
    with pytest.raises(RunError, match=r"best\.ckpt"):
        load_run(copied)


def test_going_on_from_a_poisoned_checkpoint_is_refused(copied, mark, compose):
    from conveyorguard.commands.train import train

    path = copied / "checkpoints" / "last.ckpt"
    torch.save({**torch.load(path, weights_only=True), "callbacks": Tripwire(mark)}, path)
    with pytest.raises(RunError, match=r"last\.ckpt: holds more than tensors"):
        train(compose(f"ckpt_path={path}"), copied, [])


@pytest.mark.parametrize("kind", ["foreign type", "pickle", "cut short"])
def test_a_poisoned_skops_file_is_refused_by_name(kind, tmp_path, mark, schema):
    path = tmp_path / "best.skops"
    if kind == "foreign type":
        skops.io.dump(SimpleNamespace(a=1), path)
        assert skops.io.get_untrusted_types(file=path)
    elif kind == "pickle":
        import pickle

        path.write_bytes(pickle.dumps(Tripwire(mark)))
    else:
        skops.io.dump([1, 2], path)
        path.write_bytes(path.read_bytes()[:60])
    model = ExtraTrees(schema, 0, 1)
    with pytest.raises((RunError, zipfile.BadZipFile)):
        model.load(path)
    assert not mark.exists()


@pytest.mark.parametrize("model", ["lightgbm", "extra_trees"])
def test_a_damaged_tabular_model_is_told_by_name(model, train_run):
    run = train_run("modality=sensor", f"model={model}", "model.n_estimators=5")
    (path,) = (run / "checkpoints").glob("best.*")
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(RunError, match=rf"{path.name}: cannot be read as a"):
        load_run(run)


def test_examples_that_are_pickles_are_refused_by_name(copied, mark, capsys):
    np.savez(copied / "examples.npz", session=np.array([Tripwire(mark)], dtype=object))
    assert main(["report", str(copied)]) == 2
    assert "examples.npz: cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["config.yaml", "provenance.json", "metrics.json", "predictions.parquet", "examples.npz"]
)
@pytest.mark.parametrize("damage", ["empty", "cut short", "binary"])
def test_a_damaged_file_of_a_run_is_told_by_name(name, damage, copied, capsys):
    raw = (copied / name).read_bytes()
    (copied / name).write_bytes({"empty": b"", "cut short": raw[: len(raw) // 2], "binary": b"\x93\xff{[" * 50}[damage])
    status = main(["report", str(copied)])
    said = capsys.readouterr().err
    if name == "config.yaml" and damage == "cut short":
        assert status in (0, 2)  # half of a yaml may be a yaml
    else:
        assert status == 2 and name in said, said


@pytest.mark.parametrize(
    "name, content, expected",
    [
        ("history.csv", "", "cannot be read"),
        ("history.csv", "epoch,train/loss\n", "expected columns epoch, train/loss, val/loss"),
        ("provenance.json", "[]", "expected a mapping, found []"),
        ("provenance.json", "{}", "expected command, found none"),
        ("metrics.json", '{"val": 5}', "expected a mapping at val, found 5"),
        (
            "alarms.json",
            '{"state": "severe", "operating_point": 5, "parts": {}}',
            "expected a mapping at operating_point",
        ),
        ("alarms.json", '{"operating_point": 5}', "expected state, found none"),
        ("calibration.json", "{}", "expected temperature, found none"),
        ("split.json", "[]", "expected a mapping, found []"),
        ("ranges.json", '{"NTC": 3}', "expected a mapping at NTC, found 3"),
    ],
)
def test_a_file_of_a_run_that_holds_something_else_is_told_by_name(name, content, expected, copied, capsys):
    (copied / name).write_text(content)
    assert main(["report", str(copied)]) == 2
    said = capsys.readouterr().err
    assert f"{name}: {expected}" in said and "train it again" in said


# Configs

EVIL = [
    "os.system",
    "subprocess.check_output",
    "subprocess.Popen",
    "builtins.eval",
    "builtins.exec",
    "builtins.__import__",
    "importlib.import_module",
    "pickle.loads",
    "torch.load",
    "hydra.utils.get_method",
    "hydra.utils.instantiate",
    "conveyorguard.cli.main",
    "conveyorguard.runs.provenance.subprocess.run",
    "conveyorguard.system.processes.start",
    "shutil.rmtree",
]


def poison(node, target, mark):
    node["_target_"] = target
    node["_args_"] = [f"touch '{mark}'" if "eval" not in target else f"open('{mark}', 'w')"]


@pytest.mark.parametrize(
    ("where", "target"),
    [*(("data.reader", one) for one in EVIL), *(("model", one) for one in EVIL[:5]), ("scaling", EVIL[0])],
)
def test_a_config_of_a_run_directory_builds_only_what_the_whitelist_allows(
    target, where, copied, mark, monkeypatch, capsys
):
    monkeypatch.delenv("CONVEYORGUARD_WHITELIST", raising=False)
    config = OmegaConf.load(copied / "config.yaml")
    poison(OmegaConf.select(config, where), target, mark)
    OmegaConf.save(config, copied / "config.yaml")
    monkeypatch.chdir(copied.parent)
    for verb in (["reproduce"], ["predict", "data.seed=3"]):
        if verb[0] == "predict" and where != "data.reader":
            continue  # scaling and model come from the checkpoint: the next test
        assert main([verb[0], str(copied), *verb[1:]]) == 2
        assert f"cannot build {target}" in capsys.readouterr().err
        assert not mark.exists()


def test_a_checkpoint_of_another_version_is_refused_with_what_to_do(copied):
    path = copied / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    for name in [name for name in state["state_dict"] if name.endswith(("_noise", "_window_edges"))]:
        del state["state_dict"][name]
    torch.save(state, path)
    with pytest.raises(RunError, match=f"{re.escape(str(path))}.*train the run again"):
        load_run(copied)


@pytest.mark.parametrize("where", ["scaling", "model", "loss"])
@pytest.mark.parametrize("target", ["os.system", "subprocess.check_output", "builtins.eval"])
def test_a_config_inside_a_checkpoint_builds_only_what_the_whitelist_allows(where, target, copied, mark):
    path = copied / "checkpoints" / "best.ckpt"
    state = torch.load(path, weights_only=True)
    poison(state["conveyorguard"]["config"][where], target, mark)
    torch.save(state, path)
    with pytest.raises(ConfigError, match=f"cannot build {re.escape(target)}"):
        load_run(copied)


def test_what_is_allowed_cannot_be_given_what_is_not(mark, schema):
    node = OmegaConf.create(
        {
            "_target_": "conveyorguard.models.fusion.Fusion",
            "bins": 4,
            "dropout": {"_target_": "os.system", "_args_": [f"touch '{mark}'"]},
        }
    )
    with pytest.raises(ConfigError):
        build(node, schema=schema, inputs=["sensors"])
    assert not mark.exists()


def test_a_run_directory_cannot_ask_for_the_environment(copied, monkeypatch, capsys):
    """Interpolations are resolved when the config is composed; one in a saved config was put there."""
    monkeypatch.setenv("SECRET", SECRET)
    text = (copied / "config.yaml").read_text()
    (copied / "config.yaml").write_text(text.replace("name: simulated", "name: ${oc.env:SECRET}"))
    for verb in ("report", "reproduce", "predict", "check"):
        assert main([verb, str(copied)]) == 2
        said = capsys.readouterr()
        assert "data.name holds an interpolation" in said.err and SECRET not in said.out + said.err
    (copied / "config.yaml").write_text(text)
    facts = read_json(copied / "provenance.json")
    write_json(copied / "provenance.json", {**facts, "derived": {"data.name": "${oc.env:SECRET}"}})
    assert main(["reproduce", str(copied)]) == 2
    assert "derived.data.name asks for oc.env" in capsys.readouterr().err


@pytest.mark.parametrize(
    "override",
    ["+note=${oc.env:PLANT_TOKEN}", "+note={deep: [1, secret-of-the-plant]}", "data.name=a-secret-of-the-plant"],
)
def test_a_key_of_the_environment_comes_into_no_config(override, monkeypatch, compose):
    monkeypatch.setenv("PLANT_TOKEN", "secret-of-the-plant")
    monkeypatch.setenv("PLANT_KEY", "sim")  # as short as a word that stands there by chance
    check(compose())
    with pytest.raises(ConfigError, match=r"the value of \$PLANT_TOKEN stands in the config"):
        check(compose(override))


def test_a_login_and_what_is_called_a_key_come_into_no_config(tmp_path, monkeypatch, compose):
    login = tmp_path / "netrc"
    login.write_text("machine api.wandb.ai login user password 0123456789abcdef\n")
    monkeypatch.setenv("NETRC", str(login))
    check(compose())
    with pytest.raises(ConfigError, match=r"the value of netrc's login at api\.wandb\.ai stands in the config"):
        check(compose("+note={deep: [of 0123456789abcdef]}"))
    for name in ("+wandb_api_key", "+model.deep.Token", "+password"):
        with pytest.raises(ConfigError, match=rf"{name.strip('+')}: a config is saved and shown, no key may"):
            check(compose(f"{name}=0123456789abcdee"))
    login.write_text("machine")  # damaged: nobody can log in with it
    check(compose("+note=of-0123456789abcdef"))


def test_a_folder_whose_name_is_no_text_is_refused_with_what_to_do(compose):
    cfg = compose()
    cfg.data.root = os.fsdecode(b"/plant/set\xff")
    with pytest.raises(ConfigError, match=r"data\.root=.*is no UTF-8 text.*rename the folder"):
        check(cfg)


# Pages

MARKUP = "<script>window.pwned=1</script>"
IMAGE = '"><img src=x onerror="window.pwned=1">'


@pytest.fixture(scope="module")
def evil_site(tmp_path_factory, cache):
    """Everything a page may show has a name that is markup: sessions, devices, kinds, channels, states, units, labels,
    folders."""
    base = tmp_path_factory.mktemp("plant-of-somebody")
    rng = np.random.default_rng(0)
    for d in range(4):
        rows = []
        for s in range(4):
            state = np.repeat([0, 1, 2], [60, 20, 20]) if s % 2 == 0 else np.zeros(100, int)
            rows.append(
                pd.DataFrame(
                    {
                        "session": f"{MARKUP}{d}-{s}",
                        "device": f"{IMAGE}{d}",
                        "time": np.arange(100),
                        MARKUP: 20 + 10.0 * state + rng.normal(size=100),
                        "b": rng.normal(size=100),
                        "state": np.array([f"{MARKUP}fine", f"{IMAGE}worn", "broken"])[state],
                    }
                )
            )
        pd.concat(rows).to_csv(base / f"<img src=x onerror=window.pwned=1>{d}.csv", index=False)
    yaml = base / "conf" / "data" / "evil.yaml"
    yaml.parent.mkdir(parents=True)
    OmegaConf.save(
        {
            "defaults": ["table", "_self_"],
            "name": "evil",
            "root": str(base),
            "schema": {
                "columns": {"session": "session", "device": "device", "time": "time", "state": "state"},
                "channels": {MARKUP: {"unit": IMAGE}, "b": {"unit": "A"}},
                "states": [
                    {"name": f"{MARKUP}fine", "label": "정상"},
                    {"name": f"{IMAGE}worn"},
                    {"name": "broken", "label": MARKUP},
                ],
            },
        },
        yaml,
    )
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "CONVEYORGUARD_CACHE": str(base / "cache"),
        "SECRET": SECRET,
        "WANDB_API_KEY": SECRET,
    }

    def run(*arguments):
        line = [sys.executable, "-m", "conveyorguard", *arguments]
        done = subprocess.run(line, cwd=base, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    common = [
        "--config-dir",
        str(base / "conf"),
        "data=evil",
        "split=kfold",
        "split.n_folds=4",
        "window.size=10",
        "window.thermal_frames=5",
        "model=lightgbm",
        "model.n_estimators=5",
        "trainer=cpu",
        "threads=1",
    ]
    first, second = runs = [f"{base}/runs/<u>run{number}" for number in (1, 2)]
    for number, folder in enumerate(runs):
        run("train", *common, f"seed={number}", f"hydra.run.dir='{folder}'")
    run("compare", first, second, f"out={base}/runs/comparison")
    run("ensemble", first, second, f"out={base}/runs/ensemble")
    run("predict", first, f"out={base}/runs/predicted")
    run("diagnose", first, f"out={base}/runs/diagnosis")
    run("eda", *common, f"out={base}/runs/eda")
    return base


def pages_of(base):
    found = sorted((base / "runs").rglob("*.html"))
    assert {"report.html", "comparison.html", "ensemble.html", "predictions.html", "diagnose.html", "00_eda.html"} <= {
        path.name for path in found
    }
    return found


def own_text(page):
    """The page without the plotting library."""
    return re.sub(r"<script>/\*\*.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.S)


@pytest.mark.slow
def test_no_name_becomes_markup(evil_site):
    for page in pages_of(evil_site):
        text = own_text(page)
        assert not any(markup in text for markup in (MARKUP, "<img src=x", "<u>run")), page.name
        if page.name != "index.html":
            assert any(name in text for name in (html.escape(MARKUP), html.escape(IMAGE), "\\u003cscript\\u003e")), (
                f"{page.name} shows no such name: the test says nothing"
            )
    for card in (evil_site / "runs").rglob("MODEL_CARD.md"):
        assert not re.search("<script|<img", card.read_text(encoding="utf-8")), card


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("chromium"), reason="there is no chromium to open the pages with")
def test_a_browser_executes_no_name(evil_site):
    for page in pages_of(evil_site):
        probe = page.with_name(f"probe-{page.name}")
        probe.write_text(
            page.read_text(encoding="utf-8") + "<script>document.title = window.pwned ? 'PWNED' : 'sound'</script>",
            encoding="utf-8",
        )
        line = [
            "chromium",
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--virtual-time-budget=4000",
            "--dump-dom",
            f"file://{probe}",
        ]
        dom = subprocess.run(line, capture_output=True, text=True, timeout=120).stdout
        probe.unlink()
        assert "<title>sound</title>" in dom, page.name


@pytest.mark.slow
def test_pages_show_no_folder_and_no_value_of_the_environment(evil_site):
    for page in pages_of(evil_site):
        text = html.unescape(own_text(page))
        assert SECRET not in text, page.name
        for folder in (str(evil_site), str(evil_site.parent), str(ROOT), str(Path.home()) + "/"):
            assert folder not in text, (page.name, folder)


@pytest.mark.slow
def test_no_file_of_a_run_holds_a_key_of_the_environment(evil_site):
    for path in (evil_site / "runs").rglob("*"):
        assert path.is_dir() or SECRET.encode() not in path.read_bytes(), path.name


def test_a_page_drawn_from_another_machines_run_shows_no_folder_of_it(copied):
    facts = read_json(copied / "provenance.json")
    command = "python train.py data=aihub 'data.root=/home/some one/secret plant/copy' paths.cache=/mnt/secret/cache"
    write_json(copied / "provenance.json", {**facts, "command": command})
    config = OmegaConf.load(copied / "config.yaml")
    config.data.root = "/home/some one/secret plant/copy"
    config.paths.cache = "~/secret/cache"
    OmegaConf.save(config, copied / "config.yaml")
    assert main(["report", str(copied)]) == 0
    text = own_text(copied / "report.html")
    assert "secret" not in text and "some one" not in text and "copy" in text
    assert SavedRun(copied).config.data.root == "/home/some one/secret plant/copy", (
        "the run itself keeps what it was made of"
    )
