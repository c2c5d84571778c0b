"""Random numbers in compiled code, from a generator of 32 bytes that is saved with an env."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from envs.native.physics import Noise


@njit
def _rotated(value, distance):
    return (value << np.uint64(distance)) | (value >> np.uint64(64 - distance))


@njit
def draw(state):
    """The next number of xoshiro256++ (Blackman and Vigna 2019), uniform in [0, 1) with 53 bits; state (4,) uint64."""
    result = _rotated(state[0] + state[3], 23) + state[0]
    shifted = state[1] << np.uint64(17)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = _rotated(state[3], 45)
    return np.float64(result >> np.uint64(11)) * 2.0**-53


@njit
def drawn(generator, tables, world):
    """A world's rows of the tables of a Noise, drawn anew; the normal ones by the transform of Box and Muller."""
    noise = Noise(tables.uniform[world], tables.normal[world])
    for index in range(noise.uniform.shape[0]):
        noise.uniform[index] = draw(generator)
    for index in range(noise.normal.shape[0]):
        radius = math.sqrt(-2.0 * math.log(1.0 - draw(generator)))
        noise.normal[index] = radius * math.cos(2.0 * math.pi * draw(generator))
    return noise
