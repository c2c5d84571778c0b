"""The runtime for robots: alone with numpy and onnxruntime, and refusing whatever is not as it was exported."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export_runs import SMALL, bad_rows, exported, untrained_run

from dsac import load_policy
from dsac.export.controller import Policy, PolicyRefused

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
ALONE = """
import importlib.abc, sys

class Only(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "dsac", "envs", "mujoco", "gymnasium", "onnx", "hydra", "numba"):
            raise ImportError(name)

sys.meta_path.insert(0, Only())
from controller import Policy
policy = Policy("policy.onnx", pace=False)
action = policy([0.0] * 17)
assert not {"torch", "dsac", "envs"} & sys.modules.keys()
print(action.tolist())
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of HalfCheetah with a normaliser."""
    return untrained_run(tmp_path_factory.mktemp("runs"), "HalfCheetah", "ppo", *SMALL)


@pytest.fixture
def out(run: Path, tmp_path: Path) -> Path:
    """Its export, to do with as one likes."""
    folder = run / "learner-0" / "export-best"
    if not folder.exists():
        exported(run, format="onnx")
    return Path(shutil.copytree(folder, tmp_path / "out"))


def obs_of(folder: Path) -> np.ndarray:
    """The observations of the parity set."""
    return np.load(folder / "parity.npz")["obs"]


def test_it_runs_alone(out: Path, run: Path):
    """Catches a controller that needs torch or this package, or that works only inside the repository."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", ALONE]
    done = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    expected = load_policy(run).act(np.zeros(17))
    assert np.abs(np.array(json.loads(done.stdout)) - expected).max() < 1e-5


