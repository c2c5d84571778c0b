"""Compiled functions kept on disk under a key made of everything that they were compiled from.

numba notices an edit of the file that holds a function, but not of a helper or a constant that the function imports,
nor a change of MuJoCo. Here the cache folder itself is named after all of these, so an entry can never be stale.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import llvmlite
import mujoco
import numba
import numpy as np

_lock = threading.RLock()
log = logging.getLogger("envs.engine")
_ENGINE_FILES = (
    "compiling.py",
    "contract.py",
    "crew.py",
    "kernels.py",
    "libmujoco.py",
    "physics.py",
    "task.py",
    "worlds.py",
)


def _engine_digest() -> bytes:
    digest = hashlib.sha256()
    for version in (numba.__version__, llvmlite.__version__, mujoco.mj_versionString(), np.__version__):
        digest.update(version.encode() + b"\0")
    for name in _ENGINE_FILES:
        digest.update((Path(__file__).parent / name).read_bytes())
    return digest.digest()


_ENGINE_DIGEST = _engine_digest()


def fingerprint(function: FunctionType) -> str:
    """A name for all that a function is compiled from, hexadecimal.

    Covers the engine's own files, the versions of the compiler and of MuJoCo, the whole file of the function, and,
    through its global names, the files of the helpers and modules that it uses and the values of its constants.
    The processor is part of numba's own key.
    """
    digest = hashlib.sha256(_ENGINE_DIGEST)
    seen: set[int] = set()

    def visit(value: Any) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        value = getattr(value, "py_func", value)
        if isinstance(value, FunctionType):
            digest.update(_file(value.__code__.co_filename))
            for name in value.__code__.co_names:
                if name in value.__globals__:
                    digest.update(name.encode())
                    visit(value.__globals__[name])
        elif isinstance(value, ModuleType):
            digest.update(_file(getattr(value, "__file__", None)))
        elif isinstance(value, np.ndarray):
            digest.update(value.tobytes())
        else:
            digest.update(repr(value).encode())

    visit(function)
    return digest.hexdigest()[:32]


def _file(path: str | None) -> bytes:
    return Path(path).read_bytes() if path and Path(path).is_file() else b""


def cache_root() -> Path:
    """Where the engine's compiled code is kept: NUMBA_CACHE_DIR where it is set, else a private folder."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    return Path(chosen) if chosen else private_folder("compiled")


def private_folder(name: str) -> Path:
    """A folder of this user alone for compiled code, in the user's cache folder; a temporary one where that fails.

    Compiled code is executed when it is loaded, so a folder that others may write to is not used.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = base / "dsac" / name
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        root.chmod(0o700)
        status = root.stat()
        if status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return root
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="dsac-compiled-"))


@contextmanager
def cached(function: FunctionType) -> Iterator[None]:
    """Within this block numba keeps what it compiles from the function in the folder of its fingerprint."""
    with _lock:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = str(cache_root() / fingerprint(function))
        try:
            yield
        finally:
            numba.config.CACHE_DIR = before


def callback(function: FunctionType, signature: Any) -> Any:
    """The function compiled as a C callback of a numba signature; `address` is where it lies.

    Division by zero gives inf or nan, which the engine reports, since no exception can leave a callback.
    """
    with cached(function):
        return numba.cfunc(signature, cache=True, error_model="numpy")(function)


def kernel(signature: Any, **options: Any) -> Callable[[FunctionType], Any]:
    """Compile a kernel at once for one signature; it runs without the interpreter's lock."""

    def compile_now(function: FunctionType) -> Any:
        if not (cache_root() / fingerprint(function)).exists():
            log.warning("compiling the engine's %s for this machine, once", function.__name__)
        with cached(function):
            return numba.njit(signature, cache=True, nogil=True, error_model="numpy", **options)(function)

    return compile_now
