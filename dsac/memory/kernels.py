"""The compiled loops of the replay: appending blocks to rings of frames and drawing batches from them.

Letters: S learners, N worlds of one learner, R frames of one ring, T steps, B batch, O observation, A action.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from dsac.data import Batch, Transition
from envs.native.compile_cache import lazy_kernel
from envs.native.random_words import next_word

TRANSITION, TERMINATED, TRUNCATED = 1, 2, 4

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]


class Rings(NamedTuple):
    """The frames of every world.

    obs     (S, N, R, O) float32
    action  (S, N, R, A) float32
    reward  (S, N, R) float32
    flags   (S, N, R) uint8, the sum of TRANSITION, TERMINATED and TRUNCATED as they apply
    """

    obs: Floats
    action: Floats
    reward: Floats
    flags: Flags


class Rows(NamedTuple):
    """What a draw chooses, (S, B) each.

    start     int32, the frame of the transition, counted through the rings of its learner
    end       int32, the frame of the observation after its steps
    reward    float32, the discounted sum over the steps
    discount  float32, of the value after them
    """

    start: Any
    end: Any
    reward: Any
    discount: Any


@lazy_kernel
def same_row(left: Floats, right: Floats) -> bool:
    """Whether two rows (O,) are equal in every element; NaN equals nothing."""
    for i in range(left.shape[0]):  # noqa: SIM110  numba does not compile all()
        if left[i] != right[i]:
            return False
    return True


@lazy_kernel
def copy_row(target: Floats, source: Floats) -> None:
    """Make target (K,) equal to source (K,)."""
    for i in range(source.shape[0]):
        target[i] = source[i]


@lazy_kernel
def write_block(rings: Rings, written: Integers, transitions: Integers, block: Transition) -> None:
    """Append a block (T, S, N, ...) to the rings.

    written      (S, N) frames begun so far, the newest of which is the observation without an action
    transitions  (S,) frames that are transitions, kept up to date
    """
    obs, action, reward, flags = rings
    steps, learners, worlds = block.reward.shape
    frames = flags.shape[2]
    for learner in range(learners):
        for world in range(worlds):
            count = written[learner, world]
            for step in range(steps):
                row = (step, learner, world)
                newest = obs[learner, world, (count - 1) % frames]
                # Values are compared, not flags: a world reset from outside keeps its true successor too.
                if count == 0 or not same_row(newest, block.obs[row]):
                    count += 1
                frame = (learner, world, (count - 1) % frames)
                transitions[learner] -= flags[frame] & TRANSITION
                copy_row(obs[frame], block.obs[row])
                if block.invalid[row]:
                    flags[frame] = 0  # where the world was before it failed, with no way on
                    continue
                transitions[learner] += 1
                copy_row(action[frame], block.action[row])
                reward[frame] = block.reward[row]
                flags[frame] = TRANSITION + TERMINATED * block.terminated[row] + TRUNCATED * block.truncated[row]
                successor = (learner, world, count % frames)
                count += 1
                transitions[learner] -= flags[successor] & TRANSITION
                copy_row(obs[successor], block.next_obs[row])
                flags[successor] = 0
            written[learner, world] = count


@lazy_kernel
def draw_rows(rings: Rings, written: Integers, generators: Words, gamma: float, n_step: Integers, rows: Rows) -> None:
    """Choose the rows of a batch, uniformly and with replacement, and sum their rewards.

    generators  (S, 4), moved on in place
    n_step      (S,), rewards that are summed
    Every learner must hold a transition: without one the search does not end.
    """
    _, _, reward, flags = rings
    learners, worlds, frames = flags.shape
    for learner in range(learners):
        span = min(frames, written[learner].max())
        mask = np.uint64(1)
        while mask < np.uint64(worlds * span - 1):
            mask = (mask << np.uint64(1)) | np.uint64(1)
        for row in range(rows.reward.shape[1]):
            # A rejected frame is drawn anew as a whole, so that uneven worlds do not tilt the odds.
            while True:
                candidate = np.int64(next_word(generators[learner]) & mask)
                world, frame = candidate // span, candidate % span
                if world < worlds and flags[learner, world, frame] & TRANSITION:
                    break
            rows.start[learner, row] = world * frames + frame
            total, discount = 0.0, 1.0
            for _ in range(n_step[learner]):
                flag = flags[learner, world, frame]
                if not flag & TRANSITION:
                    break
                total += discount * reward[learner, world, frame]
                discount *= gamma
                frame = (frame + 1) % frames
                if flag & TERMINATED:
                    discount = 0.0
                if flag & (TERMINATED | TRUNCATED):
                    break
            rows.end[learner, row] = world * frames + frame
            rows.reward[learner, row] = total
            rows.discount[learner, row] = discount


@lazy_kernel
def copy_rows(rings: Rings, rows: Rows, batch: Batch) -> None:
    """Fill a batch (S, B, ...) with the rows chosen."""
    obs, action, reward, _ = rings
    learners, _, frames = reward.shape
    for learner in range(learners):
        for row in range(rows.reward.shape[1]):
            start, end = rows.start[learner, row], rows.end[learner, row]
            copy_row(batch.obs[learner, row], obs[learner, start // frames, start % frames])
            copy_row(batch.action[learner, row], action[learner, start // frames, start % frames])
            copy_row(batch.next_obs[learner, row], obs[learner, end // frames, end % frames])
            batch.reward[learner, row] = rows.reward[learner, row]
            batch.discount[learner, row] = rows.discount[learner, row]
