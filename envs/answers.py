"""What environments may answer: their numbers and flags read as what they are, and anything else refused by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from envs.contract import FloatArray

MOST_CHARACTERS, MOST_OF_A_VALUE, LONGEST_KEY = 400, 80, 40  # of another program's text within a line of ours


class Part(NamedTuple):
    """A Box or a Discrete of an observation, and how it is laid out.

    keys    those of the Dicts and Tuples around it
    size    how many numbers it takes
    shape   of a Box; () for one number
    lowest  of a Discrete, its lowest value: it takes a number for each value, 1 for the one it has; None for a Box
    """

    keys: tuple[Any, ...]
    size: int
    shape: tuple[int, ...] = ()
    lowest: int | None = None

    @property
    def path(self) -> str:
        """The keys as one name: arm.angle, arm[1]; empty without."""
        steps = (f"[{key}]" if isinstance(key, int) else f".{in_one_line(str(key), LONGEST_KEY)}" for key in self.keys)
        return "".join(steps).removeprefix(".")

    @property
    def label(self) -> str:
        return f"observation {self.path!r}" if self.keys else "observation"

    @property
    def names(self) -> list[str]:
        """Those of its numbers: arm.angle[0], load[1][2], gear=3."""
        name = self.path if self.path and not self.path.startswith("[") else f"obs{self.path}"
        if self.lowest is not None:
            return [f"{name}={value}" for value in range(self.lowest, self.lowest + self.size)]
        entries = np.ndindex(self.shape or (1,))
        return [name + "".join(f"[{index}]" for index in entry) for entry in entries]


def write_observation(observation: Any, parts: Sequence[Part], row: FloatArray) -> None:
    """Lay the parts of an observation out in a row (O,). Raises TypeError or ValueError, naming the part."""
    start = 0
    for part in parts:
        value = observation
        for key in part.keys:
            try:
                value = value[key]
            except (LookupError, TypeError):
                raise TypeError(f"observation is {shown(observation)}, without {part.label}") from None
        if part.lowest is not None:
            row[start : start + part.size] = 0.0
            row[start + place_of(value, part)] = 1.0
            start += part.size
            continue
        array = numbers(value, part.label, "an array of real numbers")
        # Without this a shorter observation would be broadcast over the row.
        if array.size != part.size:
            raise ValueError(f"{part.label} of {array.size} numbers, the observation space has {part.size}")
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is told of as that
            row[start : start + part.size] = array.ravel()
        start += part.size


def place_of(value: Any, part: Part) -> int:
    """The place of the value of a Discrete among its numbers. Raises TypeError or ValueError."""
    place = number(value, part.label) - (part.lowest or 0)
    if place not in range(part.size):
        raise ValueError(f"{part.label} is {shown(value)}; one of its {part.size} values is right")
    return int(place)


def number(value: Any, field: str) -> float:
    """A number: Python's, NumPy's or the only entry of an array. Raises TypeError."""
    array = numbers(value, field, "one number")
    if array.size != 1:
        raise TypeError(f"{field} is {shown(value)}; one number is right")
    return float(array.item())


def flag(value: Any, field: str) -> bool:
    """True, False, 1 or 0, alone or as the only entry of an array. Raises TypeError."""
    if isinstance(value, bool | np.bool_):
        return bool(value)
    array = numbers(value, field, "True or False")
    if array.size != 1 or array.item() not in (0, 1):
        raise TypeError(f"{field} is {shown(value)}; True or False is right")
    return bool(array.item())


def numbers(value: Any, field: str, right: str) -> NDArray[Any]:
    """An array of real numbers, whatever its size. Raises TypeError: NumPy would read text as numbers, None as NaN."""
    try:
        array = np.asarray(value)
    except ValueError:  # lists of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{field} is {shown(value)}; {right} is right")
    return array


def first_not_finite(row: FloatArray, names: Sequence[str]) -> tuple[str, float] | None:
    """The name and value of a row's first entry that is NaN or infinite; None where there is none."""
    bad = np.flatnonzero(~np.isfinite(row))
    return (names[bad[0]], float(row[bad[0]])) if bad.size else None


def shown(value: Any) -> str:
    """A value and its kind, for a line."""
    return f"{in_one_line(repr(value), MOST_OF_A_VALUE)} ({type(value).__name__})"


def in_one_line(text: str, most: int = MOST_CHARACTERS) -> str:
    """Another program's text as a piece of a line of ours: printable, and not too long."""
    line = " ".join(text.split())
    line = "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in line)
    return line if len(line) <= most else f"{line[:most]} ..."
