"""How true the critics are: what they predict for a state and an action against the returns that then follow.

Worlds are set to the same state many times and played on by the policy that the critics judge, so that the spread of
the return is measured for each state by itself. Time limits are lifted: a critic looks beyond them.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dsac.compare.groups import Group
from dsac.compare.results import CALIBRATION, Run
from dsac.compare.scores import Estimate, estimate
from dsac.config import load
from dsac.errors import ConfigError
from dsac.evaluation import statistics
from dsac.persistence import atomic
from dsac.runs.saved_config import saved
from dsac.schema import files
from dsac.schema.run_config import EnvConfig

if TYPE_CHECKING:
    from torch import Tensor

    from dsac.algorithms.base import Algorithm
    from envs.contract import VecEnv

Array = NDArray[np.float64]
STATES, SAMPLES = 32, 16
STATES_AT_ONCE = 16
FIRST_STEPS = 1000  # states are taken from so many steps of each world
CUT = 1e-3  # rewards count until their discount is below this
LONGEST = 5000  # env steps; a discount too near to 1 takes more
NO_CLOCK = 10**9


@dataclass(frozen=True)
class Calibration:
    """A group's critics on the task's scale, each number the mean over seeds of what holds for one seed's states.

    bias          predicted mean minus mean return
    size          mean absolute return, to judge the bias by
    sigma         predicted standard deviation (root mean square over states); None where the critic has none
    spread        standard deviation of the returns that followed (root mean square over states)
    ratio         sigma over spread: 1 is calibrated, below 1 is overconfident
    rank          Spearman's correlation of sigma and spread over states: does sigma know where the return varies?
    """

    env: str
    label: str
    seeds: int
    bias: Estimate
    size: float
    sigma: float | None
    spread: float
    ratio: Estimate | None
    rank: float | None


def summarise(group: Group) -> Calibration | None:
    """The calibration of a group, of the seeds that were measured; None where none was."""
    found = [run.calibration for run in group.runs if run.calibration]
    if not found:
        return None
    rows = [{key: np.array(value) for key, value in one.items() if isinstance(value, list)} for one in found]
    sigma = [root_mean_square(row["sigma"]) for row in rows if "sigma" in row]
    spread = [root_mean_square(row["return_deviation"]) for row in rows]
    ratios = [ours / theirs for ours, theirs in zip(sigma, spread, strict=False) if theirs > 0]
    ranks = [statistics.rank_correlation(row["sigma"], row["return_deviation"]) for row in rows if "sigma" in row]
    return Calibration(
        env=group.env,
        label=group.label,
        seeds=len(rows),
        bias=estimate(statistics.mean, [np.array([np.mean(row["mean"] - row["return_mean"]) for row in rows])]),
        size=float(np.mean([np.abs(row["return_mean"]).mean() for row in rows])),
        sigma=float(np.mean(sigma)) if sigma else None,
        spread=float(np.mean(spread)),
        ratio=estimate(statistics.mean, [np.array(ratios)]) if ratios else None,
        rank=float(np.mean(ranks)) if ranks else None,
    )


def root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def measured(runs: Sequence[Run], named: Mapping[str, str], remarks: list[str]) -> Iterator[Run]:
    """The runs with their calibration, each when it is done; what was measured before is read back.

    It is kept beside the learner's policies. A run that cannot be measured is named in the remarks.
    """
    for run in runs:
        if run.folder is None:
            if run.calibration is None:
                remarks.append(f"{run.name}: committed without a calibration")
            yield run
            continue
        try:
            found = calibrate(run.folder, run.learner, named, run.calibration)
        except ConfigError as error:
            remarks.append(f"{run.name}: no calibration: {'; '.join(error.problems)}")
            yield run
            continue
        files.refuse_linked_folders(run.folder)
        path = run.folder / f"learner-{run.learner}" / CALIBRATION
        atomic.write_text(path, json.dumps(found) + "\n")
        yield dataclasses.replace(run, calibration=found)


def calibrate(
    folder: Path, learner: int, named: Mapping[str, str], known: Mapping[str, Any] | None = None
) -> Mapping[str, Any]:
    """Measure the critics in the newest checkpoint of a run, or return `known` where that is of this very checkpoint.

    For each of STATES states on the policy's way: mean and sigma (as predicted, sigma only where there is one),
    return_mean and return_deviation of SAMPLES returns (one, and 0, of a deterministic policy), in the task's units.
    Raises ConfigError where the run cannot be measured, CheckpointError where its checkpoint is damaged.
    """
    from dsac.persistence import atomic, checkpoint

    tree = saved(folder, named)
    newest = checkpoint.committed(folder / "checkpoints")
    step = atomic.read_manifest(newest[-1]).get("env_steps") if newest else None
    if known and (known["env_steps"], known["states"], known["samples"]) == (step, STATES, SAMPLES):
        return known
    config = load(tree)
    horizon = math.ceil(math.log(CUT) / math.log(config.algo.gamma)) if config.algo.gamma < 1 else LONGEST + 1
    if config.algo.gamma == 0 or horizon > LONGEST:
        raise ConfigError(f"with gamma={config.algo.gamma} a return takes more than {LONGEST:,} env steps to measure")
    if config.env.name == "gymnasium":
        raise ConfigError("the worlds of a Gymnasium id cannot be set to a state")
    state, manifest, _ = checkpoint.newest_intact(folder / "checkpoints", checkpoint.RUN, with_logs=False)
    env = dataclasses.replace(config.env, backend="engine", randomise=False)
    algorithm = single_learner(config, env, learner, state["trainer"]["algorithm"])
    rows = returns_from_states(algorithm, env, horizon, config.seeds[learner])
    return {"env_steps": manifest["env_steps"], "states": STATES, "samples": SAMPLES, "horizon": horizon, **rows}


def single_learner(config: Any, env: EnvConfig, learner: int, state: Mapping[str, Any]) -> Algorithm:
    """One learner of a checkpoint as an algorithm of its own. Raises ConfigError where it has no critics."""
    import torch

    from dsac.algorithms import load as load_algorithm
    from dsac.collection.worlds import make_worlds

    spec = make_worlds(env, 1, 0, "unit", 1).spec
    algorithm = load_algorithm(config.algo.name)(spec, config.algo, [config.seeds[learner]])
    if algorithm.critic_network() is None:
        raise ConfigError(f"algo={config.algo.name} has no critics that this command can ask")
    try:
        for name, tensor in algorithm.state_dict().items():
            found = torch.from_numpy(np.array(state[name]))
            tensor.copy_(found if found.shape == tensor.shape else found[learner : learner + 1])
    except (KeyError, TypeError, IndexError, RuntimeError) as error:
        raise ConfigError(f"its checkpoint does not fit its config: {' '.join(str(error).split())}") from error
    return algorithm


def returns_from_states(algorithm: Algorithm, env: EnvConfig, horizon: int, seed: int) -> dict[str, list[float]]:
    """Predictions and returns of STATES states, each from STATES worlds at a random one of their first steps."""
    import torch

    from dsac.collection.worlds import make_worlds
    from dsac.evaluation.critic_predictions import predict
    from dsac.seeding import derived_seed

    generator = torch.Generator().manual_seed(derived_seed(seed, "evaluation", 1))
    samples = SAMPLES if algorithm.random_policy else 1
    worlds = make_worlds(env, STATES, derived_seed(seed, "evaluation", 1), "unit")
    obs, action, states = visited(algorithm, worlds, generator)
    worlds.close()
    predicted = predict(algorithm, torch.from_numpy(obs)[None], torch.from_numpy(action)[None])
    branches = make_worlds(dataclasses.replace(env, max_episode_steps=NO_CLOCK), STATES_AT_ONCE * samples, 0, "unit")
    returns = []
    for first in range(0, STATES, STATES_AT_ONCE):
        chosen = np.repeat(np.arange(first, first + STATES_AT_ONCE), samples)
        branches.load_state_dict({key: rows(value, chosen) for key, value in states.items()})
        returns.append(played_on(algorithm, branches, action[chosen], horizon, generator).reshape(-1, samples))
    branches.close()
    found = np.concatenate(returns)
    deviation = found.std(1, ddof=1) if samples > 1 else np.zeros(STATES)
    result = {"mean": predicted.mean, "return_mean": found.mean(1), "return_deviation": deviation}
    if predicted.sigma is not None:
        result["sigma"] = predicted.sigma
    return {key: [float(f"{value:.6g}") for value in np.ravel(values)] for key, values in result.items()}


def rows(value: Any, worlds: NDArray[np.int64]) -> Any:
    """The part of a saved state that belongs to some of its worlds."""
    return value[worlds] if isinstance(value, np.ndarray) else value


def visited(
    algorithm: Algorithm, worlds: VecEnv, generator: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32], dict[str, Any]]:
    """A random one of the first steps of each world under the policy: obs (N, O), the action drawn there, its state."""
    import torch

    times = torch.randint(FIRST_STEPS, (worlds.num_envs,), generator=generator).numpy()
    kept: dict[str, Any] = {}
    obs_at, action_at = np.zeros_like(worlds.observe()), np.zeros((worlds.num_envs, worlds.spec.action_dim), np.float32)
    for time in range(times.max() + 1):
        obs = worlds.observe()
        action = algorithm.sample_action(torch.from_numpy(obs)[None], noise(worlds, generator))[0][0].numpy()
        if (due := np.flatnonzero(times == time)).size:
            obs_at[due], action_at[due] = obs[due], action[due]
            for key, value in worlds.state_dict().items():
                if isinstance(value, np.ndarray):
                    kept.setdefault(key, np.zeros_like(value))[due] = value[due]
                else:
                    kept[key] = value
        worlds.step(action)
    return obs_at, action_at, kept


def played_on(algorithm: Algorithm, worlds: VecEnv, action: NDArray[np.float32], horizon: int, generator: Any) -> Array:
    """Discounted returns (N,) from the worlds' states: of `action` (N, A), then the policy, soft where critics are.

    A critic of states alone judges the policy from the first action on. With n-step returns the entropy counts where a
    target bootstraps.
    """
    import torch

    from dsac.nn.networks import MLP

    gamma, steps = algorithm.config.gamma, algorithm.n_step
    total, running = np.zeros(worlds.num_envs), np.ones(worlds.num_envs, bool)
    from_state = isinstance(algorithm.critic_network(), MLP)
    for time in range(horizon):
        if time > 0 or from_state:
            drawn, soft = algorithm.sample_action(torch.from_numpy(worlds.observe())[None], noise(worlds, generator))
            action = drawn[0].numpy()
            if soft is not None and time % steps == 0:
                total += np.where(running, gamma**time * soft[0].numpy(), 0)
        step = worlds.step(action)
        total += np.where(running, gamma**time * step.reward, 0)
        running &= ~(step.terminated | step.truncated)
        if not running.any():
            break
    return total


def noise(worlds: VecEnv, generator: Any) -> Tensor:
    """Standard normal noise (1, N, A)."""
    import torch

    return torch.randn(1, worlds.num_envs, worlds.spec.action_dim, generator=generator)
