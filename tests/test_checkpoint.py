"""What was saved stays loadable, and what cannot be believed is not loaded."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disk import Disk, full
from small_runs import assert_same, flatten

from dsac.errors import CheckpointError
from dsac.persistence import atomic
from dsac.persistence.checkpoint import committed, newest, read, save_step, write


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
        "wide": np.full((2, 40), value, np.float64)[:, ::2],
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


def test_other_leaves_are_refused(tmp_path: Path):
    """Catches an object that would be saved as its repr, or pickled."""
    with pytest.raises(CheckpointError, match=r"a\.b holds a Generator"):
        write(tmp_path / "x", {"a": {"b": np.random.default_rng(0)}}, {})
    assert not (tmp_path / "x").exists()


FILES = ["state.json", "state.safetensors", "manifest.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["empty", "one", "half", "cut", "longer", "missing", "link", "folder", "pipe"])
def test_damage_is_noticed(saved: Path, name: str, damage: str):
    """Catches a cut file, one that was appended to, and one that is no plain file, which must not be waited for."""
    path, content = saved / name, (saved / name).read_bytes()
    lengths = {"empty": 0, "one": 1, "half": len(content) // 2, "cut": len(content) - 1}
    path.unlink()
    if damage in lengths:
        path.write_bytes(content[: lengths[damage]])
    elif damage == "longer":
        path.write_bytes(content + b" ")
    elif damage == "link":
        (saved.parent / name).write_bytes(content)
        path.symlink_to(saved.parent / name)
    elif damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    with pytest.raises(CheckpointError, match=str(saved)):
        read(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_noticed(saved: Path, name: str):
    """Catches a format that takes any bits for a number, as safetensors does, and an unguarded manifest."""
    path, content = saved / name, (saved / name).read_bytes()
    places = range(len(content)) if name == "manifest.json" else range(0, len(content), 97)
    for place in places:
        for mask in (1, 0x20, 0xFF):
            damaged = bytearray(content)
            damaged[place] ^= mask
            path.write_bytes(damaged)
            with pytest.raises(CheckpointError):
                read(saved)
    path.write_bytes(content)
    read(saved)


@pytest.mark.parametrize(
    "manifest",
    [
        {}, [], 5, {"schema": 99, "files": {}}, {"schema": None, "files": {}}, {"schema": 2, "files": {}},
        *({"schema": 2, "files": {name: {"bytes": 0, "sha256": ""}}} for name in ("../x", "", ".", "..", "/etc/hosts")),
        {"schema": 2, "files": {"state.json": None}}, {"schema": 2, "files": {"state.json": {"bytes": "many"}}},
    ],
)  # fmt: skip
def test_strange_manifests_are_refused(saved: Path, manifest: Any):
    """Catches a manifest of a newer version that is read as if it were ours, and a path that leaves the folder."""
    text = atomic.rendered(manifest) if isinstance(manifest, dict) else json.dumps(manifest).encode()
    (saved / "manifest.json").write_bytes(text)
    with pytest.raises(CheckpointError):
        read(saved)


@pytest.mark.parametrize("text", ["[" * 200_000, '{"schema": 2, "files": {"a": 1e999999}}', "\0", "{", '{"schema": 2}'])
def test_hostile_manifests_are_refused(saved: Path, text: str):
    """Catches a parser that is led into a recursion without end."""
    (saved / "manifest.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"no readable manifest|names no files|altered"):
        read(saved)


def test_a_manifest_of_a_gigabyte_is_not_read(saved: Path):
    """Catches a reader that takes into memory whatever a file holds."""
    with (saved / "manifest.json").open("r+b") as file:
        file.truncate(1 << 30)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="no readable manifest"):
        read(saved)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 4 * atomic.LARGEST_MANIFEST / 1024


def test_a_header_that_asks_for_everything_is_refused(saved: Path):
    """Catches a length in a file that is believed: 2^63 bytes of header, behind a manifest that vouches for it."""
    _, manifest = read(saved)
    content = (2**63).to_bytes(8, "little") + b"{}"
    (saved / "state.safetensors").write_bytes(content)
    manifest["files"]["state.safetensors"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (saved / "manifest.json").write_bytes(atomic.rendered(manifest))
    with pytest.raises(CheckpointError, match=r"(?i)header"):
        read(saved)


def test_what_no_manifest_lists_is_not_read(saved: Path):
    """Catches a file that is taken for part of a checkpoint because it lies there."""
    expected = flatten(read(saved)[0])
    np.save(saved / "value.npy", np.zeros(3))
    (saved / ".DS_Store").write_text("")
    assert_same(flatten(read(saved)[0]), expected)


class Canary:
    """Unpickled, it leaves a trace."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("canary"),)


