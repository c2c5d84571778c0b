"""risk.onnx: the critics' mean and sigma under the policy's contract, and the controller that heeds them."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_algorithm
from said import assert_says
from small_runs import small_config, train_whole

from dsac import export
from dsac.errors import ConfigError, ExportRefused
from dsac.evaluation import falls
from dsac.export import controller, risk
from dsac.export.parity import TOLERANCE

onnxruntime = pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
CAREFUL = Path(__file__).parent.parent / "examples" / "controller" / "careful.py"
CONTRACT = {"versions": {"dsac": "test"}}


def rows(algorithm: Any, count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Observations and actions in the task's units."""
    draw, spec = np.random.default_rng(0), algorithm.spec
    obs = draw.normal(0, 3, (count, spec.obs_dim)).astype(np.float32)
    action = draw.uniform(spec.action_low, spec.action_high, (count, spec.action_dim)).astype(np.float32)
    return obs, action


def answers(content: bytes, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Mean and sigma (n, 2) of a file."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.stack(session.run(["mean", "sigma"], {"obs": obs, "action": action}), 1)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("dsac_x", {}),
        ("dsac_x", {"layer_norm": True, "twin_value_distributions": False, "observation_normalization": False}),
        ("dsac_t", {"reward_scale": 0.2, "observation_normalization": True}),
        ("dsac_v1", {}),
    ],
)
def test_the_file_says_what_the_critics_say(name: str, settings: dict[str, Any]):
    """Catches one critic's sigma, the wrong head, units of the scaled reward, actions taken as unit actions."""
    algorithm = make_algorithm(name, **settings)
    obs, action = rows(algorithm)
    if algorithm.observations is not None:
        algorithm.observations.update(torch.from_numpy(obs)[None, None] + 1)
    if algorithm.returns is not None:
        reward = torch.from_numpy(np.random.default_rng(1).normal(3, 9, (40, 1, 4)).astype(np.float32))
        algorithm.returns.update(reward, torch.zeros(40, 1, 4, dtype=torch.bool))
    found = answers(risk.write_risk(algorithm, 1e6, CONTRACT, dynamic=True), obs, action)
    low, high = algorithm.spec.action_low, algorithm.spec.action_high
    said = falls.signals_of(algorithm, obs, 2 * (action - low) / (high - low) - 1)
    expected = np.stack([-said["minus_mean"], said["sigma"]], 1)
    scale = np.sqrt(np.square(expected).mean(0))
    assert (np.abs(found - expected) <= 2 * TOLERANCE * np.maximum(np.abs(expected), scale)).all()
    parity = risk.risk_parity(algorithm, obs, action, 0)
    assert parity.mean[:64] == pytest.approx(expected[:, 0], rel=1e-4, abs=1e-4 * scale[0])
    assert parity.sigma[:64] == pytest.approx(expected[:, 1], rel=1e-4, abs=1e-4 * scale[1])


def test_what_cannot_be_trusted_is_infinite():
    """Catches a small sigma for an observation or an action that is not a number or beyond its limits."""
    algorithm = make_algorithm("dsac_x")
    content = risk.write_risk(algorithm, 50.0, CONTRACT, dynamic=True)
    obs, action = (part[:1] for part in rows(algorithm))
    assert np.isfinite(answers(content, obs, action)).all()
    for bad in (np.nan, np.inf, -np.inf, 51.0):
        for part in (0, 1):
            wrong = [obs.copy(), action.copy()]
            wrong[part][0, -1] = bad
            assert np.isposinf(answers(content, *wrong)).all(), (bad, part)


