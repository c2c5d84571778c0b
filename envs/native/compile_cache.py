"""Compiled functions kept on disk under a key made of everything that they were compiled from.

numba notices an edit of the file that holds a function, but not of a helper or a constant that the function imports,
nor a change of MuJoCo. Here the cache folder itself is named after all of these, so an entry can never be stale.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
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
from numba.core import caching

from envs.caches import private_folder

_lock = threading.RLock()
log = logging.getLogger("envs.engine")
_ENGINE_FILES = (
    "compile_cache.py",
    "../contract.py",
    "thread_pool.py",
    "kernels.py",
    "libmujoco.py",
    "noise.py",
    "physics.py",
    "random_words.py",
    "../task.py",
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
    """Where the engine's compiled code is kept: NUMBA_CACHE_DIR where it can be written to, else a private folder."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        with contextlib.suppress(OSError):
            Path(chosen).mkdir(parents=True, exist_ok=True)
            if os.access(chosen, os.W_OK):
                return Path(chosen)
    return private_folder("compiled")


class CacheFile(caching.IndexDataCacheFile):
    """What numba keeps of one function; entries that cannot be read are compiled anew."""

    def load(self, key: Any) -> Any:
        """The entry of this key; None where there is none that can be read."""
        try:
            return super().load(key)
        except Exception as error:  # whatever a file can raise that was cut short, or is none
            print(f"warning: {self._index_path} cannot be read ({error}); it is compiled anew", file=sys.stderr)
            Path(self._index_path).unlink(missing_ok=True)
            return None

    def save(self, key: Any, data: Any) -> None:
        """Keep an entry, if the disk takes it."""
        with contextlib.suppress(OSError):
            super().save(key, data)


@contextmanager
def cached(function: FunctionType) -> Iterator[None]:
    """Within this block numba keeps what it compiles from the function in the folder of its fingerprint."""
    with _lock:
        before = numba.config.CACHE_DIR, caching.IndexDataCacheFile
        numba.config.CACHE_DIR = str(cache_root() / fingerprint(function))
        caching.IndexDataCacheFile = CacheFile
        try:
            yield
        finally:
            numba.config.CACHE_DIR, caching.IndexDataCacheFile = before


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


def lazy_kernel(function: Any) -> Any:
    """A kernel that is compiled at its first call, for the types of its arguments."""
    with cached(function):
        return numba.njit(cache=True, nogil=True)(function)
