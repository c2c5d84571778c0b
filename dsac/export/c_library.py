"""policy.h compiled here and called from Python, as a controller would call it."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsac.errors import ConfigError, ExportRefused
from dsac.export.layers import FloatArray

FLAGS = ("-std=c99", "-O3", "-Wall", "-Wextra", "-Werror", "-pedantic")
SHIM = """\
#include "policy.h"
int check(void);
void steps(int rows, const float *obs, float *actions, int *reasons);
int check(void) { return policy_check(); }
void steps(int rows, const float *obs, float *actions, int *reasons)
{
    for (int row = 0; row < rows; row++)
        reasons[row] = policy_step(obs + row * POLICY_OBS_DIM, actions + row * POLICY_ACTION_DIM);
}
"""


def compiler() -> str:
    """The C compiler: CC, or cc, gcc or clang. Raises ConfigError where there is none."""
    names = [os.environ["CC"]] if os.environ.get("CC") else ["cc", "gcc", "clang"]
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        raise ConfigError(
            f"format=c is only written when what it computes was checked, but there is no C compiler "
            f"({', '.join(names)}): install one, or give format=onnx"
        )
    return found


class CLibrary:
    """A policy.h as a function of rows. Raises ExportRefused where it does not compile without a warning."""

    def __init__(self, header: Path, obs_dim: int, action_dim: int) -> None:
        self.obs_dim, self.action_dim = obs_dim, action_dim
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "shim.c", Path(folder) / "policy.so"
            source.write_text(SHIM)
            command = [compiler(), *FLAGS, "-fPIC", "-shared", f"-I{header.parent}", str(source), "-o", str(library)]
            done = subprocess.run([*command, "-lm"], capture_output=True, text=True, check=False)
            if done.returncode != 0:
                raise ExportRefused(f"policy.h does not compile: {done.stderr.strip()[:2000]}")
            self.functions = ctypes.CDLL(str(library))

    def check(self) -> int:
        """policy_check(): 0 where the rows in the header come out as they should."""
        return int(self.functions.check())

    def __call__(self, obs: FloatArray) -> tuple[FloatArray, NDArray[np.int32]]:
        """obs (n, O) -> actions (n, A) and the reasons (n,), 0 where a row is valid."""
        obs = np.ascontiguousarray(obs, np.float32)
        actions, reasons = np.empty((len(obs), self.action_dim), np.float32), np.empty(len(obs), np.int32)
        pointers = [ctypes.c_void_p(array.ctypes.data) for array in (obs, actions, reasons)]
        self.functions.steps(ctypes.c_int(len(obs)), *pointers)
        return actions, reasons
