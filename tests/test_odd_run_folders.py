"""Run folders in which something is odd, every hash right: a command ends with a code and a line, never a traceback."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import small_words
from test_odd_files import BOMB

from dsac.cli import exit_codes
from dsac.errors import CheckpointError
from dsac.evaluate import main as evaluate
from dsac.export import main as export
from dsac.persistence import atomic, checkpoint
from dsac.schema import files
from dsac.train import main

MISSING = object()
WRONG = (None, True, -1, 2.5, "x", [], {}, [None], {"a": []}, 10**30, MISSING)
BEST = "learner-0/best"


@pytest.fixture(scope="module")
def one_checkpoint(stopped: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped half-way, with one checkpoint: to copy."""
    run = Path(shutil.copytree(stopped, tmp_path_factory.mktemp("one") / "run"))
    for folder in checkpoint.committed(run / "checkpoints")[:-1]:
        files.remove(folder)
    return run


def changed(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """A copy of a tree with another value at a path, or none."""
    if not path:
        return value
    tree = place = copy.deepcopy(tree)
    for key in path[:-1]:
        place = place[key]
    if value is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return tree


def places(tree: Any, deepest: int, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of a tree, of a list its first entry's."""
    yield path
    inner = tree.items() if isinstance(tree, dict) else list(enumerate(tree))[:1] if isinstance(tree, list) else ()
    for key, value in inner if len(path) < deepest else ():
        yield from places(value, deepest, (*path, key))


def rewrite(folder: Path, name: str, path: tuple[Any, ...], value: Any) -> None:
    """Change the state or the manifest of a folder, every hash made right again, as anyone can."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sha256"]
    if name == "manifest.json":
        manifest = changed(manifest, path, value)
    else:
        content = json.dumps(changed(json.loads((folder / name).read_text()), path, value)).encode()
        (folder / name).write_bytes(content)
        manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    text = atomic.rendered(manifest) if isinstance(manifest, dict) else json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(text)


def ended(code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """What was said of an error; a command that came to its end is none."""
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code in (exit_codes.FINISHED, exit_codes.USAGE, exit_codes.ENVIRONMENT, exit_codes.REFUSED, 5, 6)
    assert bool(lines) == (code != exit_codes.FINISHED)
    assert "Traceback" not in said
    return "\n".join(lines)


def commands(run: Path, part: str, out: Path) -> list[Any]:
    """The commands that read a part of a run."""
    if part == BEST:
        to = ["episodes=0", "rows=256", "format=c", f"out={out}"]
        return [(evaluate, [f"run={run}", "episodes=1"]), (export, [f"run={run}", *to])]
    short = ["total_env_steps=2", "algo.warmup_env_steps=8", "eval.episodes=1"]
    return [
        (main, [f"resume={run}", "total_env_steps=140"]),
        (main, small_words(out, "dsac_t", f"init_from={run}", *short)),
    ]


ODD_STATES = [
    ("state.json", (), {}), ("state.json", (), []), ("state.json", ("logger", "curves"), []),
    ("state.json", ("trainer", "algorithm"), []), ("state.json", ("trainer", "env_steps"), "x"),
    ("state.json", ("evaluator", "best"), {"x": 1.0}), ("state.json", ("trainer", "memory"), {}),
    ("state.json", ("trainer", "updater", "count"), "x"), ("state.json", ("trainer", "collector", "finished"), []),
    ("state.json", ("trainer", "memory", "credit_numerator"), 10**30),
    ("state.json", ("trainer", "memory", "credit_denominator"), 0),
    ("manifest.json", ("step",), MISSING), ("manifest.json", ("env_steps",), "x"), ("manifest.json", ("segments",), []),
    ("manifest.json", ("scores",), [None]), ("manifest.json", ("updates",), MISSING),
    ("manifest.json", ("config",), MISSING),
]  # fmt: skip


@pytest.mark.parametrize(("name", "path", "value"), ODD_STATES)
def test_a_checkpoint_that_is_no_runs_is_refused(
    one_checkpoint: Path,
    tmp_path: Path,
    name: str,
    path: tuple[Any, ...],
    value: Any,
    capsys: pytest.CaptureFixture[str],
):
    """Catches a state that is empty and so starts anew, one by which 10^30 updates are due at once, and a manifest
    without a step that is a KeyError."""
    run = shutil.copytree(one_checkpoint, tmp_path / "run")
    (folder,) = checkpoint.committed(run / "checkpoints")
    rewrite(folder, name, path, value)
    code = main([f"resume={run}", "total_env_steps=140"])
    inner = path[:2] == ("trainer", "memory")  # which only the parts of the run can judge
    assert ("does not fit" if inner else str(run)) in ended(code, capsys)
    assert code == exit_codes.STORAGE


ODD_POLICIES = [
    ("state.json", (), {}), ("state.json", ("description",), []), ("state.json", ("parameters",), {}),
    ("state.json", ("description", "obs_dim"), 10**12), ("state.json", ("description", "net", "sizes"), [8] * 10_000),
    ("state.json", ("description", "net", "sizes"), [10**9]), ("state.json", ("description", "head"), "x"),
    ("state.json", ("description", "net", "activation"), "x"), ("state.json", ("description", "net", "leading"), [9]),
    ("state.json", ("description", "obs_clip"), 10**30), ("state.json", ("description", "outputs"), 0),
    ("manifest.json", ("env_steps",), MISSING), ("manifest.json", ("task", "obs_names"), 5),
    ("manifest.json", ("score", "eval/return_low"), "x"), ("manifest.json", ("files", "state.json"), None),
]  # fmt: skip


@pytest.mark.parametrize(("name", "path", "value"), ODD_POLICIES)
def test_a_policy_that_is_none_is_refused(
    one_checkpoint: Path,
    tmp_path: Path,
    name: str,
    path: tuple[Any, ...],
    value: Any,
    capsys: pytest.CaptureFixture[str],
):
    """Catches a description that asks for terabytes, and shapes that fail inside torch."""
    run = shutil.copytree(one_checkpoint, tmp_path / "run")
    rewrite(run / BEST, name, path, value)
    for command, words in commands(run, BEST, tmp_path / "out"):
        assert command(words) == exit_codes.STORAGE
        assert str(run / BEST) in ended(exit_codes.STORAGE, capsys)


def test_whole_numbers_are_no_weights(one_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a type that is not looked at: weights of integers were evaluated, another policy in silence."""
    run = shutil.copytree(one_checkpoint, tmp_path / "run")
    state, manifest = checkpoint.read(run / BEST)
    state["parameters"]["net.output.weight"] = state["parameters"]["net.output.weight"].astype("int32")
    checkpoint.write(
        run / BEST, state, {key: value for key, value in manifest.items() if key not in ("schema", "files")}
    )
    assert evaluate([f"run={run}", "episodes=1"]) == exit_codes.STORAGE
    assert "net.output.weight" in ended(exit_codes.STORAGE, capsys)


def test_a_header_of_a_hundred_megabytes_is_not_parsed(one_checkpoint: Path, tmp_path: Path):
    """Catches a list of arrays that takes gigabytes, behind a manifest that vouches for it."""
    run = shutil.copytree(one_checkpoint, tmp_path / "run")
    content = (99 << 20).to_bytes(8, "little") + b"{" + b" " * ((99 << 20) - 2) + b"}"
    (run / BEST / "state.safetensors").write_bytes(content)
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewrite(run / BEST, "manifest.json", ("files", "state.safetensors"), entry)
    with pytest.raises(CheckpointError, match="header"):
        checkpoint.read(run / BEST)


def plant(path: Path, kind: str) -> None:
    """Put something odd where a file was."""
    files.remove(path)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        path.touch()
        os.truncate(path, 1 << 40)
    else:
        path.write_bytes(
            {"bomb": BOMB.encode(), "latin": b'{"caf\xe9": 1}', "deep": b"[" * 60_000, "list": b"[]"}[kind]
        )


KINDS = ("pipe", "endless", "folder", "sparse", "bomb", "latin", "deep", "list")


@pytest.mark.parametrize("kind", KINDS)
def test_an_odd_config_is_a_wrong_config(
    one_checkpoint: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
):
    """Catches a pipe that is waited for, a bomb of aliases, and a device that fills the memory."""
    run = shutil.copytree(one_checkpoint, tmp_path / "run")
    plant(run / "config.yaml", kind)
    for command, words in (*commands(run, BEST, tmp_path / "out"), *commands(run, "run", tmp_path / "new")):
        assert command(words) == exit_codes.USAGE
        assert str(run) in ended(exit_codes.USAGE, capsys)


@pytest.mark.parametrize("kind", KINDS)
def test_a_resume_meets_odd_files(one_checkpoint: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]):
    """Catches a resume that hangs at a file which it could do without, or replace: run.json, curves, stacks, lock."""
    run = shutil.copytree(one_checkpoint, tmp_path / "run")
    names = ["lock", "stacks.log", "learner-0/metrics.csv"] if kind in ("pipe", "endless") else []
    for name in ("run.json", *names):
        plant(run / name, kind)
    code = main([f"resume={run}", "total_env_steps=140"])
    assert code == (exit_codes.STORAGE if kind == "folder" else exit_codes.FINISHED)
    ended(code, capsys)


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["manifest.json", "state.json"])
@pytest.mark.parametrize("part", [BEST, "run"])
def test_every_wrong_value_anywhere(
    one_checkpoint: Path, tmp_path: Path, part: str, name: str, capsys: pytest.CaptureFixture[str]
):
    """Catches any value that a reader takes for granted: each place of a manifest and a state, eleven wrong ones."""
    (newest,) = checkpoint.committed(one_checkpoint / "checkpoints")
    source = one_checkpoint / BEST if part == BEST else newest
    tree, tried = json.loads((source / name).read_text()), 0
    tree.pop("sha256", None)
    for path in places(tree, 5):
        if path[:1] == ("versions",) or (path[:1] == ("config",) and len(path) > 1):
            continue
        for value in WRONG if path else WRONG[:-1]:
            run, out = shutil.copytree(one_checkpoint, tmp_path / "run"), tmp_path / "out"
            rewrite(run / source.relative_to(one_checkpoint), name, path, value)
            for command, words in commands(run, part, out):
                try:
                    ended(command(words), capsys)
                except Exception as error:
                    raise AssertionError(f"{path} {value!r}: {words}") from error
                tried += 1
                shutil.rmtree(out, ignore_errors=True)
            shutil.rmtree(run)
    assert tried > 300
