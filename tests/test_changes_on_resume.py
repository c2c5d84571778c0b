"""A setting that may change on resume does change what is learned, and a resume claims no more than is true."""

from __future__ import annotations

import copy
import dataclasses
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import assert_same, small_words, train_whole
from test_every_item import Session

from dsac.algorithms import load, names
from dsac.config import SHORTCUTS, compose
from dsac.config import load as load_config
from dsac.runs.resume import fixed
from dsac.schema.ranges import rules_of
from dsac.train import main

# Values for fields whose other value does not follow from the type, and what must be on for a field to matter.
OTHER = {"reward_clip": 0.01, "value_clip": 1e-6, "target_kl": 1e-9, "kl_adaptive_target": 1e-12, "huber_delta": 0.01}
OTHER |= {"n_step": 3, "gradient_clip": 1e-3, "clip_low": 1e-3, "clip_high": 1e-3, "constant_bound": 0.01}
OTHER |= {"weight_limit": 1.0, "bound_in_deviations": 0.01, "value_bound": 0.01}
NEEDS = {
    "risk_grows_for": ["algo.risk=1"],
    "huber_delta": ["algo.critic_loss=release_2025"],
    "kl_penalty": ["algo.kl_penalty=0.2"],
    "kl_adaptive_target": ["algo.kl_penalty=0.2"],
    "constant_bound": ["algo.variance_based_gradients=false"],
    "bound_in_sigmas": ["algo.bound_in_sigmas=0.05"],
    "target_noise_clip": ["algo.target_noise_clip=0.1"],
    "epsilon_relative": ["algo.critic_loss=paper"],
    "log_std_max": ["algo.log_std_max=-1"],
    "log_std_min": ["algo.log_std_min=-0.1"],
    "temperature_learning_rate": ["algo.learn_temperature=true"],
    "reward_clip": ["algo.reward_clip=0.5"],
}


# The size of the returns stands still in this short run: test_dsac_x.py moves it.
ELSEWHERE = ("rescale_heads",)


def changeable(algo: str) -> list[str]:
    """The fields of an algorithm that may differ on resume."""
    fields = dataclasses.fields(load(algo).Config)
    return [field.name for field in fields if not (field.name in ELSEWHERE or fixed(f"algo.{field.name}", algo))]


def other_value(algo: str, name: str, value: Any) -> Any:
    """Another valid value of a field."""
    if name in OTHER:
        return OTHER[name]
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return next(option for option in rules_of(load(algo).Config)[name]["options"] if option != value)
    if isinstance(value, int):
        return value * 2
    return value / 2 if value else 0.5


@functools.cache
def unchanged(algo: str, blocks: int, more: int, *words: str) -> tuple[Any, dict[str, Any], dict[str, np.ndarray]]:
    """The algorithm's config of a session, its state after some blocks, and what `more` of them lead to."""
    session = Session(algo, Path("runs"), *words)
    session.until(blocks)
    state = copy.deepcopy(session.state())
    session.until(blocks + more)
    return session.config.algo, state, session.result(blocks)


@pytest.mark.parametrize(("algo", "name"), [(algo, name) for algo in names() for name in changeable(algo)])
def test_a_change_takes_effect(algo: str, name: str, tmp_path: Path):
    """Catches a setting that config.yaml shows as changed while the saved state goes on with the old one."""
    words = [word for word in NEEDS.get(name, []) if hasattr(load(algo).Config, word[5:].partition("=")[0])]
    blocks, more = (4, 3) if algo == "ppo" else (60, 20)
    config, state, expected = unchanged(algo, blocks, more, *words)
    value = other_value(algo, name, getattr(config, name))
    key = name if name in SHORTCUTS else f"algo.{name}"
    changed = Session(algo, tmp_path, *words, f"{key}={str(value).lower()}")
    changed.load(copy.deepcopy(state), blocks)
    changed.until(blocks + more)
    found = changed.result(blocks)
    with pytest.raises(AssertionError):
        assert_same(
            {key: rows for key, rows in found.items() if key in expected},
            {key: rows for key, rows in expected.items() if key in found},
        )


def test_an_unchanged_resume_is_the_same_run(tmp_path: Path):
    """Catches a comparison in the test above that calls everything different."""
    run, again = Session("sac", tmp_path), Session("sac", tmp_path)
    run.until(60)
    state = copy.deepcopy(run.state())
    run.until(80)
    again.load(state, 60)
    again.until(80)
    assert_same(again.result(60), run.result(60))


@pytest.fixture
def sac(finished_runs: Callable[[str], Path], tmp_path: Path) -> Path:
    """A finished run of SAC, to continue."""
    return Path(shutil.copytree(finished_runs("sac"), tmp_path / "run"))


def test_a_changed_learning_rate_is_taken_and_no_equality_is_claimed(sac: Path, capsys: pytest.CaptureFixture[str]):
    """Catches `bit for bit the run that was never stopped` on the screen after a declared change."""
    words = [f"resume={sac}", "total_env_steps=320"]
    assert main([*words, "algo.critic_learning_rate=1e-5", "allow_change=true"]) == 0
    shown = capsys.readouterr().out
    assert "not bit for bit" in shown
    assert "algo.critic_learning_rate" in shown
    assert main([f"resume={sac}", "total_env_steps=384"]) == 0
    shown = capsys.readouterr().out
    assert "from here on bit for bit" in shown


def test_a_longer_budget_under_a_schedule_is_another_run(tmp_path: Path, capsys: pytest.CaptureFixture):
    """Catches the claim of equality where a larger total_env_steps has moved the learning rates."""
    run = train_whole(load_config(compose(small_words(tmp_path, "sac", "algo.learning_rate_schedule=linear"))))
    assert main([f"resume={run}", "total_env_steps=320"]) == 0
    shown = capsys.readouterr().out
    assert "not bit for bit" in shown
    assert "total_env_steps" in shown


@pytest.mark.parametrize("key", ["algo.initial_temperature=0.5", "algo.warmup_actions=uniform"])
def test_what_only_a_start_uses_is_refused(key: str, sac: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a setting of the run's beginning that is taken on resume and can have no effect any more."""
    assert main([f"resume={sac}", key, "allow_change=true", "total_env_steps=320"]) == 2
    assert key.partition("=")[0] in capsys.readouterr().err
