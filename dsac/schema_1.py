"""Checkpoints as they were at first: large arrays in .npy files, the replay's rings as they lay in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dsac.frames import Frames
from dsac.replay import frames_per_world
from dsac.replay_kernels import Rings


def large_arrays(folder: Path, manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """The .npy files of a checkpoint, mapped."""
    names = [name for name in manifest["files"] if name.endswith(".npy")]
    return {name.removesuffix(".npy"): np.load(folder / name, mmap_mode="c", allow_pickle=False) for name in names}


def upgraded(state: Any) -> Any:
    """The state as the present schema has it: a mark for learners that diverged, a replay's frames in chunks."""
    memory = state.get("trainer", {}).get("memory", {})
    if "trainer" in state:
        algorithm = state["trainer"]["algorithm"]
        algorithm.setdefault("frozen", np.zeros(len(algorithm["actor.output.bias"]), bool))
    if "obs" not in memory:
        return state
    rings = Rings(*(memory.pop(name) for name in Rings._fields))
    written = memory["written"]
    length = frames_per_world(memory["capacity"], memory["num_envs"])
    learners, worlds = np.indices(written.shape)
    memory["newest"] = rings.obs[learners, worlds, np.maximum(written - 1, 0) % length]
    memory["frames"] = Frames(rings, written, length)
    return state
