"""The worlds of a config, for training and for scoring."""

from __future__ import annotations

import envs
from dsac.schema.run_config import EnvConfig
from envs.contract import VecEnv


def make_worlds(env: EnvConfig, num_envs: int, seed: int, action_units: str, threads: int | None = None) -> VecEnv:
    """Worlds of a config's task: action units "unit" for training, "env" for scoring, on the model as it is."""
    return envs.make(
        env.name,
        num_envs,
        seed,
        env.backend,
        env_id=env.id,
        xml=env.xml,
        task=env.task,
        threads=threads,
        randomise=env.randomise and action_units == "unit",
        flatten=env.flatten,
        action_units=action_units,
        max_episode_steps=env.max_episode_steps,
        kwargs=env.kwargs,
        wrappers=env.wrappers,
    )
