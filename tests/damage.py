"""Ways to damage a file or a folder of a finished run: what a bad disk, a bad copy or a bad person leaves.

A way is a function of a Spot, whose draw decides everything that varies, so that a case is repeated by its name.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Spot:
    """What is damaged: a place in a run, with the folder outside that nothing may touch."""

    run: Path
    target: str
    outside: Path
    draw: random.Random

    @property
    def path(self) -> Path:
        return Path(os.path.normpath(self.run / self.target))  # also where the target is the run itself


Way = Callable[[Spot], None]
WAYS: dict[str, Way] = {}


def way(function: Way) -> Way:
    """Register a way to damage under the name of its function."""
    WAYS[function.__name__.replace("_", "-")] = function
    return function


def clear(path: Path) -> None:
    """Nothing stands there any more."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def put(spot: Spot, content: bytes | str) -> None:
    """Replace a file."""
    clear(spot.path)
    spot.path.write_bytes(content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content)


# Any file.


@way
def cut(spot: Spot) -> None:
    content = spot.path.read_bytes()
    put(spot, content[: spot.draw.choice([0, 1, len(content) // 2, max(len(content) - 1, 0)])])


@way
def flip(spot: Spot) -> None:
    content = bytearray(spot.path.read_bytes() or b"\0")
    for _ in range(spot.draw.choice([1, 1, 1, 20])):
        content[spot.draw.randrange(len(content))] ^= 1 << spot.draw.randrange(8)
    put(spot, bytes(content))


@way
def noise(spot: Spot) -> None:
    made = [b"\xff\xfe\0", "é".encode("latin-1") * 9, b"\0" * 4096, spot.draw.randbytes(300), b"\n" * 999, b"=1\r\r\n"]
    put(spot, spot.draw.choice(made))


@way
def splice(spot: Spot) -> None:
    """Something put into the middle, as a bad merge or a bad sector does."""
    content = spot.path.read_bytes()
    at = spot.draw.randrange(len(content) + 1)
    put(
        spot, content[:at] + spot.draw.choice([b"\xe9", b"\0", b"\n", b"\x1b[31m", content[:at], b",,,"]) + content[at:]
    )


@way
def huge(spot: Spot) -> None:
    os.truncate(spot.path, 6 << 30)  # a hole: no blocks on the disk


@way
def locked_away(spot: Spot) -> None:
    spot.path.chmod(spot.draw.choice([0, 0o444, 0o555]))


# Another kind of thing in place of a file or folder, or where nothing was.


@way
def gone(spot: Spot) -> None:
    clear(spot.path)


@way
def pipe(spot: Spot) -> None:
    clear(spot.path)
    os.mkfifo(spot.path)


@way
def device(spot: Spot) -> None:
    clear(spot.path)
    spot.path.symlink_to(spot.draw.choice(["/dev/zero", "/dev/random", "/dev/full"]))


@way
def link(spot: Spot) -> None:
    """To a file, a folder or nothing outside, or to itself."""
    clear(spot.path)
    places = ["file.txt", "folder", "nothing", "config.yaml", "step"]
    spot.path.symlink_to(spot.draw.choice([*(spot.outside / name for name in places), spot.path]))


@way
def moved(spot: Spot) -> None:
    """The content is what it was, behind a link to another place."""
    if os.path.lexists(spot.path):
        spot.path.rename(spot.outside / "moved")
    else:
        shutil.copytree(spot.outside / "folder", spot.outside / "moved")
    spot.path.symlink_to(spot.outside / "moved")


@way
def folder(spot: Spot) -> None:
    clear(spot.path)
    spot.path.mkdir()
    if spot.draw.random() < 0.5:
        (spot.path / spot.draw.choice(["x", "config.yaml", "manifest.json", "policy.json"])).write_text("{}")


@way
def text(spot: Spot) -> None:
    put(spot, spot.draw.choice(["", "{}", "[]", "x\n", "format: 1\n", "a,b\n1,2\n"]))


# metrics.csv.


@way
def rows(spot: Spot) -> None:
    lines = spot.path.read_text().splitlines()
    at = spot.draw.choice([number for number, line in enumerate(lines) if ",eval/return," in line or number == 0])
    fields = lines[at].split(",")
    values = ["", "x", "nan", "inf", "-1", "1e308", "1e400", "9" * 6000, "²", "-0", "0x1", "1_0", " 1", "\0", "é",
              '"', "=1+1", "\x1b[31m", "<script>", "2" * 30]  # fmt: skip
    change = spot.draw.randrange(7)
    if change < 4:
        fields[spot.draw.randrange(len(fields))] = spot.draw.choice(values)
    lines[at] = ",".join([fields, fields, fields, fields, fields[:2], fields * 3, [",eval/return,"]][change])
    if spot.draw.random() < 0.2:
        lines = [*lines, "1,1,1,eval/return", ",eval/return,", "a" * 200_000, *lines[1:]]
    put(spot, "\n".join(lines) + spot.draw.choice(["\n", "", "\n\n"]))
