"""The worlds of a config, for training and for scoring."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import envs
from dsac.errors import ConfigError
from dsac.schema.run_config import EnvConfig
from envs.contract import VecEnv

NO_CLOCK = 10**9


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


def settable_worlds(env: EnvConfig, threads: int | None = None) -> Callable[[int, bool], VecEnv]:
    """What makes so many envs of a task that can be set to a state, with its clock or without: unit actions, compiled
    engine, the model as it is. Raises ConfigError for a Gymnasium id, whose envs cannot be set to a state."""
    if env.name == "gymnasium":
        raise ConfigError("the envs of a Gymnasium id cannot be set to a state")
    timed = dataclasses.replace(env, backend="engine", randomise=False)
    endless = dataclasses.replace(timed, max_episode_steps=NO_CLOCK)
    return lambda count, clock: make_worlds(timed if clock else endless, count, 0, "unit", threads)