@pytest.mark.parametrize("name", ["state.safetensors", "state.json"])
def test_a_pickle_is_not_opened(saved: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a loader that runs what it loads, even where every hash is right."""
    monkeypatch.chdir(tmp_path)
    _, manifest = read(saved)
    content = pickle.dumps(Canary())
    (saved / name).write_bytes(content)
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (saved / "manifest.json").write_bytes(atomic.rendered(manifest))
    with pytest.raises(CheckpointError):
        read(saved)
    assert not Path("canary").exists()


def test_newest_is_by_step_and_old_ones_go(tmp_path: Path):
    """Catches an order by name or by time, and a folder that grows with the run."""
    for step in (5, 90, 1000, 20_000):
        save_step(tmp_path, step, state_of(step), {}, keep=2)
    assert [path.name for path in committed(tmp_path)] == ["step-000000001000", "step-000000020000"]
    (tmp_path / "step-000000001000").touch()
    assert newest(tmp_path)[0]["value"] == 20_000


def test_falls_back_and_moves_the_damaged_aside(tmp_path: Path):
    """Catches a run that is lost, or silently restarted, for one bad file."""
    for step in (1, 2, 3):
        save_step(tmp_path, step, state_of(step), {}, keep=3)
    (tmp_path / "step-000000000003" / "state.json").write_text("{}")
    (tmp_path / "step-000000000002" / "manifest.json").unlink()
    state, manifest, reasons = newest(tmp_path)
    assert (state["value"], manifest["step"]) == (1, 1)
    assert ["000000000003" in reasons[0], "000000000002" in reasons[1]] == [True, True]
    assert [path.name for path in committed(tmp_path)] == ["step-000000000001"]
    assert (tmp_path / "damaged-step-000000000003").is_dir()
    save_step(tmp_path, 3, state_of(30), {}, keep=2)
    assert newest(tmp_path)[0]["value"] == 30


def test_nothing_to_believe_lists_why_and_touches_nothing(tmp_path: Path):
    """Catches a fresh start in silence, and evidence that is moved away."""
    for step in (1, 2):
        (save_step(tmp_path, step, state_of(step), {}, keep=2) / "state.json").write_text("{}")
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"000002.*differs.*000001.*differs"):
            newest(tmp_path)
    with pytest.raises(CheckpointError, match="no checkpoint there"):
        newest(tmp_path / "elsewhere")


def test_a_copy_with_other_times_loads_the_same_step(tmp_path: Path):
    """Catches an order by modification time, which a copy or a clock that was set changes."""
    for step in (1, 2, 3):
        save_step(tmp_path / "run", step, state_of(step), {}, keep=3)
    copy = shutil.copytree(tmp_path / "run", tmp_path / "a copy ü")
    for age, path in enumerate(sorted(copy.rglob("*"))):
        os.utime(path, (10**9 - age, 10**9 - age))
    assert newest(copy)[1]["step"] == 3


def test_a_checkpoint_of_another_step_is_not_believed(tmp_path: Path):
    """Catches a folder that was renamed by hand, which would be taken for newer than it is."""
    for step in (1, 2):
        save_step(tmp_path, step, state_of(step), {}, keep=2)
    (tmp_path / "step-000000000001").rename(tmp_path / "step-000000000007")
    state, _, reasons = newest(tmp_path)
    assert state["value"] == 2
    assert reasons == [f"{tmp_path / 'step-000000000007'}: it is of step 1"]


def test_a_link_is_no_checkpoint(tmp_path: Path):
    """Catches a prune that follows a link and empties a folder elsewhere."""
    elsewhere = write(tmp_path / "elsewhere", state_of(0), {"step": 0})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "step-000000000000").symlink_to(elsewhere)
    for step in (1, 2):
        save_step(tmp_path / "run", step, state_of(step), {}, keep=1)
    assert read(elsewhere)[0]["value"] == 0


def test_a_disk_that_is_full_at_any_call_leaves_the_last_save_and_no_rubbish(tmp_path: Path):
    """Catches a full disk that costs what was saved before, or that half-written files keep full."""
    at, over = 0, False
    while not over:
        root = tmp_path / str(at)
        root.mkdir()
        with Disk(root, piece=1000) as disk:
            save_step(root, 1, state_of(1), {}, keep=1)
            calls = len(disk.calls)

            def fail(call: str, last: int = calls + at, disk: Disk = disk) -> None:
                if len(disk.calls) == last and call.partition(" ")[0] in ("create", "write", "fsync", "close", "mkdir"):
                    full(call)

            disk.before = fail
            try:
                save_step(root, 2, state_of(2), {}, keep=1)
                over = len(disk.calls) < calls + at
            except OSError:
                disk.before = lambda call: None
            assert newest(root)[0]["value"] in (1, 2)
            assert not list(root.glob(".*.partial"))
        at += 1
    assert at > 15
