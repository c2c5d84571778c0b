"""What differs between operating systems: each question has Linux's answer, and one that any POSIX system gives.

Nothing else in dsac/ or envs/ reads /proc, asks which system this is or locks a file.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import platform
import resource
import signal
import struct
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

LINUX = sys.platform == "linux"
MACOS = sys.platform == "darwin"
RENDERERS = ("egl", "osmesa") if LINUX else ("cgl", "glfw")  # of MuJoCo, the best first
PR_SET_PDEATHSIG = 1
PARENT_SECONDS = 0.5  # between two looks at whether the parent is there
MACH_O = b"\xcf\xfa\xed\xfe"  # 64 bits, little-endian, as on every Mac that torch supports
MACH_O_HEADER, MACH_O_SEGMENT = 32, 0x19
LOCKS = Path("/proc/locks")
LIMIT_FILES = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
RECLAIMABLE = ("inactive_file", "total_inactive_file")


def available_cores() -> int:
    """Cores that this process may use; where the system knows no such limit, those of the machine."""
    return len(os.sched_getaffinity(0)) if LINUX else os.cpu_count() or 1


def processor() -> str:
    """The processor's model name."""
    names = [line.split(":", 1)[1].strip() for line in _processor_facts() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def processor_flags() -> str:
    """The instruction sets that the processor offers, as the kernel lists them; empty where it does not."""
    return next((line for line in _processor_facts() if line.startswith(("flags", "Features"))), "")


def _processor_facts() -> list[str]:
    return _read(Path("/proc/cpuinfo")).splitlines() if LINUX else []


def resident_bytes() -> int:
    """Memory in use by this process; the most that it ever used where the system tells nothing else."""
    if LINUX:
        return int(_read(Path("/proc/self/statm")).split()[1]) * os.sysconf("SC_PAGESIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if MACOS else 1024)


def available_memory(root: Path = Path("/")) -> int:
    """Bytes still free under the machine's MemAvailable and every control group; without those, all of the machine's.

    root: where /proc and /sys are looked for
    """
    machine = _number_after("MemAvailable:", _read(root / "proc/meminfo")) if LINUX else None
    free = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if machine is None else 1024 * machine]
    for folder in _control_groups(root) if LINUX else ():
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


def end_with_parent(parent: int) -> None:
    """Send this process SIGTERM once the process `parent`, which started it, has ended."""
    if LINUX:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    else:
        threading.Thread(target=_terminate_after, args=(parent,), daemon=True).start()


def _terminate_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def lock_file(file: IO[Any], shared: bool = False, wait: bool = False) -> bool:
    """Lock an open file until it is closed; False where another process has it, unless it waits.

    The kernel holds the lock, and lets go of it with the process. Raises OSError where the disk knows no locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def locked_files() -> frozenset[str]:
    """The files that processes of this machine have locked, "major:minor:inode" in hex, hex and digits.

    As the kernel tells it, for all at once: whoever asked by locking would be in the way of a run that begins. Empty
    where it does not tell: not on Linux, and from within another container.
    """
    rows = [line.split() for line in _read(LOCKS).splitlines()] if LINUX else []
    return frozenset(row[5] for row in rows if len(row) > 5 and row[1:4] == ["FLOCK", "ADVISORY", "WRITE"])


def flush(descriptor: int) -> None:
    """Return once what was written to an open file is on the disk; macOS has a call of its own for that."""
    if full := getattr(fcntl, "F_FULLFSYNC", None):
        with contextlib.suppress(OSError):  # a disk elsewhere, which knows only the other call
            fcntl.fcntl(descriptor, full)
            return
    os.fsync(descriptor)


def loaded_libraries(name: str, folder: Path) -> set[str]:
    """The shared libraries of this name in this process; where the system does not tell, those in `folder`."""
    if LINUX:
        lines = _read(Path("/proc/self/maps")).splitlines()
        return {line.split(maxsplit=5)[5] for line in lines if name in line}
    return {str(path.resolve()) for path in folder.glob(f"{name}*")}


def is_whole_library(path: Path) -> bool:
    """Whether a shared library (ELF or Mach-O) reaches as far as its header says.

    Loading one that was cut short ends the process.
    """
    with contextlib.suppress(OSError, struct.error), path.open("rb") as file:
        header = file.read(64)
        if header[:4] == MACH_O:
            commands = header + file.read(struct.unpack_from("<I", header, 20)[0])
            end = _end_of_mach_o(commands, struct.unpack_from("<I", header, 16)[0])
        elif header[:4] == b"\x7fELF":
            begin, (size, count) = struct.unpack_from("<Q", header, 40)[0], struct.unpack_from("<HH", header, 58)
            end = begin and begin + size * count  # the section headers lie at its end
        else:
            end = 0
        return 0 < end <= path.stat().st_size
    return False


def _end_of_mach_o(commands: bytes, count: int) -> int:
    """Where the last segment that the load commands tell of ends in the file."""
    place, end = MACH_O_HEADER, 0
    for _ in range(count):
        kind, size = struct.unpack_from("<II", commands, place)
        if kind == MACH_O_SEGMENT:
            end = max(end, sum(struct.unpack_from("<QQ", commands, place + 40)))
        place += size
    return end
