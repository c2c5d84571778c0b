"""The Python side of a pool: threads that run a kernel without the interpreter's lock until they are dismissed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from envs.native import kernels


class PoolThreads:
    """`count` threads, each in work(*shared, slot) with a slot from 1 on; gone with the object, or when dismissed.

    pool   (64,) int64, see envs/native/thread_pool.py
    held   whatever owns the memory that the threads use
    """

    def __init__(
        self, pool: np.ndarray, work: Callable[..., None], shared: Sequence[Any], count: int, held: Any
    ) -> None:
        kernels.prepare_pool(pool)
        threads = [threading.Thread(target=work, args=(*shared, 1 + slot), daemon=True) for slot in range(count)]
        for thread in threads:
            thread.start()
        self.dismiss = weakref.finalize(self, _dismiss, pool, threads, held)


def _dismiss(pool: np.ndarray, threads: Sequence[threading.Thread], held: Any) -> None:
    kernels.stop_pool(pool)
    for thread in threads:
        thread.join()
    pool[:] = 0
