"""What was saved stays loadable, and what cannot be believed is not loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import assert_same, flatten

from dsac import checkpoint
from dsac.checkpoint import CheckpointError, commit, committed, newest, read, write

LARGE = checkpoint.LARGE // 8 + 1


def state_of(value: int) -> dict[str, Any]:
    """A state with every kind of leaf; `value` tells one from another."""
    return {
        "value": value,
        "text": "ü",
        "nothing": None,
        "list": [1, 2.5, True, {"deep": np.arange(3) + value}],
        "scalar": np.float64(0.1),
        "zero_dimensional": torch.tensor(3.5, dtype=torch.float64),
        "empty": np.zeros((0, 4), np.float32),
        "bytes": np.arange(5, dtype=np.uint8),
        "flags": np.array([True, False]),
        "wide": np.full((2, LARGE), value, np.float64)[:, ::2],
        "net.0.weight": torch.full((2, 3), float(value), requires_grad=True),
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint on disk."""
    return write(tmp_path / "saved", state_of(1), {"step": 1})


def test_round_trip(saved: Path):
    """Catches a 0-d array that comes back 1-d, a view saved with its gaps, a type that changes, a key cut at a dot."""
    state, manifest = read(saved)
    expected = {**state_of(1), "scalar": 0.1}
    expected["zero_dimensional"] = expected["zero_dimensional"].numpy()
    expected["net.0.weight"] = expected["net.0.weight"].detach().numpy()
    found, wanted = flatten(state), flatten(expected)
    assert_same(found, wanted)
    assert [found[key].dtype for key in wanted] == [value.dtype for value in wanted.values()]
    assert [found[key].shape for key in wanted] == [value.shape for value in wanted.values()]
    assert manifest["step"] == 1


def test_large_arrays_are_mapped(saved: Path):
    """Catches a load that holds the replay in memory twice."""
    state, _ = read(saved)
    assert isinstance(state["wide"], np.memmap)
    state["wide"][0, 0] = 7  # a private copy: torch refuses read-only arrays
    assert read(saved)[0]["wide"][0, 0] == 1


def test_other_leaves_are_refused(tmp_path: Path):
    """Catches an object that would be saved as its repr, or pickled."""
    with pytest.raises(CheckpointError, match=r"a\.b holds a Generator"):
        write(tmp_path / "x", {"a": {"b": np.random.default_rng(0)}}, {})
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("name", ["state.json", "state.safetensors", "wide.npy", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "empty", "missing", "link"])
def test_damage_is_noticed(saved: Path, name: str, damage: str):
    """Catches a flipped bit, which safetensors and npy both accept, a cut file and one that points elsewhere."""
    path = saved / name
    content = bytearray(path.read_bytes())
    path.unlink()
    if damage == "flip":
        at = content.index(b"sha256") + 12 if name == "manifest.json" else len(content) // 2
        content[at] ^= 1
        path.write_bytes(content)
    elif damage in ("truncate", "empty"):
        path.write_bytes(content[:-1] if damage == "truncate" else b"")
    elif damage == "link" and name != "manifest.json":
        (saved.parent / name).write_bytes(content)
        path.symlink_to(saved.parent / name)
    with pytest.raises(CheckpointError, match=str(saved)):
        read(saved)


@pytest.mark.parametrize("manifest", [{}, [], {"schema": 99, "files": {}}, {"schema": 1, "files": {"../x": {}}}])
def test_strange_manifests_are_refused(saved: Path, manifest: Any):
    """Catches a manifest of a newer version that is read as if it were ours, and a path that leaves the folder."""
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError):
        read(saved)


def test_newest_is_by_step_and_old_ones_go(tmp_path: Path):
    """Catches an order by name or by time, and a folder that grows with the run."""
    for step in (5, 90, 1000, 20_000):
        commit(tmp_path, step, state_of(step), {}, keep=2)
    assert [path.name for path in committed(tmp_path)] == ["step-000000001000", "step-000000020000"]
    (tmp_path / "step-000000001000").touch()
    assert newest(tmp_path)[0]["value"] == 20_000


