"""Random words in compiled code, from a generator of 32 bytes that is saved with whatever draws from it."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit
def _rotated(value, distance):
    return (value << np.uint64(distance)) | (value >> np.uint64(64 - distance))


@njit
def next_word(state):
    """The next 64 bits of xoshiro256++ (Blackman and Vigna, 2019); state (4,) uint64 moves on in place."""
    word = _rotated(state[0] + state[3], 23) + state[0]
    shifted = state[1] << np.uint64(17)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = _rotated(state[3], 45)
    return word