@pytest.mark.parametrize("name", ["sac", "td3", "ddpg", "ppo"])
def test_an_algorithm_without_a_spread_is_refused(name: str):
    """Catches a sigma made of nothing."""
    with pytest.raises(ConfigError) as refused:
        risk.critics_with_spread(make_algorithm(name))
    assert_says(str(refused.value), f"algo={name}", "dsac_x")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of DSAC-X."""
    return train_whole(small_config(tmp_path_factory.mktemp("risk"), "dsac_x", "env=InvertedPendulum"))


@pytest.fixture(scope="module")
def folder(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its export."""
    out = tmp_path_factory.mktemp("export") / "out"
    settings = {"which": "last", "risk": True, "format": "onnx", "episodes": 0, "rows": 256}
    return Path(export(run, out=out, **settings)["out"])


def test_an_export_holds_both_under_one_contract(folder: Path):
    """Catches a graph that policy.json does not name, one that is not checked, another contract inside."""
    table = json.loads((folder / "policy.json").read_text())
    assert {"risk.onnx", "risk-parity.npz"} <= table["files"].keys()
    assert table["risk"]["outputs"] == ["mean", "sigma"]
    assert table["checks"]["risk"]["worst_error"] <= TOLERANCE
    found = controller.Risk(folder / "risk.onnx")
    assert found.contract == controller.Policy(folder / "policy.onnx", pace=False).contract
    mean, sigma = found(np.zeros(4), np.zeros(1))
    assert np.isfinite(mean)
    assert sigma > 0
    assert found(np.full(4, np.nan), np.zeros(1))[1] == np.inf


def test_a_damaged_risk_is_refused(folder: Path, tmp_path: Path):
    """Catches a controller that heeds a file of another export."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "risk.onnx").write_bytes((folder / "risk.onnx").read_bytes() + b"x")
    with pytest.raises(controller.PolicyRefused, match="altered"):
        controller.Risk(tmp_path / "risk.onnx")
    (tmp_path / "risk.onnx").unlink()
    with pytest.raises(controller.PolicyRefused, match="missing"):
        controller.Risk(tmp_path / "risk.onnx")


def test_a_graph_that_says_something_else_leaves_no_file(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches an export whose parity nobody looked at."""
    parity = risk.risk_parity
    with monkeypatch.context() as patch:
        patch.setattr(risk, "risk_parity", lambda *given: parity(*given)._replace(sigma=parity(*given).sigma * 1.001))
        with pytest.raises(ExportRefused, match="risk"):
            export(run, which="last", risk=True, format="onnx", episodes=0, rows=256, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_risk_needs_a_graph_of_the_policy(run: Path):
    """Catches a setting that does nothing."""
    with pytest.raises(ConfigError) as refused:
        export(run, risk=True, format="c")
    assert_says(str(refused.value), "risk=true", "format=c")


def test_the_careful_controller_slows_down_and_stops(folder: Path):
    """Catches a robot that speeds up where sigma grows, or runs on where nothing can be trusted."""
    careful = runpy.run_path(str(CAREFUL))["CarefulPolicy"]
    policy = controller.Policy(folder / "policy.onnx", pace=False)
    real = controller.Risk(folder / "risk.onnx")
    obs = np.array([0.01, 0.02, 0.1, -0.1])
    action, sigma = policy(obs), real(obs, policy(obs))[1]
    for bound, speed in ((2 * sigma, 1.0), (sigma / 1.5, 0.5), (sigma / 3, 0.0)):
        one = careful(policy, real, bound)
        assert one(obs) == pytest.approx(policy.safe_action + speed * (action - policy.safe_action), rel=1e-4, abs=1e-6)
        assert one.speed == pytest.approx(speed, rel=1e-4)
    blind = careful(policy, real, 1e9)
    assert np.array_equal(blind([np.nan, 0, 0, 0]), policy.safe_action)
    assert blind.speed == 0
    seen: list[Any] = []
    careful(policy, lambda *given: seen.append(given) or (0.0, 1.0), 2.0)(obs)
    assert seen[0][1] == pytest.approx(action)  # judged is the action that the policy wants


def test_the_careful_controller_runs_as_its_page_says(folder: Path):
    """Catches an example that only works beside the package."""
    words = [sys.executable, str(CAREFUL), str(folder), "1e-9"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert_says(done.stdout, "100% stopped")
