"""metrics.csv read back: a row is env_steps,updates,wall_time,tag,value; few of a long file's rows are asked for.

Rows of other tags are passed over unread, and a row without an end, which is being written or never was, counts for
nothing. The file may come from anyone.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsac.errors import FileError
from dsac.schema.files import LARGEST_LINE, plain_file

SCORE = "eval/return"
LARGEST = 1 << 30  # bytes
BLOCK, TAIL = 1 << 22, 1 << 16
BEYOND = 1e30  # no return, rate or count comes to so much, and a sum of such numbers would be none

Array = NDArray[np.float64]


def picked(path: Path, tags: Sequence[str]) -> dict[str, Array]:
    """The rows of some tags, (K, 4): env steps, updates, wall time, value. Raises FileError."""
    found: dict[str, list[Array]] = {tag: [np.empty((0, 4))] for tag in tags}
    try:
        with plain_file(path) as file:
            for block in blocks(file, path):
                for tag, parts in found.items():
                    parts.append(numbers(block, tag, path))
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    return {tag: np.concatenate(parts) for tag, parts in found.items()}


def blocks(file: BufferedReader, path: Path) -> Iterator[bytes]:
    """Whole lines, many at a time. Raises FileError."""
    rest, size = b"", 0
    while block := file.read(BLOCK):
        size += len(block)
        whole, end, rest = (rest + block).rpartition(b"\n")
        if size > LARGEST or len(rest) > LARGEST_LINE:
            raise FileError(f"{path}: larger than {LARGEST:,} bytes, or a line without an end: dsac did not write it")
        yield whole + end


def numbers(block: bytes, tag: str, path: Path) -> Array:
    """The rows of a tag in whole lines as numbers (K, 4). Raises FileError where one is not a row of it."""
    pieces = block.split(f",{tag},".encode())
    before = [piece.rpartition(b"\n")[2] for piece in pieces[:-1]]
    after = [piece.partition(b"\n")[0] for piece in pieces[1:]]
    if not before:
        return np.empty((0, 4))
    plain = b",".join([b"%b,%b" % row for row in zip(before, after, strict=True)])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of what is no number
            values = np.fromstring(plain, sep=",").reshape(-1, 4)
    except (ValueError, DeprecationWarning):
        values = np.full((1, 4), np.nan)
    if len(values) == len(before) and (np.abs(values) < BEYOND).all():
        return values
    rows = [b"%b,%b,%b" % (head, tag.encode(), tail) for head, tail in zip(before, after, strict=True)]
    return np.array([parsed(row, tag, path) for row in rows])  # one at a time, to name the one that is wrong


def parsed(row: bytes, tag: str, path: Path) -> list[float]:
    """The numbers of a row. Raises FileError where it is not a row of this tag."""
    fields = row.split(b",")
    try:
        if len(fields) != 5 or fields[3] != tag.encode():
            raise ValueError
        values = [float(field) for field in (*fields[:3], fields[4])]
    except ValueError:
        values = [math.nan]
    if not all(-BEYOND < value < BEYOND for value in values):
        said = row[:80].decode(errors="replace")
        raise FileError(f"{path}: the row {said!r} holds something that is not a finite number")
    return values


def last_evaluation(path: Path) -> tuple[int, float]:
    """(env steps, mean return) of the last evaluation; (-1, nan) before the first, and where the file is an odd one."""
    try:
        with plain_file(path) as file:
            for line in from_the_end(file):
                if f",{SCORE},".encode() in line:
                    env_steps, _, _, score = parsed(line, SCORE, path)
                    return int(env_steps), score
    except OSError:  # not there yet
        pass
    return -1, math.nan


def from_the_end(file: BufferedReader) -> Iterator[bytes]:
    """The whole lines of a file, the last one first. Raises FileError."""
    end = file.seek(0, os.SEEK_END)
    rest, whole = b"", False
    while end > 0:
        start = max(0, end - TAIL)
        file.seek(start)
        rest, *lines = (file.read(end - start) + rest).split(b"\n")
        yield from reversed(lines if whole else lines[:-1])
        whole, end = whole or bool(lines), start
        if len(rest) > LARGEST_LINE:
            raise FileError(f"{file.name}: a line without an end")
    if whole:
        yield rest
