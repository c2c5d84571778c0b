"""Pushes, falls, and how well critics tell them: python -m dsac.evaluate falls=true."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import make_algorithm
from said import assert_says
from scipy.stats import mannwhitneyu
from small_runs import small_config, train_whole

import envs
from dsac import evaluate
from dsac.errors import ConfigError
from dsac.evaluation import falls, statistics
from dsac.evaluation.falls import Episodes
from dsac.evaluation.pushes import Pushes
from dsac.persistence.policies import load_policy
from envs.contract import UnsuitableEnvironment

POLE = "env=InvertedPendulum"


def velocities(env: Any, worlds: int) -> np.ndarray:
    """Horizontal velocity (N, 2) of each robot's centre of mass."""
    import mujoco

    found = []
    for world in range(worlds):
        model, data = env.simulator(world)
        mujoco.mj_forward(model, data)
        mujoco.mj_subtreeVel(model, data)
        found.append(data.subtree_linvel[1, :2].copy())
    return np.array(found)


@pytest.mark.parametrize(("task", "dimensions"), [("Walker2d", 1), ("Humanoid", 2)])
def test_a_push_changes_the_speed_of_the_robot_by_its_size(task: str, dimensions: int):
    """Catches a force without the mass or the time in it, one that stays on, and one out of the plane of the robot."""
    pushed, free = (envs.make(task, 4, 0) for _ in range(2))
    for env in (pushed, free):
        env.load_state_dict(lifted(env))
    pushes = Pushes(pushed, 0.4, 1.0, 7)
    assert pushes.axes.shape == (dimensions, 2)
    action = np.zeros((4, pushed.spec.action_dim), np.float32)
    pushes.before_step()
    for env in (pushed, free):
        env.step(action)
    change = velocities(pushed, 4) - velocities(free, 4)
    assert np.linalg.norm(change, axis=1) == pytest.approx([0.4] * 4, rel=0.02)
    assert bool(np.abs(change[:, 1]).max() > 0.01) == (dimensions == 2)
    pushes.end()
    before = velocities(pushed, 4) - velocities(free, 4)
    for env in (pushed, free):
        env.step(action)
    assert velocities(pushed, 4) - velocities(free, 4) == pytest.approx(before, abs=0.02)
    for env in (pushed, free):
        env.close()


def lifted(env: Any) -> dict[str, Any]:
    """The state of envs whose robots are 0.4 m higher, where nothing holds them."""
    for world in range(env.num_envs):
        env.simulator(world)[1].qpos[1 if env.spec.id.startswith("Walker") else 2] += 0.4
    return env.state_dict()


def test_pushes_follow_from_the_seed_and_come_as_often_as_was_asked():
    """Catches pushes that differ from one evaluation to the next, all envs pushed at once, a rate upside down."""
    env = envs.make("InvertedPendulum", 20, 0)
    given = []
    for seed in (3, 3, 4):
        pushes, forces = Pushes(env, 0.1, 10.0, seed), []
        for _ in range(100):
            pushes.before_step()
            forces.append([env.simulator(world)[1].xfrc_applied[pushes.trunk].copy() for world in range(20)])
        given.append(np.array(forces))
        pushes.end()
    assert np.array_equal(given[0], given[1])
    assert not np.array_equal(given[0], given[2])
    due = given[0][..., 0] != 0
    assert 0.07 < due.mean() < 0.13
    assert not (due.any(1) == due.all(1)).all()
    assert pushes.count == np.count_nonzero(given[2][..., 0])
    env.close()


def test_a_task_that_cannot_be_pushed_is_refused():
    """Catches a traceback for a task without a simulator."""
    env = envs.make("gymnasium", 1, 0, "gymnasium", env_id="Pendulum-v1")
    with pytest.raises(UnsuitableEnvironment):
        Pushes(env, 0.1, 10.0, 0)
    env.close()


def test_what_the_critics_say_is_of_both():
    """Catches the spread of one critic alone, a disagreement with a sign, a mean that is large where a fall is far."""
    algorithm = make_algorithm("dsac_x")
    generator = torch.Generator().manual_seed(0)
    obs, action = (torch.randn(1, 5, size, generator=generator).clamp(-1, 1) for size in (algorithm.spec.obs_dim, 3))
    with torch.no_grad():
        spread = algorithm.critics.distribution(obs, action)
    mean, sigma = spread.mean[0].numpy(), spread.log_sigma[0].exp().numpy()
    found = falls.signals_of(algorithm, obs[0].numpy(), action[0].numpy())
    expected = np.sqrt((sigma**2).mean(0) + (mean[0] - mean[1]) ** 2 / 4)
    assert found["sigma"] == pytest.approx(expected, rel=1e-4)
    assert found["minus_mean"] == pytest.approx(-mean.min(0), rel=1e-5)
    assert found["disagreement"] == pytest.approx(np.abs(mean[0] - mean[1]), rel=1e-3, abs=1e-6)
    known = {name: set(falls.signals_of(make_algorithm(name), obs[0].numpy(), action[0].numpy())) for name in
             ("dsac_v1", "sac", "ppo")}  # fmt: skip
    assert known == {"dsac_v1": {"sigma", "minus_mean"}, "sac": {"minus_mean", "disagreement"}, "ppo": {"minus_mean"}}


