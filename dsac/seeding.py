"""The one source of randomness: a stream for every seed of a run, role and index."""

from __future__ import annotations

import numpy as np

ROLES = {"parameters": 0, "action": 1, "update": 2, "replay": 3, "environment": 4, "evaluation": 5, "collector": 6}


def seed_sequence(seed: int, role: str, index: int = 0) -> np.random.SeedSequence:
    """The one source of seeds: a stream for every (run seed, role, index)."""
    return np.random.SeedSequence((seed, ROLES[role], index))


def derived_seed(seed: int, role: str, index: int = 0) -> int:
    """A 63-bit integer from seed_sequence; torch's generator on the CPU keeps its low 32 bits."""
    return int(seed_sequence(seed, role, index).generate_state(1, np.uint64)[0] >> 1)
