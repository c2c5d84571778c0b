"""The C functions of the very libmujoco that the Python bindings mapped, callable by name from compiled code.

Importing this module loads the library into LLVM's symbol table, and from then on a fatal MuJoCo error ends the
process with code 3 and a message that names the world.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import llvmlite.binding
import mujoco
import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from envs.contract import EnvironmentFault
from envs.system import loaded_libraries

EXIT_ENVIRONMENT = 3
NOT_RUNNING = -1


def library_path() -> Path:
    """The file of the libmujoco that this process has mapped; EnvironmentFault where none can be told for sure."""
    mapped = loaded_libraries("libmujoco", Path(mujoco.__file__).parent)
    if len(mapped) != 1:
        raise EnvironmentFault(
            f"engine: expected one libmujoco in this process, found {sorted(mapped) or 'none'}; "
            "keep one mujoco package installed, and import no other library that brings its own"
        )
    return Path(mapped.pop())


def load_library() -> ctypes.CDLL:
    """Make libmujoco's functions visible to compiled code; refuses a library other than the bindings' own."""
    path = library_path()
    library = ctypes.CDLL(str(path))
    version, expected = library.mj_version(), mujoco.mj_version()
    if version != expected:
        raise EnvironmentFault(
            f"engine: {path} is MuJoCo {version}, the Python bindings were built for {expected}; reinstall mujoco"
        )
    llvmlite.binding.load_library_permanently(str(path))
    seen_by_llvm = llvmlite.binding.address_of_symbol("mj_step")
    if seen_by_llvm != ctypes.cast(library.mj_step, ctypes.c_void_p).value:
        raise EnvironmentFault(f"engine: another library in this process also defines mj_step; expected that of {path}")
    return library


class InFlightTable:
    """Which world each thread is stepping, per engine, so that a fatal error can name the world.

    A table is (threads, 8) int64: the thread's identity, then its world or NOT_RUNNING; padded to a cache line.
    """

    def __init__(self) -> None:
        self.tables: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def table(self, owner: Any, threads: int) -> Any:
        """A new table that lives as long as its owner, an object with an attribute `spec`."""
        table = np.full((threads, 8), NOT_RUNNING, dtype=np.int64)
        key = id(table)
        self.tables[key] = (weakref.ref(owner, lambda _: self.tables.pop(key, None)), table)
        return table

    def here(self) -> str:
        """The environment and world that the calling thread is stepping, in words."""
        me = threading.get_ident()
        for owner, table in list(self.tables.values()):
            for identity, world in table[:, :2].tolist():
                if np.uint64(identity & (2**64 - 1)) == np.uint64(me) and world != NOT_RUNNING:
                    env = owner()
                    return f"{env.spec.id if env is not None else 'environment'}, world {world}"
        return "outside the stepping of worlds"


in_flight = InFlightTable()
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def _end_process(message: bytes) -> None:
    # Returning to libmujoco, or unwinding through a parallel loop, is undefined after a fatal error.
    text = f"MuJoCo failed in {in_flight.here()}: {message.decode(errors='replace')}\n"
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os.write(2, text.encode())
    os._exit(EXIT_ENVIRONMENT)


# ctypes frees a callback that nothing refers to.
_on_error = _HANDLER(_end_process)

LIBRARY = load_library()
ctypes.c_void_p.in_dll(LIBRARY, "mju_user_error").value = ctypes.cast(_on_error, ctypes.c_void_p).value


_model_and_data = types.void(types.voidptr, types.voidptr)
mj_step = types.ExternalFunction("mj_step", _model_and_data)
mj_forward = types.ExternalFunction("mj_forward", _model_and_data)
mj_reset_data = types.ExternalFunction("mj_resetData", _model_and_data)
mj_rne_post_constraint = types.ExternalFunction("mj_rnePostConstraint", _model_and_data)
mj_set_const = types.ExternalFunction("mj_setConst", _model_and_data)
thread_identity = types.ExternalFunction("pthread_self", types.uintp())


@intrinsic
def pointer(typing_context, address):
    """An int64 address as a pointer that C functions and numba.carray take."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(8).as_pointer())

    return types.voidptr(types.int64), generate


def typed_pointer(scalar: Any) -> Any:
    """A compiled function: an int64 address as a pointer to scalars of a numba type, for numba.carray."""

    @intrinsic
    def typed(typing_context, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(scalar)))

        return types.CPointer(scalar)(types.int64), generate

    return typed


double_pointer = typed_pointer(types.float64)
_integer_pointer = typed_pointer(types.int32)


@njit
def warning_counters(address, kinds):
    """mjData's warning counters, (2 * kinds,) int32: number k stands at 2 k, beside its last detail."""
    return carray(_integer_pointer(address), (2 * kinds,))


def calling(signature: Any) -> Any:
    """A compiled function (address, (arguments...)) that calls the C callback of this numba signature there."""

    @intrinsic
    def call(typing_context, address, arguments):
        def generate(context, builder, call_signature, values):
            kinds = [context.get_value_type(kind) for kind in signature.args]
            function = ir.FunctionType(context.get_value_type(signature.return_type), kinds)
            target = builder.inttoptr(values[0], function.as_pointer())
            return builder.call(target, [builder.extract_value(values[1], k) for k in range(len(kinds))])

        return signature.return_type(types.int64, types.Tuple(signature.args)), generate

    return call