def test_falls_back_and_moves_the_damaged_aside(tmp_path: Path):
    """Catches a run that is lost, or silently restarted, for one bad file."""
    for step in (1, 2, 3):
        commit(tmp_path, step, state_of(step), {}, keep=3)
    (tmp_path / "step-000000000003" / "state.json").write_text("{}")
    (tmp_path / "step-000000000002" / "manifest.json").unlink()
    state, manifest, reasons = newest(tmp_path)
    assert (state["value"], manifest["step"]) == (1, 1)
    assert ["000000000003" in reasons[0], "000000000002" in reasons[1]] == [True, True]
    assert [path.name for path in committed(tmp_path)] == ["step-000000000001"]
    assert (tmp_path / "damaged-step-000000000003").is_dir()
    commit(tmp_path, 3, state_of(30), {}, keep=2)
    assert newest(tmp_path)[0]["value"] == 30


def test_nothing_to_believe_lists_why_and_touches_nothing(tmp_path: Path):
    """Catches a fresh start in silence, and evidence that is moved away."""
    for step in (1, 2):
        (commit(tmp_path, step, state_of(step), {}, keep=2) / "state.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"000002.*differs.*000001.*differs"):
            newest(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        newest(tmp_path / "elsewhere")


class Killed(BaseException):
    """The process ends here."""


def calls_of(monkeypatch: pytest.MonkeyPatch, dies_at: int) -> list[str]:
    """Let the process end at the n-th call that changes the disk; the calls made."""
    made: list[str] = []

    def watched(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == dies_at:
                raise Killed
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in (
        (Path, "rename"), (Path, "mkdir"), (Path, "write_text"), (shutil, "rmtree"), (np, "save"),
        (checkpoint, "save_file"), (checkpoint, "sync"),
    ):  # fmt: skip
        watched(owner, name)
    return made


def test_a_kill_at_any_call_leaves_the_last_commit_loadable(tmp_path: Path):
    """Catches a rename before the manifest, a prune before the rename, a target removed before its successor stands."""
    for replaced in (False, True):  # a new step, and the same step once more
        at, done = 0, False
        while not done:
            at += 1
            root = tmp_path / f"{replaced}-{at}"
            commit(root, 1, state_of(1), {}, keep=1)
            with pytest.MonkeyPatch.context() as patch:
                calls_of(patch, at)
                try:
                    commit(root, 1 if replaced else 2, state_of(2), {}, keep=1)
                    done = True
                except Killed:
                    pass
            assert newest(root)[0]["value"] in ((2,) if done else (1, 2))
            commit(root, 3, state_of(3), {}, keep=1)
            assert newest(root)[0]["value"] == 3
            assert [path.name for path in committed(root)] == ["step-000000000003"]
        assert at > 12


def test_a_kill_while_the_best_policy_is_replaced_leaves_one(tmp_path: Path):
    """Catches a best policy that is deleted before the better one is there."""
    for at in range(1, 30):
        folder = tmp_path / str(at) / "best"
        write(folder, state_of(1), {})
        with pytest.MonkeyPatch.context() as patch:
            calls_of(patch, at)
            try:
                write(folder, state_of(2), {})
            except Killed:
                assert checkpoint.present(folder)
                assert read(folder)[0]["value"] in (1, 2)
        write(folder, state_of(3), {})
        assert read(folder)[0]["value"] == 3
        assert [path.name for path in folder.parent.iterdir()] == ["best"]


def test_everything_is_flushed_before_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a rename that reaches the disk before the data: after a power cut the folder would be empty."""
    order: list[str] = []
    sync, rename = checkpoint.sync, Path.rename
    monkeypatch.setattr(checkpoint, "sync", lambda path: (order.append(path.name), sync(path)))
    monkeypatch.setattr(Path, "rename", lambda path, to: (order.append("rename"), rename(path, to)))
    write(tmp_path / "x", state_of(1), {})
    before = order[: order.index("rename")]
    assert set(before) == {"state.json", "state.safetensors", "wide.npy", "manifest.json", ".x.partial"}
    assert before[-2:] == ["manifest.json", ".x.partial"]
    assert order[-1] == tmp_path.name


def test_small_files_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a run.json that is cut when the process ends while it is written."""
    path = tmp_path / "run.json"
    checkpoint.write_text(path, "old")
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(Killed()))
    with pytest.raises(Killed):
        checkpoint.write_text(path, "new")
    assert path.read_text() == "old"
