"""Worlds that misbehave, behind Gymnasium's own interface: faulty_worlds:Nonsense-v0 at random, others on purpose."""

from __future__ import annotations

import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box


class Nonsense(gymnasium.Env[Any, Any]):
    """Observes (1, episode, time); one step in five is nonsense, episodes may last one step.

    An observation or a reward that is not finite, terminated and truncated both true, one array handed out for ever.
    """

    observation_space = Box(-np.inf, np.inf, (3,), np.float32)
    action_space = Box(-1, 1, (1,), np.float32)

    def __init__(self) -> None:
        self.array = np.ones(3, np.float32)

    def reset(self, **options: Any) -> Any:
        super().reset(**options)
        self.array[:] = 1, self.array[1] + 1, 0
        return self.array, {}

    def step(self, action: Any) -> Any:
        self.array[2] += 1
        kind = self.np_random.integers(0, 25)
        reward = float([np.nan, np.inf, -np.inf][kind]) if kind < 3 else 1.0
        seen = self.array
        if kind in (3, 4):
            seen = self.array.copy()
            seen[0] = (np.nan, np.inf)[kind - 3]
        ends = kind in (5, 6, 7)
        return seen, reward, ends, ends and kind > 5, {}


class Failing(gymnasium.Env[Any, Any]):
    """Behaves well for `good_steps` steps of a world, episodes of 20 steps, then does what `fault` says for ever."""

    observation_space = Box(-np.inf, np.inf, (3,), np.float32)
    action_space = Box(-1, 1, (1,), np.float32)

    def __init__(self, fault: str, good_steps: int = 0) -> None:
        self.fault, self.good_steps, self.steps, self.time = fault, good_steps, 0, 0

    def fails(self, fault: str) -> bool:
        return self.fault == fault and self.steps > self.good_steps

    def observation(self) -> np.ndarray:
        return np.array([1, self.steps, self.time], np.float32)

    def reset(self, **options: Any) -> Any:
        super().reset(**options)
        self.time = 0
        observation = self.observation()
        if self.fails("reset"):
            observation[2] = np.nan
        return observation, {}

    def step(self, action: Any) -> Any:
        self.steps += 1
        self.time += 1
        if self.fails("exit"):
            sys.exit(0)
        ends = self.time == 20 and not self.fails("endless")
        if self.fails("reset"):
            return self.observation(), 1.0, True, False, {}
        reward = np.nan if self.fails("reward") or (self.fault == "one reward" and self.steps == 30) else 1.0
        return self.observation(), reward, None if self.fails("flag") else False, ends, {}


gymnasium.register("Nonsense-v0", Nonsense, max_episode_steps=20)
for name, fault, good_steps in (
    ("NeverFinite", "reward", 0),
    ("FiniteAtFirst", "reward", 60),
    ("OneNaN", "one reward", 0),
    ("ResetsToNaN", "reset", 60),
    ("NoFlag", "flag", 60),
    ("Exits", "exit", 60),
    ("Endless", "endless", 0),
    ("Well", "none", 0),
):
    gymnasium.register(f"{name}-v0", Failing, kwargs={"fault": fault, "good_steps": good_steps})
