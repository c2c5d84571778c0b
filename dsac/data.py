"""What passes between the parts: a Transition on its way into memory, a Batch on its way out, an Episode that ended.

Letters: S learners, N worlds of one learner, T steps, B batch, O observation, A action, K reward terms.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Transition(NamedTuple):
    """One block of experience as the collector returns it, numpy arrays, time first.

    obs         (T, S, N, O) float32, what the policy saw
    action      (T, S, N, A) float32, as the policy drew it (the environment clips to [-1, 1])
    reward      (T, S, N) float32, raw, as the task defines it
    next_obs    (T, S, N, O) float32, the true successor, also at the end of an episode
    terminated  (T, S, N) bool, the task ended
    truncated   (T, S, N) bool, the clock ended
    invalid     (T, S, N) bool, the world failed: the row is no transition and nothing may learn from it
    """

    obs: Any
    action: Any
    reward: Any
    next_obs: Any
    terminated: Any
    truncated: Any
    invalid: Any


class Batch(NamedTuple):
    """Transitions drawn for one gradient step, tensors on the learner's device.

    obs       (S, B, O)
    action    (S, B, A)
    reward    (S, B), the sum of gamma^i r_i over the steps taken (one, unless n-step)
    next_obs  (S, B, O), the observation after those steps
    discount  (S, B), gamma^steps where the task goes on or the clock ended, 0 where it terminated
    """

    obs: Any
    action: Any
    reward: Any
    next_obs: Any
    discount: Any


class Episode(NamedTuple):
    """A finished episode: the sum of its raw rewards, its steps, and the sum of each reward term (K,)."""

    return_: float
    length: int
    reward_terms: tuple[float, ...]
