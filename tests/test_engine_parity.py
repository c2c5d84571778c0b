"""The compiled tasks against Gymnasium's own: the same numbers from the same states and actions, on the same MuJoCo."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest

import envs
from envs.engine import Engine, make

TIME_LIMITS = {"Pusher": 100, "Reacher": 50}


def gymnasium_task(name: str) -> Any:
    return gymnasium.make(f"{name}-v5").unwrapped


def place(env: Any, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    """Start Gymnasium's world where the engine starts: a second forward pass would begin with another warm start."""
    mujoco.mj_resetData(env.model, env.data)
    env.set_state(qpos, qvel)
    return env._get_obs()


def assert_same(ours: Any, theirs: Any) -> None:
    np.testing.assert_array_equal(np.array(ours), np.array(theirs, dtype=np.float32))


def assert_equal_collection(name: str, ours: Engine, steps: int) -> int:
    """Step both with random actions, putting Gymnasium's worlds where the engine's resets put its own.

    Everything that a Step carries is compared; returns the number of resets.
    """
    theirs = [gymnasium_task(name) for _ in range(ours.num_envs)]
    generator = np.random.default_rng(5)
    shape = (ours.num_envs, ours.spec.action_dim)
    assert_same(ours.reset(7), [place(env, *ours.get_state(world)) for world, env in enumerate(theirs)])
    elapsed = np.zeros(ours.num_envs, dtype=int)
    resets = 0
    for _ in range(steps):
        actions = generator.uniform(ours.spec.action_low, ours.spec.action_high, shape).astype(np.float32)
        step = ours.step(actions)
        # Gymnasium sums a float32 action's squares in float32; its own arithmetic is compared at full precision.
        answers = [env.step(actions[world].astype(np.float64)) for world, env in enumerate(theirs)]
        elapsed += 1
        assert_same(step.next_obs, [answer[0] for answer in answers])
        assert_same(step.reward, [answer[1] for answer in answers])
        terms = [[answer[4][term] for term in ours.spec.reward_terms] for answer in answers]
        assert_same(step.reward_terms, terms)
        assert step.terminated.tolist() == [bool(answer[2]) for answer in answers]
        assert step.truncated.tolist() == (elapsed == TIME_LIMITS.get(name, 1000)).tolist()
        assert not step.invalid.any()
        ended = step.terminated | step.truncated
        expected = step.next_obs.copy()
        for world in np.flatnonzero(ended):
            resets += 1
            expected[world] = place(theirs[world], *ours.get_state(world))
        assert_same(step.obs, expected)
        elapsed[ended] = 0
    return resets


@pytest.mark.parametrize("name", envs.TASKS)
def test_a_thousand_random_steps_equal_gymnasium(name: str) -> None:
    """Catches any change of a task's observation, reward, termination, time limit, substeps or limits."""
    assert_equal_collection(name, make(f"{name}-v5", 1, seed=3, action_units="env"), steps=1000)


@pytest.mark.parametrize(("name", "resets"), [("Hopper", 300), ("Humanoid", 150), ("Reacher", 100)])
def test_collection_with_resets_gives_equal_transitions(name: str, resets: int) -> None:
    """20,000 steps in all of worlds stepped side by side. Catches worlds that share memory, a clock that runs on."""
    steps = {"Hopper": 8000, "Humanoid": 4000, "Reacher": 8000}[name]
    ours = make(f"{name}-v5", 4, seed=11, action_units="env")
    assert assert_equal_collection(name, ours, steps // 4) > resets


@pytest.mark.parametrize("name", envs.TASKS)
def test_both_backends_describe_and_drive_a_task_alike(name: str) -> None:
    """Catches names, limits or a mapping of unit actions that would tie a policy to one backend."""
    ours, theirs = (envs.make(name, 1, 0, backend) for backend in ("engine", "gymnasium"))
    for field, value in ours.spec._asdict().items():
        np.testing.assert_array_equal(value, getattr(theirs.spec, field), err_msg=field)
    for scale in (0.3, -0.7, -2.0, 1.0):
        action = np.full((1, ours.spec.action_dim), scale, dtype=np.float32)
        ours.step(action)
        theirs.step(action)
        assert_same(ours.datas[0].ctrl, theirs.worlds[0].unwrapped.data.ctrl)


@pytest.mark.parametrize("name", envs.TASKS)
def test_resets_are_distributed_as_gymnasiums(name: str) -> None:
    """2,000 initial states entry by entry: their distribution functions, and that neighbours are not correlated."""
    draws, bundle = 2000, 40
    ours, theirs = make(f"{name}-v5", bundle, seed=0), gymnasium_task(name)
    mine, reference = [], []
    for repeat in range(draws // bundle):
        ours.reset(1000 + repeat)
        mine += [np.concatenate(ours.get_state(world)) for world in range(bundle)]
    theirs.reset(seed=1)
    for _ in range(draws):
        mujoco.mj_resetData(theirs.model, theirs.data)
        theirs.reset_model()
        reference.append(np.concatenate([theirs.data.qpos, theirs.data.qvel]))
    left, right = np.array(mine), np.array(reference)
    # Kolmogorov and Smirnov's bound on the distance of two samples, at a probability of 1e-7 for each entry.
    bound = np.sqrt(-0.5 * np.log(1e-7 / 2)) * np.sqrt(2 / draws)
    for entry in range(left.shape[1]):
        samples = np.sort(left[:, entry]), np.sort(right[:, entry])
        points = np.concatenate(samples)
        below = [np.searchsorted(sample, points, side="right") / draws for sample in samples]
        assert np.abs(below[0] - below[1]).max() < bound, entry
    moving = np.flatnonzero(right.std(axis=0) > 0)
    correlations = np.corrcoef(left[:, moving].T) - np.eye(moving.size)
    assert np.abs(correlations).max() < 0.13
