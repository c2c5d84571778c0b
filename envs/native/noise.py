"""The noise of an env in compiled code, from a generator that is saved with it."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from envs.native.physics import Noise
from envs.native.random_words import next_word


@njit
def draw(state):
    """The next number, uniform in [0, 1) with 53 bits; state (4,) uint64, of `next_word`."""
    return np.float64(next_word(state) >> np.uint64(11)) * 2.0**-53


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
