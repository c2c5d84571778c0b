"""The parity set: observations with the actions of the very module that evaluation runs, and how to compare.

Letters: n rows, O observation entries, A actions.
"""

from __future__ import annotations

import copy
import io
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dsac.errors import ConfigError, ExportRefused
from dsac.export.layers import FloatArray, Layers
from dsac.nn.policy import Policy
from envs.contract import VecEnv

TOLERANCE = 1e-5  # of each action's half range
KINDS = ("recorded", "boundary", "random")
ATTEMPTS = 12  # at drawing as many random rows as are needed
ORDERS = 16  # of summation, in which an action is computed to see how far rounding moves it


class ParitySet(NamedTuple):
    """obs (n, O) float32, actions (n, A) float32 in the task's units, kind (n,) an index of KINDS.

    left_out  rows that were drawn and not taken, because float32 does not settle their action
    rounding  the largest share of an action's half range that float32 moved any row's action by
    """

    obs: FloatArray
    actions: FloatArray
    kind: NDArray[np.uint8]
    half_range: FloatArray
    left_out: int
    rounding: float

    def error(self, actions: FloatArray) -> float:
        """The largest difference of any action, as a share of its half range; not a number counts as infinite."""
        difference = np.abs(actions.astype(np.float64) - self.actions) / self.half_range
        return float(np.where(np.isnan(difference), np.inf, difference).max())

    def to_bytes(self) -> bytes:
        """parity.npz."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {
            "obs": self.obs,
            "actions": self.actions,
            "kind": self.kind,
            "half_range": self.half_range,
        }
        np.savez_compressed(buffer, allow_pickle=False, tolerance=np.float64(TOLERANCE), **arrays)
        return buffer.getvalue()


def parity_set(policy: Policy, layers: Layers, env: VecEnv, obs_abs_max: float, rows: int, seed: int) -> ParitySet:
    """At least `rows` observations: of episodes that the policy plays, at the boundaries, and random around the first.

    Raises ConfigError for an obs_abs_max that the task exceeds, ExportRefused where float32 settles hardly any of the
    actions.
    """
    generator = np.random.default_rng((seed, rows))
    recorded = record(policy, env, rows, seed)
    if (largest := np.abs(recorded).max()) > obs_abs_max:
        name = env.spec.obs_names[int(np.abs(recorded).max(0).argmax())]
        raise ConfigError(f"obs_abs_max={obs_abs_max:g}: the policy meets larger ones in its task, {name} {largest:g}")
    judge = Judge(policy, layers)
    parts = [judge.settled(recorded, rows // 2)]
    edges = boundaries(layers, recorded, obs_abs_max)
    parts.append(judge.settled(np.clip(edges, -obs_abs_max, obs_abs_max), rows))
    needed = max(rows // 4, rows - sum(len(obs) for obs, _ in parts))
    drawn: list[tuple[FloatArray, FloatArray]] = []
    while len(drawn) < ATTEMPTS and (missing := needed - sum(len(obs) for obs, _ in drawn)) > 0:
        draws = np.clip(around(recorded, 2 * missing + 256, generator), -obs_abs_max, obs_abs_max)
        drawn.append(judge.settled(draws, missing))
    counts = [*(len(obs) for obs, _ in parts), sum(len(obs) for obs, _ in drawn)]
    if sum(counts) < rows:
        raise ExportRefused(
            f"float32 does not settle this policy's actions on {judge.left_out:,} of {judge.left_out + sum(counts):,} "
            f"observations, where rounding moves them by up to {judge.rounding:.0e} of a half range: its weights or "
            "its observations are too large (algo.observation_normalization=true keeps the latter small)"
        )
    obs, actions = (np.concatenate(arrays) for arrays in zip(*parts, *drawn, strict=True))
    kind = np.repeat(np.arange(len(KINDS), dtype=np.uint8), counts)
    return ParitySet(obs, actions, kind, judge.half_range, judge.left_out, judge.rounding)


class Judge:
    """Tells the observations on which float32 settles the policy's action.

    An action is settled where the orders in which its sums can be taken move it by at most a fifth of the tolerance.
    Elsewhere torch does not agree with itself from one batch size to another, and no runtime can with torch.
    """

    def __init__(self, policy: Policy, layers: Layers) -> None:
        self.policy, self.exact = policy, copy.deepcopy(policy).double()
        self.half_range = np.maximum((layers.high - layers.low) / 2, np.finfo(np.float32).tiny)
        generator = torch.Generator().manual_seed(0)
        self.reordered = [reordered(policy, generator) for _ in range(ORDERS)]
        self.left_out, self.rounding = 0, 0.0

    @torch.no_grad()
    def settled(self, obs: FloatArray, most: int) -> tuple[FloatArray, FloatArray]:
        """The first `most` settled rows of obs (n, O), and the policy's actions on them."""
        rows = torch.from_numpy(obs)
        actions: FloatArray = self.policy(rows).numpy()
        exact = self.exact(rows.double()).numpy()
        answers = [actions, *(other(rows[:, order]).numpy() for other, order in self.reordered)]
        rounding = np.maximum.reduce([np.abs(answer - exact) / self.half_range for answer in answers]).max(1)
        settled = rounding <= TOLERANCE / 5
        self.left_out += int((~settled).sum())
        self.rounding = max(self.rounding, float(rounding.max()))
        return obs[settled][:most], actions[settled][:most]


