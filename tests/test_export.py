"""Exports do what the policy does, or do not come into being."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from export_runs import SMALL, bad_rows, exported, left_behind, untrained_run
from said import assert_says

from dsac import export, load_policy
from dsac.algorithms import names
from dsac.cli.exit_codes import REFUSED, STORAGE, USAGE
from dsac.errors import CheckpointError, ConfigError, ExportRefused
from dsac.export import c_header, main, onnx_graph, runtimes, write
from dsac.export import parity as parity_module
from dsac.export.layers import Layers
from dsac.export.runtimes import CLibrary
from dsac.nn.networks import ACTIVATIONS
from dsac.persistence.atomic import rendered
from dsac.schema.safe_action import safe_action
from envs.contract import EnvSpec

ort = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
TASKS = ("Humanoid", "HalfCheetah")
RECORDED: dict[str, np.ndarray] = {}


@pytest.fixture(scope="module")
def cheetah(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of PPO on HalfCheetah: with a normaliser, two learners."""
    return untrained_run(tmp_path_factory.mktemp("runs"), "HalfCheetah", "ppo", "learners=2", *SMALL)


def onnx_actions(path: Path, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a program gets that knows the names `obs` and `actions` and static shapes; and `valid`."""
    session = ort.InferenceSession(str(path))
    answers = [session.run(["actions", "valid"], {"obs": row[None]}) for row in obs]
    return np.concatenate([actions for actions, _ in answers]), np.concatenate([valid for _, valid in answers])


@pytest.fixture
def one_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the policies of a task be compared on the episodes of the first of them: playing takes the longest."""
    record = parity_module.record

    def recorded(policy: Any, env: Any, *rest: Any) -> np.ndarray:
        if env.spec.id not in RECORDED:
            RECORDED[env.spec.id] = record(policy, env, *rest)
        return RECORDED[env.spec.id]

    monkeypatch.setattr(parity_module, "record", recorded)


@pytest.mark.parametrize("algo", names())
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.usefixtures("one_recording")
def test_parity_of_every_algorithm(tmp_path: Path, task: str, algo: str):
    """Catches an algorithm whose head, normaliser, range or activation is written down wrongly: measured here anew,
    against the module that evaluation runs, in the bare runtime and in compiled C."""
    run = untrained_run(tmp_path, task, algo, *SMALL)
    out = exported(run, rows=4096)
    policy, parity = load_policy(run), np.load(out / "parity.npz")
    obs, half_range = parity["obs"], (policy.action_high - policy.action_low).numpy() / 2
    assert len(obs) >= 4096
    assert min(np.bincount(parity["kind"], minlength=3)) > 0
    expected = policy.act(obs)
    assert (np.abs(parity["actions"] - expected) / half_range).max() <= 2e-6  # batches of another size round otherwise
    assert np.ptp(expected / half_range, axis=0).min() > 0.5  # the policy acts, so that a wrong scale would show
    actions, valid = onnx_actions(out / "policy.onnx", obs)
    assert valid.all()
    assert (np.abs(actions - expected) / half_range).max() <= 1e-5
    actions, reasons = CLibrary(out / "policy.h", *map(len, (obs[0], half_range)))(obs)
    assert not reasons.any()
    assert (np.abs(actions - expected) / half_range).max() <= 1e-5


@pytest.mark.parametrize("layer_norm", ["false", "true"])
@pytest.mark.parametrize("activation", list(ACTIVATIONS))
def test_parity_of_every_network(tmp_path: Path, activation: str, layer_norm: str):
    """Catches an approximate GELU, a layer norm with another epsilon, a normaliser of an algorithm that has none by
    default."""
    words = (f"algo.activation={activation}", f"algo.layer_norm={layer_norm}", "algo.observation_normalization=true")
    run = untrained_run(tmp_path, "HalfCheetah", "sac", *SMALL, *words)
    report = export(run, rows=512, episodes=0, format="onnx,c,torchscript")
    found = report["checks"]["runtimes"]
    assert set(found) == {"torch", "onnx", "c", "torchscript"}
    assert max(runtime["worst_error"] for runtime in found.values()) <= 1e-5
    assert any("legacy" in line for line in report["warnings"])


def test_nothing_untrusted_reaches_the_actuators(cheetah: Path):
    """Catches an entry, or a kind of bad value, that a runtime lets through or answers with another action."""
    safe = [0.1, -0.2, 0.3, 0.0, 0.25, -1.0]
    out = exported(cheetah, format="onnx,c,torchscript", safe_action=safe, obs_abs_max=1000)
    rows = bad_rows(np.load(out / "parity.npz")["obs"][0], 1000)
    assert len(rows) == 4 * 17
    c_actions, reasons = CLibrary(out / "policy.h", 17, 6)(rows)
    module = torch.jit.load(out / "policy.pt")
    answers = {
        "onnx": onnx_actions(out / "policy.onnx", rows),
        "c": (c_actions, reasons == 0),
        "torchscript": tuple(tensor.numpy() for tensor in module(torch.from_numpy(rows))),
    }
    for name, (actions, valid) in answers.items():
        assert not valid.any(), name
        assert (actions == np.array(safe, np.float32)).all(), name
    assert reasons.reshape(17, 4).tolist() == [[1, 1, 1, 2]] * 17
    edge = np.full((1, 17), 1000, np.float32)
    assert CLibrary(out / "policy.h", 17, 6)(edge)[1][0] == 0
    assert onnx_actions(out / "policy.onnx", edge)[1][0]


def test_a_net_that_overflows_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a NaN that arises inside the net and passes the limits."""
    run = untrained_run(tmp_path, "HalfCheetah", "td3", *SMALL, "algo.activation=relu")
    out = exported(run, obs_abs_max=1e37)
    obs = np.full((1, 17), 1e37, np.float32) * np.sign(np.arange(17) % 2 - 0.5).astype(np.float32)
    policy = load_policy(run)
    policy.net.hidden[0].weight.mul_(1e9)
    assert np.isnan(policy.act(obs)).any()
    layers = write.layers_of(policy)
    safe = write.SafeAction("zero", np.zeros(6, np.float32))
    facts = json.loads((out / "policy.json").read_text())
    (out / "policy.onnx").write_bytes(onnx_graph.write_onnx(layers, 1e37, safe, facts, False))
    actions, valid = onnx_actions(out / "policy.onnx", obs)
    assert not valid.any()
    assert not actions.any()
    kept = np.load(out / "parity.npz")
    parity = write.ParitySet(kept["obs"], kept["actions"], kept["kind"], kept["half_range"], 0, 0.0)
    (out / "policy.h").write_text(c_header.write_header(layers, 1e37, safe, facts, parity))
    actions, reasons = CLibrary(out / "policy.h", 17, 6)(obs)
    assert reasons.tolist() == [3]
    assert not actions.any()


def test_a_program_that_knows_two_names(cheetah: Path):
    """Catches an input or an output of another name, type or shape than deployed controllers have written down."""
    session = ort.InferenceSession(str(exported(cheetah) / "policy.onnx"))
    obs = np.linspace(-1, 1, 17, dtype=np.float32).reshape(1, 17)
    (actions,) = session.run(["actions"], {"obs": obs})
    assert (actions.dtype, actions.shape) == (np.float32, (1, 6))
    assert np.abs(actions - load_policy(cheetah).act(obs)).max() <= 1e-5
    assert [entry.name for entry in session.get_inputs()] == ["obs"]


def nudge(layers: Layers) -> Layers:
    """One weight of the second layer, moved by one rounding."""
    weight = layers.layers[1].weight.copy()
    weight[3, 2] = np.nextafter(weight[3, 2], np.float32(np.inf))
    return layers._replace(layers=(layers.layers[0], layers.layers[1]._replace(weight=weight), *layers.layers[2:]))


def swap_joints(layers: Layers) -> Layers:
    """The first two actions in the other's place."""
    last, order = layers.layers[-1], [1, 0, 2, 3, 4, 5]
    swapped = last._replace(weight=last.weight[:, order].copy(), bias=last.bias[order])
    return layers._replace(layers=(*layers.layers[:-1], swapped))


def drop_normaliser(layers: Layers) -> Layers:
    return layers._replace(mean=None, inverse_std=None, clip=None)


def write_with(monkeypatch: pytest.MonkeyPatch, fault: Any) -> None:
    """Let both writers write another policy than they are given."""
    onnx_writer, c_writer = onnx_graph.write_onnx, c_header.write_header
    monkeypatch.setattr(onnx_graph, "write_onnx", lambda layers, *rest: onnx_writer(fault(layers), *rest))
    monkeypatch.setattr(c_header, "write_header", lambda layers, *rest: c_writer(fault(layers), *rest))


@pytest.mark.parametrize("fault", [nudge, swap_joints, drop_normaliser])
@pytest.mark.parametrize("file", ["onnx", "c"])
def test_other_weights_are_refused(
    cheetah: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, fault: Any
):
    """Catches a writer that loses, alters or reorders a weight, however little the actions show it."""
    write_with(monkeypatch, fault)
    with pytest.raises(ExportRefused, match=r"policy\.(onnx|h) (holds another|lacks) (layer|obs)"):
        exported(cheetah, format=file, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_refused_export_leaves_the_one_before(cheetah: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a robot's good files that are gone, or mixed with others, after an export that failed."""
    out = exported(cheetah, format="onnx", out=tmp_path / "out")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    write_with(monkeypatch, swap_joints)
    with pytest.raises(ExportRefused):
        exported(cheetah, format="onnx", out=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("fault", [nudge, swap_joints, drop_normaliser])
@pytest.mark.parametrize("file", ["onnx", "c"])
def test_other_actions_are_refused(
    cheetah: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, fault: Any
):
    """Catches what the weights do not tell: a graph that uses them in another way. One rounding passes here."""
    write_with(monkeypatch, fault)
    monkeypatch.setattr(write, "check_weights", lambda *_: None)
    if fault is nudge:
        exported(cheetah, format=file, out=tmp_path / "out")
        return
    with pytest.raises(ExportRefused, match=r"half range"):
        exported(cheetah, format=file, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_closed_loop_that_returns_less_is_refused(cheetah: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a file that agrees on single observations and fails in the loop, and a check that lets it pass."""
    original = runtimes.c_runtime

    def lazy(*arguments: Any) -> Any:
        return original(*arguments)._replace(act=lambda obs: np.ones((len(obs), 6), np.float32))

    monkeypatch.setattr(write, "c_runtime", lazy)
    with pytest.raises(ExportRefused, match="in closed loop c returns"):
        export(cheetah, rows=256, episodes=3, format="c", out=tmp_path / "deep" / "out")
    assert not list(tmp_path.iterdir())


def test_the_closed_loop_is_the_one_of_evaluate(cheetah: Path, tmp_path: Path):
    """Catches a closed loop on other worlds or seeds than the score it stands beside, and unequal runtimes."""
    from dsac import evaluate

    report = export(cheetah, rows=256, episodes=2, out=tmp_path / "out")
    expected = evaluate(cheetah, episodes=2)
    loops = {name: found["closed_loop"] for name, found in report["checks"]["runtimes"].items()}
    assert loops["torch"]["mean"] == expected["mean"]
    assert report["contract"]["score"]["mean"] == expected["mean"]
    for name in ("onnx", "c"):
        low, high = loops[name]["interval_95"]
        assert low <= expected["interval_95"][1], name
        assert high >= expected["interval_95"][0], name


def test_a_flipped_byte_of_the_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches an export of a policy that the disk has damaged."""
    run = untrained_run(tmp_path, "InvertedPendulum", "ppo", *SMALL)
    file = run / "learner-0" / "best" / "state.safetensors"
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    assert main([f"run={run}", "episodes=0", "rows=256"]) == STORAGE
    assert "differs from its manifest" in capsys.readouterr().err
    assert not left_behind(tmp_path)
    with pytest.raises(CheckpointError):
        exported(run)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("action_names", ["fthigh", "bshin", "bfoot", "bthigh", "fshin", "ffoot"], "action 0 was 'fthigh'"),
        ("obs_names", [f"qpos[{place}]" for place in range(17)], r"observation 0 was 'qpos\[0\]'"),
        ("control_period_seconds", 0.02, "an action every 0.02 s, now it is every 0.05 s"),
    ],
)
def test_a_task_that_changed_since_the_training_is_refused(tmp_path: Path, field: str, value: Any, told: str):
    """Catches joints, sensors or a clock that a model was given after the policy was trained."""
    run = untrained_run(tmp_path, "HalfCheetah", "ppo", *SMALL)
    manifest = run / "learner-0" / "best" / "manifest.json"
    facts = json.loads(manifest.read_text())
    facts["task"][field] = value
    del facts["sha256"]
    manifest.write_bytes(rendered(facts))
    with pytest.raises(ExportRefused, match=told):
        exported(run)
    assert not left_behind(tmp_path)


def test_limits_that_changed_since_the_training_are_refused(tmp_path: Path):
    """Catches another ctrlrange, which a run from before the task was noted shows in its limits alone."""
    run = untrained_run(tmp_path, "HalfCheetah", "ppo", *SMALL)
    policy = load_policy(run)
    policy.action_high[2] = 0.5
    write.check_task({}, write.layers_of(load_policy(run)), _spec())
    with pytest.raises(ExportRefused, match=r"limits of bfoot were -1 to 0\.5"):
        write.check_task({}, write.layers_of(policy), _spec())


def _spec() -> Any:
    import envs

    return envs.make("HalfCheetah", 1, 0, action_units="env").spec


def test_an_overflown_weight_is_refused(tmp_path: Path):
    """Catches a diverged policy that would hold for ever."""
    run = untrained_run(tmp_path, "HalfCheetah", "ppo", *SMALL)
    policy = load_policy(run)
    policy.net.hidden[1].weight[0, 0] = float("nan")
    with pytest.raises(ExportRefused, match=r"layer_1_weight .* not finite"):
        write.layers_of(policy)


def test_the_file_says_what_the_contract_says(cheetah: Path):
    """Catches metadata that lacks a fact, differs from policy.json or is rounded; shapes that are not static; external
    weights; an opset that deployed runtimes do not read."""
    out = exported(cheetah, learner=1)
    table, model = json.loads((out / "policy.json").read_text()), onnx.load(out / "policy.onnx")
    inside = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert inside == {key: value for key, value in table.items() if key not in ("checks", "files", "sha256")}
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    shapes = {
        value.name: [place.dim_value for place in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"obs": [1, 17], "actions": [1, 6], "valid": [1]}
    policy = load_policy(cheetah, learner=1)
    normaliser = table["normaliser"]
    assert np.array_equal(np.float32(normaliser["mean"]), policy.obs_mean.numpy())
    assert np.array_equal(np.float32(normaliser["inverse_std"]), policy.obs_inverse_std.numpy())
    assert np.allclose(np.array(normaliser["variance"]) * np.array(normaliser["inverse_std"]) ** 2, 1, rtol=1e-12)
    assert table["obs_names"][:2] == ["qpos[1]", "qpos[2]"]
    assert table["obs_units"][:2] == ["m", "rad"]
    assert table["obs_units"][-1] == "rad/s"
    assert table["action_names"] == ["bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot"]
    assert table["action_semantics"][0] == {"kind": "torque", "joint": "bthigh", "per_unit": 120.0, "unit": "Nm"}
    assert_says((out / "policy.h").read_text(), "0 bthigh, -1.0 to 1.0", "joint bthigh, 120 Nm")
    assert (table["env"], table["task_version"], table["learner"], table["seed"]) == ("HalfCheetah-v5", "v5", 1, 1)
    assert table["control_period_seconds"] == pytest.approx(0.05)
    assert f'"{table["weights_sha256"]}"' in (out / "policy.h").read_text()


def test_exporting_again_gives_the_same_files(cheetah: Path, tmp_path: Path):
    """Catches a file that depends on the hour or on the order of a dict."""
    first, second = (exported(cheetah, out=tmp_path / name) for name in ("first", "second"))
    for name in ("policy.onnx", "policy.h", "parity.npz"):
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_learners_have_their_own(cheetah: Path, tmp_path: Path):
    """Catches an export of learner 0 under another's name."""
    tables = [json.loads((exported(cheetah, learner=k) / "policy.json").read_text()) for k in (0, 1)]
    assert tables[0]["weights_sha256"] != tables[1]["weights_sha256"]
    assert (cheetah / "learner-1" / "export-best" / "policy.json").is_file()


def test_a_dynamic_batch(cheetah: Path, tmp_path: Path):
    """Catches a graph that answers only its first row, or judges all rows by one."""
    out = exported(cheetah, batch="dynamic", format="onnx", out=tmp_path / "out")
    obs = np.load(out / "parity.npz")["obs"][:5].copy()
    expected = load_policy(cheetah).act(obs)
    obs[2, 3] = np.nan
    actions, valid = ort.InferenceSession(str(out / "policy.onnx")).run(["actions", "valid"], {"obs": obs})
    assert valid.tolist() == [True, True, False, True, True]
    assert np.abs(actions - expected)[valid].max() <= 1e-5
    assert not actions[2].any()


def test_what_float32_does_not_settle_is_passed_over(tmp_path: Path):
    """Catches a parity set that refuses good files where torch does not agree with itself, and one that is empty."""
    run = untrained_run(tmp_path, "Humanoid", "sac", *SMALL)
    policy = load_policy(run)
    import envs

    env = envs.make("Humanoid", 4, 0, action_units="env", threads=1)
    for parameter in policy.parameters():
        parameter.mul_(4)
    layers = write.layers_of(policy)
    parity = write.parity_set(policy, layers, env, 1e6, 1024, 0)
    assert parity.left_out > 0
    assert parity.rounding > 1e-5
    one_by_one = np.concatenate([policy.act(row[None]) for row in parity.obs])
    assert parity.error(one_by_one) <= 1e-5
    env.close()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["format=onx"], "'onx' is none of onnx, c, torchscript: did you mean onnx?"),
        (["lerner=1"], "unknown key 'lerner': did you mean learner?"),
        (["learner=7"], "no best policy of learner 7"),
        (["batch=32"], "batch=32 must be one of 1, dynamic"),
        (["safe_action=[0,0]"], "must be zero, last or a list of 6 numbers, one for each of bthigh"),
        (["safe_action=[0,0,0,0,0,2]"], "safe_action: 2 for ffoot is outside its limits, -1 to 1"),
        (["obs_abs_max=1e38"], "must be above 0 and at most 1e+37"),
        (["obs_abs_max=0.5"], "the policy meets larger ones in its task, qvel["),
        (["out={tmp}/mine"], "exists and is no export"),
    ],
)
def test_a_wrong_request_is_refused(
    cheetah: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], told: str
):
    """Catches a word that is ignored, and an export over something else."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    words = [word.format(tmp=tmp_path) for word in words]
    assert main([f"run={cheetah}", "episodes=0", f"out={tmp_path}/out", *words]) == USAGE
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "thesis.tex"]


def test_an_own_robot_is_told_to_set_its_safe_action(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a standing robot that is silently given zero torque; and units that its task file names."""
    crane = ("env.xml=examples/crane/crane.xml", "env.task=examples.crane.task")
    run = untrained_run(tmp_path, "custom", "ppo", *crane, *SMALL)
    words = [f"run={run}", "episodes=0", "rows=256", "format=c", crane[1]]
    assert main(words) == 0
    told = capsys.readouterr()
    assert "Zero torque lets a standing robot fall" in told.err
    assert "results in" in told.out
    assert main([*words, "safe_action=[0,0.5]"]) == 0
    assert "Zero torque" not in capsys.readouterr().err
    table = json.loads((run / "learner-0" / "export-best" / "policy.json").read_text())
    assert table["obs_units"] == ["m", "1", "1", "m", "m/s", "rad/s", "m/s", "m", "m"]
    assert table["safe_action"] == {"kind": "vector", "value": [0.0, 0.5]}
    assert table["run"].startswith("Crane-v0/ppo/")
    assert main(words[:-1]) == USAGE


def test_the_safe_action_lies_within_the_limits():
    """Catches a valve of 15 to 60 that gets 0 by default, or a refusal that does not say how to choose."""
    limits = (np.array([15, -1, -9], np.float32), np.array([60, 1, -2], np.float32))
    spec = EnvSpec("Valve-v0", 1, 3, *limits, 0.1, ("x",), ("valve", "arm", "pump"), ())
    assert [safe_action(word, spec).value.tolist() for word in (None, "last")] == [[15, 0, -2]] * 2
    assert safe_action(None, spec).kind == "vector"
    with pytest.raises(ConfigError, match=r"0 for valve .* 15 to 60.*safe_action=\[15,0,-2\]"):
        safe_action("zero", spec)


def test_the_extra_is_named_where_it_is_missing(cheetah: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a traceback, or a file, where onnx is not installed; C needs no extra."""
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[export\]'"):
        exported(cheetah, out=tmp_path / "out")
    assert not list(tmp_path.iterdir())
    assert (exported(cheetah, format="c", out=tmp_path / "out") / "policy.h").is_file()


def test_a_missing_compiler_is_named(cheetah: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a policy.h that nobody compiled."""
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(ConfigError, match="there is no C compiler"):
        exported(cheetah, format="c", out=tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_refusal_has_an_exit_code_of_its_own(
    cheetah: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a script that takes a refused export for a usage error, or for success."""
    write_with(monkeypatch, swap_joints)
    assert main([f"run={cheetah}", "episodes=0", "rows=256", f"out={tmp_path}/out"]) == REFUSED
    assert_says(capsys.readouterr().err, "error: policy.onnx", "layer_2_weight")


def test_an_export_to_a_link_takes_its_place_and_leaves_where_it_led(cheetah: Path, tmp_path: Path):
    """Catches `out=current` with current -> v1, which emptied v1: the robot's controller."""
    first = exported(cheetah, out=tmp_path / "v1")
    before = {path.name: path.read_bytes() for path in first.iterdir()}
    (tmp_path / "current").symlink_to("v1")
    exported(cheetah, out=tmp_path / "current")
    assert {path.name: path.read_bytes() for path in first.iterdir()} == before
    assert not (tmp_path / "current").is_symlink()
    assert (tmp_path / "current" / "policy.h").is_file()
