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

from dsac.exporting.layers import ExportRefused, FloatArray, Layers
from dsac.policy import Policy
from envs.contract import VecEnv

TOLERANCE = 1e-5  # of each action's half range
KINDS = ("recorded", "boundary", "random")
RECORD_EVERY = 4  # steps, so that the rows differ
ROUNDING = 2.0**-22  # relative size of the nudges that tell how well float32 settles an action


class ParitySet(NamedTuple):
    """obs (n, O) float32, actions (n, A) float32 in the task's units, kind (n,) an index of KINDS.

    left_out  rows that were drawn and not taken, because rounding alone moves their action
    """

    obs: FloatArray
    actions: FloatArray
    kind: NDArray[np.uint8]
    half_range: FloatArray
    left_out: int

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

    Raises ExportRefused where float32 cannot settle the policy's actions to the tolerance on most of them.
    """
    generator = np.random.default_rng((seed, 4096))
    recorded = record(policy, env, rows // 2, seed)
    half_range = np.maximum((layers.high - layers.low) / 2, np.finfo(np.float32).tiny)
    parts: list[tuple[FloatArray, FloatArray]] = []
    left_out = 0

    def take(obs: FloatArray, most: int) -> None:
        nonlocal left_out
        obs = np.clip(obs, -obs_abs_max, obs_abs_max).astype(np.float32)
        actions, settled = evaluated(policy, obs, half_range)
        left_out += int((~settled).sum())
        parts.append((obs[settled][:most], actions[settled][:most]))

    take(generator.permutation(recorded), len(recorded))
    take(boundaries(layers, recorded, obs_abs_max), rows)
    missing = max(rows // 4, rows - sum(len(obs) for obs, _ in parts))
    take(around(recorded, 2 * missing, generator), missing)
    kind = np.repeat(np.arange(len(KINDS), dtype=np.uint8), [len(obs) for obs, _ in parts])
    if len(kind) < rows:
        raise ExportRefused(
            f"rounding in float32 moves the actions by more than the tolerance of {TOLERANCE:g} on {left_out:,} of "
            f"{left_out + len(kind):,} observations: this policy's weights are too large to be compared"
        )
    obs, actions = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return ParitySet(obs, actions, kind, half_range, left_out)


@torch.no_grad()
def evaluated(policy: Policy, obs: FloatArray, half_range: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """The policy's actions (n, A) on obs (n, O), and where they are settled (n,).

    An action is settled where its float32 rounding, and a nudge of a float32 rounding to every weight, move it by less
    than a quarter of the tolerance. Elsewhere torch does not agree with itself from one batch size to another.
    """
    actions: FloatArray = policy(torch.from_numpy(obs)).numpy()
    exact = copy.deepcopy(policy).double()
    wide = torch.from_numpy(obs.astype(np.float64))
    reference = exact(wide).numpy()
    worst = np.abs(actions - reference)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        nudged = copy.deepcopy(exact)
        for parameter in nudged.parameters():
            parameter.mul_(1 + ROUNDING * (2 * torch.rand(parameter.shape, generator=generator) - 1))
        worst = np.maximum(worst, np.abs(nudged(wide).numpy() - reference))
    return actions, (worst <= TOLERANCE / 4 * half_range).all(1)


@torch.no_grad()
def record(policy: Policy, env: VecEnv, rows: int, seed: int) -> FloatArray:
    """At least `rows` observations (n, O) that the policy meets in its task, at every RECORD_EVERY-th step."""
    obs, kept = env.reset(seed), []
    for step in range(RECORD_EVERY * -(-rows // env.num_envs)):
        if step % RECORD_EVERY == 0:
            kept.append(obs)
        obs = env.step(policy(torch.from_numpy(obs)).numpy()).obs
    return np.concatenate(kept)


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