@torch.no_grad()
def reordered(policy: Policy, generator: torch.Generator) -> tuple[Policy, torch.Tensor]:
    """The same function with its inputs and its hidden units in another order, and the order of the inputs."""
    other = copy.deepcopy(policy)
    first = torch.randperm(len(policy.obs_mean), generator=generator)
    other.obs_mean.copy_(policy.obs_mean[first])
    other.obs_inverse_std.copy_(policy.obs_inverse_std[first])
    net: Any = other.net
    before, norms = first, net.norms if net.norms is not None else [None] * len(net.hidden)
    for linear, norm in zip(net.hidden, norms, strict=True):
        after = torch.randperm(linear.weight.shape[1], generator=generator)
        linear.weight.copy_(linear.weight[before][:, after].clone())
        for part in (linear.bias, *([] if norm is None else [norm.weight, norm.bias])):
            part.copy_(part[:, after].clone())
        before = after
    net.output.weight.copy_(net.output.weight[before].clone())
    return other, first


@torch.no_grad()
def record(policy: Policy, env: VecEnv, rows: int, seed: int) -> FloatArray:
    """At least `rows` observations (n, O) that the policy meets in its task, step after step, in random order."""
    obs, kept = env.reset(seed), []
    for _ in range(-(-rows // env.num_envs)):
        kept.append(obs)
        obs = env.step(policy(torch.from_numpy(obs)).numpy()).obs
    return np.random.default_rng(seed).permutation(np.concatenate(kept))


def boundaries(layers: Layers, recorded: FloatArray, obs_abs_max: float) -> FloatArray:
    """Zeros, and recorded observations with one entry at each end of what is valid, or of what the normaliser clips."""
    edges = [np.full(layers.obs_dim, sign * obs_abs_max, np.float32) for sign in (-1, 1)]
    if layers.mean is not None and layers.inverse_std is not None and layers.clip is not None:
        edges += [layers.mean + sign * layers.clip / layers.inverse_std for sign in (-1, 1)]
    rows = [np.zeros((1, layers.obs_dim), np.float32)]
    for edge in edges:
        obs = recorded[np.arange(layers.obs_dim) % len(recorded)].copy()
        np.fill_diagonal(obs, edge)
        rows.append(obs)
    return np.concatenate(rows)


def around(recorded: FloatArray, rows: int, generator: np.random.Generator) -> FloatArray:
    """Normal draws (rows, O) about the recorded mean with one to three times its deviation; 1 where nothing moved."""
    deviation = recorded.std(0)
    deviation = np.where(deviation > 0, deviation, 1)
    spread = generator.uniform(1, 3, (rows, 1))
    draws = generator.normal(size=(rows, recorded.shape[1]))
    rows_around: FloatArray = (recorded.mean(0) + spread * deviation * draws).astype(np.float32)
    return rows_around
