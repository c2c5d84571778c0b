"""The compiled tasks against Gymnasium's own: the same numbers from the same states and actions, on the same MuJoCo."""

from __future__ import annotations

import gymnasium
import mujoco
import numpy as np
import pytest

from envs.engine import make
from envs.tasks import MODULES

NAMES = sorted(MODULES)


def gymnasium_task(name: str) -> gymnasium.Env:
    return gymnasium.make(f"{name}-v5").unwrapped


def place(env: gymnasium.Env, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    """Start Gymnasium's world where the engine starts: a second forward pass would begin with another warm start."""
    mujoco.mj_resetData(env.model, env.data)
    env.set_state(qpos, qvel)
    return env._get_obs()


def assert_same(ours: np.ndarray, theirs: np.ndarray) -> None:
    np.testing.assert_array_equal(ours, np.asarray(theirs, dtype=np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_random_steps_equal_gymnasium(name: str) -> None:
    ours, theirs = make(name, 1, seed=3, action_units="env"), gymnasium_task(name)
    generator = np.random.default_rng(5)
    steps, limit = 1000, gymnasium.spec(f"{name}-v5").max_episode_steps
    assert ours.spec.dt == pytest.approx(theirs.dt)
    assert ours.spec.obs_dim == theirs.observation_space.shape[0]
    obs = ours.reset(7)
    elapsed = 0
    assert_same(obs[0], place(theirs, *ours.get_state(0)))
    for _ in range(steps):
        action = generator.uniform(ours.spec.action_low, ours.spec.action_high).astype(np.float32)
        step = ours.step(action[None])
        # Gymnasium sums a float32 action's squares in float32; its own arithmetic is compared at full precision.
        next_obs, reward, terminated, _, info = theirs.step(action.astype(np.float64))
        elapsed += 1
        assert_same(step.next_obs[0], next_obs)
        assert step.reward[0] == np.float32(reward)
        assert step.terminated[0] == terminated
        assert step.truncated[0] == (elapsed == limit)
        assert not step.invalid[0]
        if terminated or elapsed == limit:
            elapsed = 0
            assert_same(step.obs[0], place(theirs, *ours.get_state(0)))
        else:
            assert_same(step.obs[0], step.next_obs[0])


TERMS = {
    "Ant": ("reward_forward", "reward_survive", "reward_ctrl", "reward_contact"),
    "HalfCheetah": ("reward_forward", "reward_ctrl"),
    "Hopper": ("reward_forward", "reward_survive", "reward_ctrl"),
    "Humanoid": ("reward_forward", "reward_survive", "reward_ctrl", "reward_contact"),
    "HumanoidStandup": ("reward_linup", "reward_quadctrl", "reward_impact"),
    "InvertedDoublePendulum": ("reward_survive", "distance_penalty", "velocity_penalty"),
    "InvertedPendulum": ("reward_survive",),
    "Pusher": ("reward_dist", "reward_ctrl", "reward_near"),
    "Reacher": ("reward_dist", "reward_ctrl"),
    "Swimmer": ("reward_forward", "reward_ctrl"),
    "Walker2d": ("reward_forward", "reward_survive", "reward_ctrl"),
}


@pytest.mark.parametrize("name", NAMES)
def test_reward_terms_and_unit_actions_equal_gymnasium(name: str) -> None:
    ours, theirs = make(name, 1, seed=3), gymnasium_task(name)
    place(theirs, *ours.get_state(0))
    low, high = ours.spec.action_low, ours.spec.action_high
    for scale in (0.3, -2.0, 1.0):
        action = np.full(ours.spec.action_dim, scale, dtype=np.float32)
        step = ours.step(action[None])
        clipped = np.clip(action, -1, 1)
        *_, info = theirs.step(((high + low) / 2 + (high - low) / 2 * clipped).astype(np.float64))
        if step.terminated[0]:
            return
        expected = [info[key] for key in TERMS[name]]
        np.testing.assert_allclose(step.reward_terms[0], expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["HalfCheetah", "Humanoid", "Reacher"])
def test_collection_with_resets_gives_equal_transitions(name: str) -> None:
    """20,000 steps of four worlds; Gymnasium's worlds are put where the engine's resets put its own."""
    worlds = 4
    ours, theirs = make(name, worlds, seed=11, action_units="env"), [gymnasium_task(name) for _ in range(worlds)]
    generator = np.random.default_rng(13)
    ours.reset(17)
    elapsed = np.zeros(worlds, dtype=int)
    for world, env in enumerate(theirs):
        place(env, *ours.get_state(world))
    for _ in range(20_000 // worlds // (1 if name == "HalfCheetah" else 5)):
        shape = (worlds, ours.spec.action_dim)
        actions = generator.uniform(ours.spec.action_low, ours.spec.action_high, shape).astype(np.float32)
        step = ours.step(actions)
        elapsed += 1
        for world, env in enumerate(theirs):
            next_obs, reward, terminated, _, _ = env.step(actions[world].astype(np.float64))
            assert_same(step.next_obs[world], next_obs)
            assert step.reward[world] == np.float32(reward)
            assert step.terminated[world] == terminated
            assert step.truncated[world] == (elapsed[world] == gymnasium.spec(f"{name}-v5").max_episode_steps)
            if step.terminated[world] or step.truncated[world]:
                elapsed[world] = 0
                assert_same(step.obs[world], place(env, *ours.get_state(world)))


@pytest.mark.parametrize("name", NAMES)
def test_resets_are_distributed_as_gymnasiums(name: str) -> None:
    """Each entry of 2,000 initial states: the largest distance of the two distribution functions stays below its bound."""
    draws, bundle = 2000, 40
    ours, theirs = make(name, bundle, seed=0), gymnasium_task(name)
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
    # Kolmogorov and Smirnov's bound for two samples at a probability of 1e-7 per entry.
    bound = np.sqrt(-0.5 * np.log(1e-7 / 2)) * np.sqrt(2 / draws)
    for entry in range(left.shape[1]):
        points = np.sort(np.concatenate([left[:, entry], right[:, entry]]))
        below = [np.searchsorted(np.sort(sample[:, entry]), points, side="right") / draws for sample in (left, right)]
        assert np.abs(below[0] - below[1]).max() < bound, entry
        spread = right[:, entry].std()
        if spread > 0:
            assert abs(np.corrcoef(left[:, entry], left[:, entry - 1])[0, 1]) < 0.15 or left[:, entry - 1].std() == 0
