"""Where torch's compiler keeps what it built: a private folder, and never one that a killed start left half done.

<folder>/<torch, Python and processor>-<number>/    what torch keeps
    .building-<process>-<random>                    locked by a process that builds there, removed when all is on disk

A mark that nobody holds was left by a process that died: of what lies there, nothing is believed. The folder is deleted
once nobody else builds in it, and the next number takes its place. Code that is loaded already outlives its file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from io import BufferedRandom
from pathlib import Path
from typing import Any, TypeVar

import torch

from dsac.schema.plain_text import warn
from envs.caches import of_this_process, private_folder
from envs.system import flush, is_whole_library, lock_file, processor_flags

VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
MARK = ".building-"
_lock = threading.Lock()
Built = TypeVar("Built")


def build(compile_: Callable[[], Built]) -> Built:
    """What compile_() makes with torch's compiler. Where that fails with what was kept, once more from nothing."""
    with _lock:
        place = Place(root())
        try:
            result = compile_()
        except BaseException as error:
            place.leave()
            if not place.used_before or isinstance(error, MemoryError) or not isinstance(error, Exception):
                raise
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            say(place.folder, f"could not be used ({reason})")
            place = Place(root())
            result = compile_()
        place.finish()
        return result


def under_way() -> bool:
    """Whether something is being built now."""
    return _lock.locked()


def say(folder: Path, why: str) -> None:
    """Tell that a folder is given up."""
    warn(f"the compiler's cache {folder} {why}; it is built anew")


def root() -> Path:
    """The folder for all of the compiler's caches: TORCHINDUCTOR_CACHE_DIR where the user has set it, else our own."""
    chosen = os.environ.get(VARIABLE)
    os.environ.setdefault(VARIABLE, str(private_folder("inductor")))  # or the next line makes one that anybody foresees
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if chosen in (None, default_cache_dir()):  # torch itself puts the latter there when it is imported
        return private_folder("inductor")
    folder = Path(str(chosen)).absolute()
    return folder.parent if folder.name.rpartition("-")[0] == key() else folder  # one that a parent process was given


def use_private_folder() -> None:
    """Call before anything of torch._inductor is imported: it loads code from where the environment says."""
    os.environ[VARIABLE] = str(root())


def key() -> str:
    """A name for what compiled code depends on beside its source."""
    facts = (torch.__version__, sys.version, platform.machine(), processor_flags(), str(torch.version.cuda))
    return f"torch-{torch.__version__}-{hashlib.sha256('|'.join(facts).encode()).hexdigest()[:12]}"


class Place:
    """A folder that is whole, with a mark of this process in it, and torch pointed at it.

    used_before  there was something in it
    current      the one that this process used last
    """

    current: Path | None = None

    def __init__(self, parent: Path) -> None:
        try:
            with locked(parent / f"{key()}.lock"):
                self.folder, self.used_before = whole_folder(parent)
                self.mark = new_mark(self.folder)
        except OSError:  # a disk that is full, or that knows no locks
            self.folder = of_this_process() / "inductor"
            self.used_before = self.folder.exists()
            self.folder.mkdir(exist_ok=True)
            self.mark = new_mark(self.folder, lock=False)
        point_torch_at(self.folder)

    def finish(self) -> None:
        """All was built and loaded: see it on disk, then take the mark away."""
        began = os.fstat(self.mark.fileno()).st_mtime_ns
        for path in self.folder.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime_ns >= began:
                    with path.open("rb") as file:
                        flush(file.fileno())
        with contextlib.suppress(OSError):
            Path(self.mark.name).unlink()
        self.mark.close()

    def leave(self) -> None:
        """Nothing there is to be believed: the mark stays, and nobody holds it."""
        self.mark.close()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Alone among processes within this block. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with path.open("ab") as file:
        lock_file(file, wait=True)
        yield


def whole_folder(parent: Path) -> tuple[Path, bool]:
    """A folder that holds nothing half done, and whether anything; those that do are deleted. Raises OSError."""
    there = sorted(parent.glob(f"{key()}-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for folder in there:
        marks = [*folder.glob(f"{MARK}*")]
        dead = [mark for mark in marks if not held(mark)]
        short = [] if dead else [path for path in folder.rglob("*.so") if not is_whole_library(path)]
        if not dead and not short:
            return folder, True
        if short:
            say(folder, f"holds code that is cut short ({short[0].name})")
        elif folder != Place.current:  # else this process has told why
            say(folder, "was left by a start that was ended while it compiled")
        if len(dead) == len(marks):
            # A compiler that outlived its killed start may still write: what it leaves must not count as whole.
            gone = folder.rename(folder.with_name(f".gone-{os.getpid()}-{folder.name}"))
            shutil.rmtree(gone, ignore_errors=True)
        elif short:
            (folder / f"{MARK}nobody").touch()
    number = 1 + max((int(path.name.rpartition("-")[2]) for path in there), default=-1)
    folder = parent / f"{key()}-{number}"
    folder.mkdir(mode=0o700)
    return folder, False


def new_mark(folder: Path, lock: bool = True) -> BufferedRandom:
    """A mark of this process, held for as long as the file is open."""
    file = (folder / f"{MARK}{os.getpid()}-{os.urandom(4).hex()}").open("x+b")
    if lock:
        lock_file(file)
    return file


def held(mark: Path) -> bool:
    """Whether a living process holds a mark, or has just removed it."""
    try:
        with mark.open("rb") as file:
            return not lock_file(file, shared=True)
    except FileNotFoundError:
        return True


def point_torch_at(folder: Path) -> None:
    """Have torch's compiler read and write there and nowhere else; what it remembers of another folder is dropped."""
    os.environ[VARIABLE] = str(folder)
    from torch._inductor import codecache
    from torch._inductor.runtime.cache_dir_utils import cache_dir
    from torch._inductor.utils import clear_caches

    if folder != Place.current:
        clear_caches()
        headers: Any = codecache  # named as torch was imported, after a folder that anybody could foresee
        headers._HEADER_DIR = str(folder / "precompiled_headers")
        headers._HEADER_LOCK_DIR = str(folder / "precompiled_headers" / "locks")
        headers._precompile_header.cache_clear()
        Place.current = folder
    assert Path(cache_dir()) == folder
