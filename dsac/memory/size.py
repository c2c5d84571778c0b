"""How large a replay is, whether it fits into memory, and its empty rings."""

from __future__ import annotations

import numpy as np

from dsac.memory.kernels import Rings
from envs.system import available_memory

MEMORY_SHARE = 0.9


class InsufficientMemory(MemoryError):
    """The replay asked for is larger than the memory that this process may take."""


def frames_per_world(capacity: int, num_envs: int) -> int:
    """Frames of one ring: its share of the transitions and the newest observation, which has no action yet."""
    return -(-capacity // num_envs) + 1


def replay_bytes(capacity: int, num_envs: int, obs_dim: int, action_dim: int, learners: int = 1) -> int:
    """Bytes that the rings of a Replay take, without making one."""
    frame = 4 * (obs_dim + action_dim + 1) + 1
    return learners * num_envs * frames_per_world(capacity, num_envs) * frame


def empty_rings(capacity: int, num_envs: int, obs_dim: int, action_dim: int, learners: int) -> Rings:
    """Rings without a frame. Raises InsufficientMemory, before anything is allocated, if they are too large."""
    refuse_if_too_large(capacity, num_envs, obs_dim, action_dim, learners)
    shape = (learners, num_envs, frames_per_world(capacity, num_envs))
    # full writes every page, where zeros would leave the memory to run out hours later.
    return Rings(
        obs=np.full((*shape, obs_dim), 0, np.float32),
        action=np.full((*shape, action_dim), 0, np.float32),
        reward=np.full(shape, 0, np.float32),
        flags=np.full(shape, 0, np.uint8),
    )


def refuse_if_too_large(capacity: int, num_envs: int, obs_dim: int, action_dim: int, learners: int) -> None:
    """Raise InsufficientMemory, naming the capacity that fits, if the rings exceed MEMORY_SHARE of free memory."""
    needed = replay_bytes(capacity, num_envs, obs_dim, action_dim, learners)
    available = available_memory()
    budget = int(MEMORY_SHARE * available)
    if needed > budget:
        one_frame_each = replay_bytes(0, num_envs, obs_dim, action_dim, learners)
        fits = max(0, num_envs * (budget // one_frame_each - 1))
        raise InsufficientMemory(
            f"{size_text(capacity, learners, needed)} is needed, {available / 1e9:.2f} GB of memory is available; "
            f"a capacity of {fits:,} fits into {MEMORY_SHARE:.0%} of it"
        )


def size_text(capacity: int, learners: int, size: int) -> str:
    """Capacity, learners and gigabytes (1e9 bytes) of a replay of so many bytes."""
    plural = "" if learners == 1 else "s"
    return f"replay {capacity:,} transitions x {learners} learner{plural}: {size / 1e9:.2f} GB"
