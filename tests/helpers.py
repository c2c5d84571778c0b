"""What the tests of algorithms share: small algorithms, made-up batches and a world without a simulator."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from dsac.algorithms import Algorithm, load, names
from dsac.algorithms.ppo import Sample
from dsac.data import Batch, Transition
from dsac.updater import Updater
from envs.contract import EnvSpec, Step

ALGORITHMS = names()
OBS_DIM, ACTION_DIM, ROWS = 5, 3, 16


def make_spec(obs_dim: int = OBS_DIM, action_dim: int = ACTION_DIM, limit: float = 1.0) -> EnvSpec:
    high = np.full(action_dim, limit, np.float32)
    names = tuple(f"obs[{index}]" for index in range(obs_dim))
    return EnvSpec("Test-v0", obs_dim, action_dim, -high, high, 0.01, names, tuple("abcdefgh"[:action_dim]), ())


def make_algorithm(name: str, seeds: Sequence[int] = (0,), spec: EnvSpec | None = None, **changes: Any) -> Algorithm:
    """A small algorithm in float32; fields that it does not have are left out of `changes`."""
    algorithm = load(name)
    fields = {field.name for field in dataclasses.fields(algorithm.Config)}
    small = {
        "hidden_sizes": (16, 16),
        "batch_size": ROWS,
        "minibatch_size": ROWS,
        "replay_capacity": 1000,
        "num_envs": 4,
    }
    settings = {key: value for key, value in {**small, **changes}.items() if key in fields}
    return algorithm(spec or make_spec(), algorithm.Config(**settings), seeds)


def make_batch(algorithm: Algorithm, seed: int, dtype: torch.dtype = torch.float64, rows: int = ROWS) -> Any:
    """A made-up batch of the kind that the algorithm's memory yields, the same for every learner of equal seed."""
    spec = algorithm.spec
    parts = []
    for learner_seed in algorithm.seeds:
        draw = np.random.default_rng((seed, learner_seed))
        obs, next_obs = draw.normal(size=(2, rows, spec.obs_dim))
        reward = draw.normal(size=rows)
        if algorithm.update.__annotations__.get("batch") == "Sample":
            action = draw.normal(size=(rows, spec.action_dim))
            others = draw.normal(size=(3, rows))
            log_prob = -2.0 - np.abs(draw.normal(size=rows))
            parts.append(Sample(obs, action, log_prob, others[0], others[1], others[2]))
        else:
            action = np.tanh(draw.normal(size=(rows, spec.action_dim)))
            discount = 0.99 * (draw.uniform(size=rows) > 0.2)
            parts.append(Batch(obs, action, reward, next_obs, discount))
    return type(parts[0])(*(torch.tensor(np.stack(field), dtype=dtype) for field in zip(*parts, strict=True)))


def make_noise(algorithm: Algorithm, seed: int, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Injected noise (S, ...), that of a learner following from its seed."""
    noise = {}
    for index, (name, shape) in enumerate(algorithm.noise_shapes().items()):
        rows = [np.random.default_rng((seed, index, learner)).normal(size=shape) for learner in algorithm.seeds]
        noise[name] = torch.tensor(np.stack(rows), dtype=dtype)
    return noise


def run_updates(algorithm: Algorithm, count: int, dtype: torch.dtype = torch.float64) -> list[dict[str, torch.Tensor]]:
    """`count` updates on made-up batches, the policy moving as its delay says; the metrics of each."""
    return [
        algorithm.update(
            make_batch(algorithm, step, dtype), make_noise(algorithm, step, dtype), step % algorithm.delay == 0
        )
        for step in range(count)
    ]


class Target:
    """A VecEnv of one-step episodes with reward -(a - 0.3)^2, for learning in seconds."""

    exact_state, failure = True, ""

    def __init__(self, num_envs: int, action_dim: int = 1) -> None:
        self.num_envs, self.spec = num_envs, make_spec(2, action_dim)

    def reset(self, seed: int) -> np.ndarray:
        return self.observe()

    def observe(self) -> np.ndarray:
        return np.ones((self.num_envs, 2), np.float32)

    def step(self, action: np.ndarray) -> Step:
        reward = -np.square(np.clip(action, -1, 1) - 0.3).sum(1).astype(np.float32)
        ended = np.ones(self.num_envs, bool)
        terms = np.zeros((self.num_envs, 0), np.float32)
        return Step(self.observe(), reward, ended, ~ended, self.observe(), terms, np.zeros(self.num_envs, np.bool_))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...

    def close(self) -> None: ...


def make_block(algorithm: Algorithm, steps: int, worlds: int, seed: int = 0, **fields: Any) -> Transition:
    """A made-up block (T, S, N, ...) as the collector would hand it over, fields replaced as given."""
    draw = np.random.default_rng(seed)
    shape, spec = (steps, algorithm.learners, worlds), algorithm.spec
    block = Transition(
        obs=draw.normal(size=(*shape, spec.obs_dim)).astype(np.float32),
        action=draw.normal(size=(*shape, spec.action_dim)).astype(np.float32),
        reward=draw.normal(size=shape).astype(np.float32),
        next_obs=draw.normal(size=(*shape, spec.obs_dim)).astype(np.float32),
        terminated=np.zeros(shape, bool),
        truncated=np.zeros(shape, bool),
        invalid=np.zeros(shape, bool),
    )
    return block._replace(**fields)


def make_updater(algorithm: Algorithm) -> Updater:
    return Updater(algorithm)


def copied_replay_state(state: dict[str, Any]) -> dict[str, Any]:
    """A replay's state that a later add does not change."""
    copies = {name: np.copy(value) for name, value in state.items() if name != "frames"}
    return {**copies, "frames": list(state["frames"])}
