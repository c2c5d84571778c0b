"""Threads that step worlds together, and never wait for one that has not begun.

A fork-join pool waits at every step for all its threads, and on a busy machine for one that the scheduler left out.
Here the caller and its helpers take worlds one by one; the caller goes on as soon as all worlds are done, whoever did
them. Helpers sleep soon after a step, so that the cores are free for whatever comes between two steps.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from envs.native.libmujoco import pointer

GENERATION, STOP, NEXT_WORLD, WORLDS_DONE = 0, 1, 2, 3
# Counters of one pool, a cache line each, then the C library's mutex and condition variable.
_STRIDE, _MUTEX, _CONDITION, _SIZE = 8, 32, 48, 64
# About 50 microseconds: longer than Python takes between two steps, shorter than anything worth a core.
_YIELDS_BEFORE_SLEEP = 100

_integer_of_pointers = types.int32(types.voidptr, types.voidptr)
_integer_of_pointer = types.int32(types.voidptr)
_mutex_init = types.ExternalFunction("pthread_mutex_init", _integer_of_pointers)
_condition_init = types.ExternalFunction("pthread_cond_init", _integer_of_pointers)
_lock = types.ExternalFunction("pthread_mutex_lock", _integer_of_pointer)
_unlock = types.ExternalFunction("pthread_mutex_unlock", _integer_of_pointer)
_wait = types.ExternalFunction("pthread_cond_wait", _integer_of_pointers)
_broadcast = types.ExternalFunction("pthread_cond_broadcast", _integer_of_pointer)
_yield = types.ExternalFunction("sched_yield", types.int32())


@intrinsic
def _fetch_add(typing_context, address):
    def generate(context, builder, signature, arguments):
        target = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", target, ir.Constant(ir.IntType(64), 1), "seq_cst")

    return types.int64(types.int64), generate


@intrinsic
def _load(typing_context, address):
    def generate(context, builder, signature, arguments):
        target = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.load_atomic(target, "seq_cst", 8)

    return types.int64(types.int64), generate


@intrinsic
def _store_zero(typing_context, address):
    def generate(context, builder, signature, arguments):
        target = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        builder.store_atomic(ir.Constant(ir.IntType(64), 0), target, "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64), generate


@njit
def _place(pool, slot):
    return pool.ctypes.data + 8 * slot


@njit
def prepare(pool):
    """Set up a pool's memory, (64,) int64 of zeros."""
    nothing = pointer(np.int64(0))
    _mutex_init(pointer(_place(pool, _MUTEX)), nothing)
    _condition_init(pointer(_place(pool, _CONDITION)), nothing)


@njit
def add_one(pool, counter):
    """Add one to a counter, indivisibly; returns what it was. Whoever sees it sees all that was written before."""
    return _fetch_add(_place(pool, counter * _STRIDE))


@njit
def read(pool, counter):
    """A counter as it is now."""
    return _load(_place(pool, counter * _STRIDE))


@njit
def notify(pool):
    """Put up a new round of worlds and wake the helpers."""
    _store_zero(_place(pool, WORLDS_DONE * _STRIDE))
    # A helper that is late for the last round may take a world as soon as this is zero, which is right.
    _store_zero(_place(pool, NEXT_WORLD * _STRIDE))
    wake(pool)


@njit
def wake(pool):
    """Let every helper look at the counters."""
    add_one(pool, GENERATION)
    _lock(pointer(_place(pool, _MUTEX)))
    _broadcast(pointer(_place(pool, _CONDITION)))
    _unlock(pointer(_place(pool, _MUTEX)))


@njit
def yield_processor():
    """Let another thread have the core if one wants it."""
    _yield()


@njit
def await_notice(pool, seen):
    """Return the generation as soon as it is not the one seen; asleep after a short while."""
    for _ in range(_YIELDS_BEFORE_SLEEP):
        if read(pool, GENERATION) != seen:
            return read(pool, GENERATION)
        _yield()
    _lock(pointer(_place(pool, _MUTEX)))
    while read(pool, GENERATION) == seen:
        _wait(pointer(_place(pool, _CONDITION)), pointer(_place(pool, _MUTEX)))
    _unlock(pointer(_place(pool, _MUTEX)))
    return read(pool, GENERATION)


def new_pool() -> np.ndarray:
    """The memory of a pool: call prepare with it before anything else."""
    return np.zeros(_SIZE, dtype=np.int64)
