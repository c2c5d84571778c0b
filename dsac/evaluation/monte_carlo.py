"""What critics predict for a state and an action, against the returns that then follow in envs set to that state.

The envs are set to the same state many times and played on by the policy that the critics judge, so that the spread of
the return is measured for each state by itself. Time limits are lifted: a critic looks beyond them.

Letters: N envs, O observation, A action.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsac.algorithms.base import Algorithm
from dsac.errors import ConfigError
from dsac.evaluation.calibration import SIGMAS
from dsac.evaluation.critic_predictions import predict
from dsac.evaluation.scoring import Stopped
from dsac.nn.networks import MLP
from envs.contract import EnvSpec, VecEnv

Array = NDArray[np.float64]
ENVS_AT_ONCE = 256
FIRST_STEPS = 1000  # states are taken from so many steps of each env
CUT = 1e-3  # rewards count until their discount is below this
LONGEST = 5000  # env steps; a discount too near to 1 takes more
MakeEnvs = Callable[[int, bool], VecEnv]  # so many envs, with or without the clock of the task


def horizon_of(gamma: float) -> int:
    """Env steps until rewards no longer count. Raises ConfigError where that takes more than LONGEST."""
    steps = math.ceil(math.log(CUT) / math.log(gamma)) if 0 < gamma < 1 else LONGEST + 1
    if steps > LONGEST:
        raise ConfigError(f"with gamma={gamma} a return takes more than {LONGEST:,} env steps to measure")
    return steps


def one_learner(
    kind: type[Any], spec: EnvSpec, config: Any, seeds: Sequence[int], learner: int, state: Mapping[str, Any]
) -> Algorithm:
    """One learner as an algorithm of its own, on the CPU in float32, from the state_dict() of all of them.

    Raises ConfigError where it has no critics, or where the state does not fit the config.
    """
    algorithm: Algorithm = kind(spec, config, [seeds[learner]])
    if algorithm.critic_network() is None:
        raise ConfigError(f"algo={config.name} has no critics that can be asked")
    try:
        for name, tensor in algorithm.state_dict().items():
            found = torch.as_tensor(state[name])
            tensor.copy_(found if found.shape == tensor.shape else found[learner : learner + 1])
    except (KeyError, TypeError, IndexError, RuntimeError) as error:
        raise ConfigError(f"its checkpoint does not fit its config: {' '.join(str(error).split())}") from error
    return algorithm


def measure(
    algorithm: Algorithm,
    n_step: int,
    make: MakeEnvs,
    states: int,
    samples: int,
    horizon: int,
    seed: int,
    should_stop: Callable[[int], bool] = lambda step: False,
) -> dict[str, list[float]]:
    """Predictions and returns of an algorithm of one learner, each from another env at a random one of its first steps.

    For each state: mean and sigma (as predicted, sigma only where there is one), return_mean and return_deviation of
    `samples` returns (one, and 0, of a deterministic policy), and the share of them that sigma covers. n_step: rewards
    that a target of the critics adds up before it bootstraps. `should_stop` is asked at each step; raises Stopped when
    it says yes.
    """
    generator = torch.Generator().manual_seed(seed)
    samples = samples if algorithm.random_policy else 1
    at_once = max(1, ENVS_AT_ONCE // samples)
    envs = make(states, True)
    try:
        envs.reset(seed)
        obs, action, visited_states = visited(algorithm, envs, generator, should_stop)
    finally:
        envs.close()
    predicted = predict(algorithm, torch.from_numpy(obs)[None], torch.from_numpy(action)[None])
    branches = make(min(at_once, states) * samples, False)
    returns = []
    try:
        for first in range(0, states, at_once):
            rows_of = np.arange(first, first + branches.num_envs // samples).clip(max=states - 1)
            chosen = np.repeat(rows_of, samples)
            branches.load_state_dict({key: rows(value, chosen) for key, value in visited_states.items()})
            played = played_on(algorithm, n_step, branches, action[chosen], horizon, generator, should_stop)
            returns.append(played.reshape(-1, samples)[: states - first])
    finally:
        branches.close()
    found = np.concatenate(returns)
    deviation = found.std(1, ddof=1) if samples > 1 else np.zeros(states)
    mean = predicted.mean[0].numpy()
    result = {"mean": mean, "return_mean": found.mean(1), "return_deviation": deviation}
    if predicted.sigma is not None:
        sigma = predicted.sigma[0].numpy()
        result |= {"sigma": sigma, "covered": (np.abs(found - mean[:, None]) <= SIGMAS * sigma[:, None]).mean(1)}
    return {key: [float(f"{value:.6g}") for value in np.ravel(values)] for key, values in result.items()}


def rows(value: Any, worlds: NDArray[np.int64]) -> Any:
    """The part of a saved state that belongs to some of its worlds."""
    return value[worlds] if isinstance(value, np.ndarray) else value


def visited(
    algorithm: Algorithm, envs: VecEnv, generator: torch.Generator, should_stop: Callable[[int], bool]
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, Any]]:
    """A random one of the first steps of each env under the policy: obs (N, O), the action drawn there, its state."""
    times = torch.randint(FIRST_STEPS, (envs.num_envs,), generator=generator).numpy()
    kept: dict[str, Any] = {}
    obs_at, action_at = np.zeros_like(envs.observe()), np.zeros((envs.num_envs, envs.spec.action_dim), np.float32)
    for time in range(times.max() + 1):
        if should_stop(time):
            raise Stopped
        obs = envs.observe()
        action = algorithm.sample_action(torch.from_numpy(obs)[None], noise(envs, generator))[0][0].numpy()
        if (due := np.flatnonzero(times == time)).size:
            obs_at[due], action_at[due] = obs[due], action[due]
            for key, value in envs.state_dict().items():
                if isinstance(value, np.ndarray):
                    kept.setdefault(key, np.zeros_like(value))[due] = value[due]
                else:
                    kept[key] = value
        envs.step(action)
    return obs_at, action_at, kept


def played_on(
    algorithm: Algorithm,
    n_step: int,
    envs: VecEnv,
    action: NDArray[np.float32],
    horizon: int,
    generator: torch.Generator,
    should_stop: Callable[[int], bool] = lambda step: False,
) -> Array:
    """Discounted returns (N,) from the envs' states: of `action` (N, A), then the policy, soft where critics are.

    A critic of states alone judges the policy from the first action on. With n-step returns the entropy counts where a
    target bootstraps.
    """
    gamma = algorithm.config.gamma
    total, running = np.zeros(envs.num_envs), np.ones(envs.num_envs, bool)
    from_state = isinstance(algorithm.critic_network(), MLP)
    for time in range(horizon):
        if should_stop(time):
            raise Stopped
        if time > 0 or from_state:
            drawn, soft = algorithm.sample_action(torch.from_numpy(envs.observe())[None], noise(envs, generator))
            action = drawn[0].numpy()
            if soft is not None and time % n_step == 0:
                total += np.where(running, gamma**time * soft[0].numpy(), 0)
        step = envs.step(action)
        total += np.where(running, gamma**time * step.reward, 0)
        running &= ~(step.terminated | step.truncated)
        if not running.any():
            break
    return total


def noise(envs: VecEnv, generator: torch.Generator) -> Tensor:
    """Standard normal noise (1, N, A)."""
    return torch.randn(1, envs.num_envs, envs.spec.action_dim, generator=generator)
