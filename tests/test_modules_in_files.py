"""A file names a module, and nothing imports it: on every road by which a file is read, whoever wrote its hashes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from forged import edit_config, edit_manifest
from small_runs import small_config, small_words

from dsac import compare, evaluate, export, tune
from dsac.cli import exit_codes
from dsac.persistence import checkpoint
from dsac.schema.importing import refusals
from dsac.sweep.find_runs import find
from dsac.train import main

PAYLOAD = "from pathlib import Path\nPath(__file__).with_name('canary').touch()\n"
PENDULUM = {"name": "gymnasium", "id": "Pendulum-v1", "backend": "gymnasium"}
NAMED = {
    "algo": ("algo", {"name": "theirs.payload"}),
    "env.id": ("env", {"name": "gymnasium", "id": "theirs.payload:X-v0", "backend": "gymnasium"}),
    "env.task": ("env", {"name": "custom", "task": "theirs.payload", "xml": "x.xml"}),
    "env.wrappers": ("env", {**PENDULUM, "wrappers": ["theirs.payload:X"]}),
    "env.kwargs.env": ("env", {**PENDULUM, "kwargs": {"env": "theirs.payload:X-v0"}}),  # some envs make another
}
USAGE = exit_codes.USAGE


@pytest.fixture
def run(stopped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A run where one's own runs lie, with a module beside it that the path of imports leads to."""
    place = tmp_path / "runs" / stopped.relative_to(stopped.parents[2])
    shutil.copytree(stopped, place)
    (place / "theirs").mkdir()
    (place / "theirs" / "payload.py").write_text(PAYLOAD)
    monkeypatch.syspath_prepend(place)
    monkeypatch.chdir(tmp_path)
    yield place
    assert not (place / "theirs" / "canary").exists()
    imported = [name for name in sys.modules if name.partition(".")[0] == "theirs"]
    for name in imported:
        del sys.modules[name]
    assert not imported


def name_in_config(run: Path, key: str) -> None:
    section, values = NAMED[key]
    edit_config(run, lambda tree: tree[section].update(values))


def name_in_manifests(run: Path, key: str) -> None:
    section, values = NAMED[key]
    for folder in checkpoint.committed(run / "checkpoints"):
        edit_manifest(folder, lambda manifest: manifest["config"][section].update(values))


Forge = Callable[[Path, str], None]
PLACES: list[Forge] = [name_in_config, name_in_manifests]