def test_the_area_under_the_curve_is_that_of_the_ranks():
    """Catches ties that count whole, positives and negatives turned round, an interval over steps, not episodes."""
    draw = np.random.default_rng(0)
    episode = np.repeat(np.arange(40), 25)
    positive = episode < 10  # the last steps of an episode that ends with a fall are all before it
    score = np.round(draw.normal(size=1000) + 0.8 * positive + draw.normal(size=40)[episode], 1)
    area = statistics.area_under_roc(score, positive)
    expected = mannwhitneyu(score[positive], score[~positive]).statistic / (positive.sum() * (~positive).sum())
    assert area == pytest.approx(expected)
    low, high = statistics.roc_interval(score, positive, episode, 40, 500)
    assert low < area < high
    each = statistics.roc_interval(score, positive, np.arange(1000), 1000, 500)
    assert high - low > 2 * (each[1] - each[0])  # the steps of an episode are alike
    same = statistics.roc_interval(score, positive, np.zeros(1000, int), 2, 20)  # one episode in two draws nothing
    assert np.isnan(same.low)


def test_steps_before_a_fall_are_told_apart_from_the_others():
    """Catches an episode's end without a fall counted as one, unknown steps counted as safe, an inclusive end."""
    left = np.concatenate([np.arange(5, 0, -1), np.arange(6, 0, -1)])  # a fall after 5 steps; 6 steps to the clock
    fell, episode = left < 0, np.repeat([0, 1], [5, 6])
    fell[:5] = True
    signals = {"sigma": np.where(fell & (left <= 3), 2.0, 1.0), "minus_mean": np.where(~fell & (left <= 2), 9.0, 0.0)}
    found = falls.report(Episodes(episode, left, fell, signals, np.array([1.0, 2.0])), ahead=3)
    assert found["signals"]["sigma"]["auroc"] == 1.0
    assert found["signals"]["sigma"]["told"] == 1.0
    assert found["signals"]["minus_mean"]["auroc"] == 0.5  # what is large in unknown steps only says nothing
    assert found["signals"]["sigma"]["interval_95"] is None  # two episodes, one with a fall
    assert (found["falls"], found["steps"], found["mean"]) == (1, 11, 1.5)
    assert found["falls_per_1000_steps"] == pytest.approx(1000 / 11)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run of DSAC-X; its newest checkpoint is of its last step, its best policy of an earlier one."""
    return train_whole(small_config(tmp_path_factory.mktemp("falls"), "dsac_x", POLE))


def test_the_command_reports_falls(run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches critics of another policy, a report that another run of the command does not repeat, NaN in JSON."""
    settings = {"which": "last", "falls": True, "push": 0.2, "push_every": 20, "episodes": 6}
    found = evaluate(run, **settings)
    assert found["falls"] == evaluate(run, **settings)["falls"]
    json.dumps(found, allow_nan=False)
    told = found["falls"]
    assert told["episodes"] == 6
    assert told["falls"] == 6  # untrained, it never reaches the clock
    assert told["pushes"] > 0
    assert set(told["signals"]) == {"sigma", "minus_mean", "disagreement"}
    evaluate.main([f"run={run}", *(f"{key}={value}" for key, value in settings.items())])
    out = capsys.readouterr().out
    assert_says(out, "6 falls", "sigma", "AUROC")


def test_the_critics_are_those_of_the_policy(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a policy judged by the critics of another step, without a word."""
    best = json.loads((run / "learner-0" / "best" / "manifest.json").read_text())["env_steps"]
    if best == 256:
        pytest.skip("here the last policy is the best one")
    with pytest.raises(ConfigError) as refused:
        evaluate(run, falls=True, episodes=2)
    assert_says(str(refused.value), f"{best:,} env steps", "which=last")
    load_policy(run)


def test_pushes_without_falls_are_refused(run: Path):
    """Catches an option that does nothing."""
    with pytest.raises(ConfigError) as refused:
        evaluate(run, push=1.0)
    assert_says(str(refused.value), "push=1.0", "falls=true")
