"""How much memory this process may still take, container limits included."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

LIMIT_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
RECLAIMABLE = ("inactive_file", "total_inactive_file")


def available_memory(root: Path = Path("/")) -> int:
    """Bytes still free under the machine's MemAvailable and every control group; sys.maxsize where nothing says."""
    machine = _number_after("MemAvailable:", _read(root / "proc/meminfo"))
    free = [sys.maxsize if machine is None else 1024 * machine]
    for folder in _control_groups(root):
        for limit_file, usage_file in LIMIT_FILES:
            limit, usage = _read(folder / limit_file).strip(), _read(folder / usage_file).strip()
            if limit.isdigit() and usage.isdigit():
                # Cached file pages count as usage, yet the kernel gives them back before it kills.
                statistics = _read(folder / "memory.stat")
                cached = max(_number_after(name, statistics) or 0 for name in RECLAIMABLE)
                free.append(int(limit) - int(usage) + cached)
    return max(0, min(free))


def _control_groups(root: Path) -> Iterator[Path]:
    """The folders of this process's memory groups, version 1 and 2, with all their parents."""
    mounts = root / "sys/fs/cgroup"
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            bases = [mounts, mounts / "unified"]
        elif "memory" in controllers.split(","):
            bases = [mounts / "memory"]
        else:
            continue
        group = Path(path.lstrip("/"))
        yield from (base / part for base in bases for part in {group, *group.parents})


def _number_after(name: str, text: str) -> int | None:
    """The number that follows a name at the start of a line."""
    for line in text.splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name:
            return int(words[1])
    return None


def _read(path: Path) -> str:
    """The text of a file, empty where it cannot be read."""
    try:
        return path.read_text()
    except OSError:
        return ""