@pytest.mark.parametrize("key", NAMED)
@pytest.mark.parametrize("forge", PLACES)
def test_resume_imports_nothing_that_was_not_typed(
    forge: Forge, key: str, run: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches a manifest whose config is believed because its hashes are right."""
    forge(run, key)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main([f"resume={run}"]) == USAGE
    assert f"name it again, {key}=theirs.payload" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("key", NAMED)
@pytest.mark.parametrize("forge", PLACES)
def test_a_run_that_merely_lies_there_is_passed_over(
    forge: Forge, key: str, run: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches `is it mine?` answered by importing what the folder names: resume=auto, and a sweep that looks for it."""
    forge(run, key)
    words = small_words(run.parents[2], "dsac_t", "total_env_steps=2")
    assert main([*words, "resume=auto"]) == exit_codes.FINISHED
    assert "no run with these settings yet" in capsys.readouterr().out
    assert find(small_config(run.parents[2], "dsac_t")).run in (None, run)


@pytest.mark.parametrize("key", NAMED)
def test_other_commands_import_nothing_that_was_not_typed(key: str, run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a command that reads a run folder its own way."""
    name_in_config(run, key)
    name_in_manifests(run, key)
    assert export.main([f"run={run}", "which=last", "learner=9"]) == USAGE
    needed = key != "algo"  # the algorithm's module is not needed to score a policy
    assert evaluate.main([f"run={run}", "which=last", "episodes=1"]) == (USAGE if needed else exit_codes.FINISHED)
    words = small_words(run.parents[2] / "new", "dsac_t", "total_env_steps=2", f"init_from={run}")
    assert main(words) == (USAGE if key == "algo" else exit_codes.FINISHED)
    compare.main([f"runs={run}", "out=out", "calibration=true"])
    assert "theirs.payload" in capsys.readouterr().err


@pytest.mark.parametrize("key", NAMED)
def test_recipes_import_nothing_that_was_not_typed(key: str, run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a recipe from the internet that brings code along, in whichever section."""
    section, values = NAMED[key]
    Path("theirs.yaml").write_text(yaml.safe_dump({section: values, "total_env_steps": 2}))
    assert main(["experiment=theirs.yaml", "runs=none"]) == USAGE
    assert f"name it again, {key}=theirs.payload" in capsys.readouterr().err
    Path("theirs.yaml").write_text(
        yaml.safe_dump({"algorithms": {"dsac_t": values}, "environments": {"Humanoid": values}})
    )
    main(["experiment=theirs.yaml", "runs=none", "seed=-1"])
    assert not Path("none").exists()


@pytest.mark.parametrize(
    ("words", "space"),
    [
        (["algo=theirs.payload", "env=Hopper"], {}),
        (["env=gymnasium", "env.id=theirs.payload:X-v0"], {}),
        (["env=custom", "env.task=theirs.payload", "env.xml=x"], {}),
        (["env=gymnasium", "env.id=Pendulum-v1", "env.wrappers=theirs.payload:X"], {}),
        (["env=gymnasium", "env.id=Pendulum-v1", "env.kwargs.env=theirs.payload:X-v0"], {}),
        (["env=Hopper"], {"env.task": {"words": ["theirs.payload", "null"]}}),
        (["env=Hopper"], {"algo": {"words": ["theirs.payload", "sac"]}}),
    ],
)
def test_the_record_of_a_study_imports_nothing(
    words: list[str], space: dict[str, Any], run: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches words in study.json that are taken for words of the command line."""
    decides = {"settings": {}, "space": space, "seeds": [0], "sampler": "tpe", "pruner": "none"}
    folder = Path("runs/tune/theirs")
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps({"decides": decides, "words": words, "command": "x"}))
    assert tune.main(["study=theirs", "report=true"]) == USAGE
    assert "error: " in capsys.readouterr().err


def test_a_cluster_in_a_file_is_not_joined(run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a run that joins someone else's Ray cluster, whose answers are code: the address is typed, any one."""
    for folder in checkpoint.committed(run / "checkpoints"):
        edit_manifest(
            folder, lambda manifest: manifest["config"].update(collect="ray", ray={"address": "10.0.0.1:6379"})
        )
    edit_config(run, lambda tree: tree.update(collect="ray", ray={"address": "10.0.0.1:6379"}))
    assert main([f"resume={run}"]) == USAGE
    assert "name it again, ray.address=10.0.0.1:6379" in capsys.readouterr().err
    tree = {"collect": "ray", "ray": {"address": "10.0.0.1:6379"}}
    assert refusals(tree, {"ray.address": "10.0.0.2:6379"}) == []
    assert refusals({**tree, "collect": "local"}, {}) == []


@pytest.mark.parametrize("value", ["a\nb", "a*/b", "a\\b", "a b", "a\x1b[2J", 'a"b', "", ["a"], 5])
@pytest.mark.parametrize("group", ["algo", "env"])
def test_what_is_no_name_is_refused_where_it_is_read(group: str, value: Any, run: Path):
    """Catches text in place of a name, which goes on into titles, paths and the source of a header."""
    edit_config(run, lambda tree: tree[group].update(name=value))
    for command, word in ((main, "resume"), (evaluate.main, "run"), (export.main, "run")):
        assert command([f"{word}={run}"]) == USAGE


def test_a_manifest_without_a_config_of_a_run_is_refused(run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a traceback where the config of a checkpoint is a list."""
    for value in ([], {"algo": 5, "env": {}}, {"algo": {}, "env": {}}):
        for folder in checkpoint.committed(run / "checkpoints"):
            edit_manifest(folder, lambda manifest, value=value: manifest.update(config=value))
        assert main([f"resume={run}"]) in (USAGE, exit_codes.STORAGE)
        assert "config" in capsys.readouterr().err
