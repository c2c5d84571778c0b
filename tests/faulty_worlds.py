"""Worlds that misbehave at random, behind Gymnasium's own interface: faulty_worlds:Nonsense-v0."""

from __future__ import annotations

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


gymnasium.register("Nonsense-v0", Nonsense, max_episode_steps=20)