def test_it_checks_from_the_command_line(out: Path):
    """Catches a check that a robot's owner cannot run, or that says nothing where it should refuse."""
    command = [sys.executable, "controller.py", "policy.onnx"]
    done = subprocess.run(command, cwd=out, capture_output=True, text=True, check=True)
    assert "ppo on HalfCheetah-v5" in done.stdout
    assert "us a step" in done.stdout
    (out / "parity.npz").unlink()
    refused = subprocess.run(command, cwd=out, capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (4, "")
    assert "parity.npz is missing" in refused.stderr


@pytest.mark.parametrize("name", ["policy.onnx", "policy.json", "parity.npz"])
def test_a_flipped_byte_is_refused(out: Path, name: str):
    """Catches a file that a copy or a disk has damaged, wherever: 40 places each."""
    original = (out / name).read_bytes()
    for place in np.linspace(0, len(original) - 1, 40).astype(int):
        content = bytearray(original)
        content[place] ^= 1 << int(place) % 8
        (out / name).write_bytes(content)
        with pytest.raises(PolicyRefused):
            Policy(out / "policy.onnx")


def edit(out: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change policy.json as someone would who also knows how to renew its hashes."""
    import hashlib

    table = json.loads((out / "policy.json").read_text())
    del table["sha256"]
    for name in table["files"]:
        table["files"][name] = hashlib.sha256((out / name).read_bytes()).hexdigest()
    change(table)
    own = hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
    (out / "policy.json").write_text(json.dumps({**table, "sha256": own}))


def test_swapped_joints_are_refused(out: Path):
    """Catches a contract whose joints stand in another order than those of the file, and a robot with its own order."""
    names = ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"]
    Policy(out / "policy.onnx", action_names=names)
    with pytest.raises(PolicyRefused, match=r"action 0 .*'bshin'.*'bthigh'"):
        Policy(out / "policy.onnx", action_names=[names[1], names[0], *names[2:]])
    with pytest.raises(PolicyRefused, match=r"robot .*3 .*policy 17"):
        Policy(out / "policy.onnx", obs_names=["a", "b", "c"])
    edit(out, lambda table: table["action_names"].reverse())
    with pytest.raises(PolicyRefused, match=r"policy\.json differ in action_names"):
        Policy(out / "policy.onnx")


@pytest.mark.parametrize("fault", ["weight", "normaliser", "joints"])
def test_another_policy_under_renewed_hashes_is_refused(out: Path, fault: str):
    """Catches what only parity shows: a perturbed weight, a normaliser that is skipped, swapped outputs."""
    import onnx

    model = onnx.load(out / "policy.onnx")
    arrays = {array.name: array for array in model.graph.initializer}
    name = {"weight": "layer_1_weight", "normaliser": "obs_mean", "joints": "layer_2_weight"}[fault]
    values = onnx.numpy_helper.to_array(arrays[name]).copy()
    if fault == "weight":
        values[0, 0] += 0.5
    values = values * 0 if fault == "normaliser" else values[:, ::-1].copy() if fault == "joints" else values
    arrays[name].CopyFrom(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, out / "policy.onnx")
    edit(out, lambda table: None)
    with pytest.raises(PolicyRefused, match="differ from the trained policy's by up to"):
        Policy(out / "policy.onnx")


def test_every_bad_value_is_held(out: Path):
    """Catches a bad entry that reaches the motors, a hold that nobody hears of, and one that never ends."""
    policy, good = Policy(out / "policy.onnx", pace=False), obs_of(out)[0]
    policy(good)
    for row in bad_rows(good, 1e6):
        assert not policy(row).any()
        assert not policy.valid
    assert (policy.steps, policy.holds) == (1 + 4 * 17, 4 * 17)
    assert policy.reason == "qvel[8] is 2e+06, beyond 1e+06"
    assert policy(good).any()
    assert (policy.valid, policy.reason) == (True, None)
    assert not policy(np.full(17, 1e300)).any()  # too large for a float32


def test_the_last_action_is_held(run: Path, tmp_path: Path):
    """Catches zero torque where the last action was asked for, also before there was one."""
    policy = Policy(exported(run, format="onnx", safe_action="last", out=tmp_path / "out") / "policy.onnx", pace=False)
    good, broken = obs_of(tmp_path / "out")[:2], np.full(17, np.nan)
    assert not policy(broken).any()
    for row in good:
        action = policy(row)
        assert (policy(broken) == action).all()
        assert action.any()
    policy.reset()
    assert not policy(broken).any()


def test_observations_by_name(out: Path):
    """Catches a mapping that is read in its own order, and a sensor that is missing without a word."""
    policy, row = Policy(out / "policy.onnx", pace=False), obs_of(out)[3]
    by_name = dict(reversed(list(zip(policy.obs_names, row.tolist(), strict=True))))
    assert (policy(by_name) == policy(row)).all()
    del by_name["qvel[2]"]
    assert not policy(by_name).any()
    assert policy.reason == "qvel[2] is nan"
    with pytest.raises(ValueError, match=r"unknown observations: qvel\[99\]"):
        policy({**by_name, "qvel[99]": 0.0})
    with pytest.raises(ValueError, match=r"shape \(3,\), expected \(17,\)"):
        policy([1, 2, 3])


def test_the_limits_are_kept_whatever_the_runtime_says(out: Path):
    """Catches a runtime that answers more than the actuators take."""
    policy, row = Policy(out / "policy.onnx", pace=False), obs_of(out)[0]
    policy.infer = lambda _: (np.full(6, 1.5, np.float32), True)
    assert not policy(row).any()
    assert "outside its limits" in policy.reason


def test_the_pace_is_kept(out: Path):
    """Catches actions that come faster than the policy was trained for, and a late loop that nobody counts."""
    policy, row = Policy(out / "policy.onnx"), obs_of(out)[0]
    start = time.perf_counter()
    for _ in range(5):
        policy(row)
    assert time.perf_counter() - start >= 4 * 0.05
    assert policy.late == 0 or policy.late < 5
    time.sleep(0.1)
    before = policy.late
    policy(row)
    assert policy.late == before + 1


def test_onnxruntime_is_named_where_it_is_missing(out: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a traceback on a robot that lacks the one package it needs."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(PolicyRefused, match="pip install onnxruntime"):
        Policy(out / "policy.onnx")


def test_the_copy_is_the_module(out: Path):
    """Catches a copy that lags behind."""
    assert (out / "controller.py").read_bytes() == Path(
        importlib.util.find_spec("dsac.export.controller").origin
    ).read_bytes()


@pytest.mark.parametrize("damage", ["list", "deep", "no schema", "no files", "files of a list", "null", "text"])
def test_a_contract_of_another_form_is_refused(out: Path, damage: str):
    """Catches a traceback on a robot whose policy.json is something else, also under a hash of its own."""
    changes: dict[str, Callable[[dict[str, Any]], Any]] = {
        "no schema": lambda table: table.pop("schema"),
        "no files": lambda table: table.pop("files"),
        "files of a list": lambda table: table.update(files=["policy.onnx"]),
    }
    texts = {"list": "[1]", "deep": '{"a":' * 100_000 + "1" + "}" * 100_000, "null": "null", "text": "\x00"}
    if damage in changes:
        edit(out, changes[damage])
    else:
        (out / "policy.json").write_text(texts[damage])
    with pytest.raises(PolicyRefused, match=r"policy\.json: not a readable contract"):
        Policy(out / "policy.onnx")


@pytest.mark.parametrize("key", ["obs_names", "action_low", "obs_abs_max", "safe_action", "control_period_seconds"])
@pytest.mark.parametrize("value", [[], {}, "x", None, ...])
def test_a_contract_that_lacks_what_is_needed_is_refused(out: Path, key: str, value: Any):
    """Catches a contract that is right by its hash and no use: KeyError and TypeError in a control loop's start-up."""
    edit(out, lambda table: table.pop(key) if value is ... else table.update({key: value}))
    with pytest.raises(PolicyRefused):
        Policy(out / "policy.onnx")


ROW = [0.0] * 17
OF_ANOTHER_KIND = {
    "complex": np.zeros(17, complex),
    "datetime": np.zeros(17, "datetime64[s]"),
    "timedelta": np.zeros(17, "timedelta64[s]"),
    "numeric text": ["0.0"] * 17,
    "bytes": np.array([b"1"] * 17),
    "objects": np.zeros(17, object),
    "none": [None] * 17,
    "ragged": [[0.0], *ROW[1:]],
    "nothing": None,
    "record": np.zeros(17, [("a", "f4")]),
}


@pytest.mark.parametrize("kind", OF_ANOTHER_KIND)
def test_what_is_no_row_of_numbers_is_refused(out: Path, kind: str):
    """Catches text, dates and objects that numpy would make numbers of, which no sensor ever measured."""
    policy = Policy(out / "policy.onnx", pace=False)
    with pytest.raises(ValueError, match="observation"):
        policy(OF_ANOTHER_KIND[kind])
    assert policy.steps == 0


@pytest.mark.parametrize("value", [1j, "1.0", None, object(), [1.0, 2.0], np.datetime64("2026-01-01"), [], {}])
def test_what_is_no_number_under_a_name_is_refused(out: Path, value: Any):
    """Catches an error of the runtime's own in the place of one that names the entry."""
    policy = Policy(out / "policy.onnx", pace=False)
    row = dict.fromkeys(policy.obs_names, 0.0)
    with pytest.raises(ValueError, match=r"qvel\[2\]"):
        policy({**row, "qvel[2]": value})
    for one in ([0.5], np.array([[0.5]]), np.float32(0.5), np.int64(1)):
        assert policy({**row, "qvel[2]": one}).shape == (6,)
        assert policy.valid


@pytest.mark.filterwarnings("ignore:Warning. converting a masked element")  # numpy says so of a list
def test_what_is_masked_is_no_measurement(out: Path):
    """Catches the data under a mask, which is whatever lay there when the measurement failed."""
    policy, good = Policy(out / "policy.onnx", pace=False), obs_of(out)[0]
    assert policy(np.ma.masked_array(good, False)).any()
    for row in (np.ma.masked_array(good, np.arange(17) == 3), [*good[:3], np.ma.masked, *good[4:]]):
        assert not policy(row).any()
        assert policy.reason == f"{policy.obs_names[3]} is nan"
    assert not policy({**dict(zip(policy.obs_names, good, strict=True)), policy.obs_names[3]: np.ma.masked}).any()
    assert policy(good).any()
