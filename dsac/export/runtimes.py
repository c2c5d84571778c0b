"""Each written file, run as a robot would run it, and what it must pass before it is believed."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dsac.errors import ConfigError, ExportRefused
from dsac.evaluation.scoring import Score, score
from dsac.export import controller
from dsac.export.layers import FloatArray
from dsac.export.parity import TOLERANCE, ParitySet
from dsac.export.report import closed_loop
from dsac.export.torchscript import read_torchscript
from dsac.nn.policy import Policy
from dsac.schema.safe_action import SafeAction
from envs.contract import VecEnv

TIMED_STEPS = 500
ROUNDING_SHARE = 1e-3  # of a return, by which two closed loops may differ from rounding alone

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


class Runtime(NamedTuple):
    """One way to run the policy.

    act      obs (n, O) -> actions (n, A)
    error    the worst on the parity set, as a share of each action's half range
    seconds  a step of one observation, the median
    """

    name: str
    act: Callable[[FloatArray], FloatArray]
    error: float
    seconds: float


def torch_runtime(policy: Policy, parity: ParitySet) -> Runtime:
    """The policy itself, for comparison."""

    @torch.no_grad()
    def act(obs: FloatArray) -> FloatArray:
        actions: FloatArray = policy(torch.from_numpy(obs)).numpy()
        return actions

    return Runtime("torch", act, 0.0, median_seconds(act, parity))


def onnx_runtime(path: Path, parity: ParitySet) -> Runtime:
    """policy.onnx in the very controller that stands beside it, whose own checks come first. Raises ExportRefused."""
    try:
        policy = controller.Policy(path, pace=False)
    except controller.PolicyRefused as error:
        raise ExportRefused(f"policy.onnx: {error}") from error

    def act(obs: FloatArray) -> FloatArray:
        return np.stack([policy(row) for row in obs])

    return Runtime("onnx", act, policy.parity_error, median_seconds(act, parity))


def checked_risk(path: Path) -> dict[str, float]:
    """What the controller's own checks of risk.onnx found. Raises ExportRefused."""
    try:
        return {"worst_error": controller.Risk(path).parity_error}
    except controller.PolicyRefused as error:
        raise ExportRefused(f"risk.onnx: {error}") from error


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


def c_runtime(header: Path, parity: ParitySet, obs_abs_max: float, safe: SafeAction) -> Runtime:
    """policy.h, compiled here. Raises ExportRefused."""
    library = CLibrary(header, parity.obs.shape[1], parity.actions.shape[1])
    actions, reasons = library(parity.obs)
    error = within_tolerance("policy.h", actions, reasons == 0, parity)
    obs = refused_rows(parity.obs[0], obs_abs_max)
    valid_action = library(parity.obs[:1])[0][0]  # with "last", what is held from here on
    held, reasons = library(obs)
    check_held("policy.h", held, reasons == 0, valid_action if safe.kind == "last" else safe.value)
    if place := library.check():
        raise ExportRefused(f"policy.h: policy_check() returns {place}")

    def act(obs: FloatArray) -> FloatArray:
        return library(obs)[0]

    def step_all(obs: FloatArray) -> FloatArray:
        return act(np.repeat(obs, 100, 0))  # in C, so that the call from Python does not count

    return Runtime("c", act, error, median_seconds(step_all, parity, 20) / 100)


def torchscript_runtime(content: bytes, parity: ParitySet, obs_abs_max: float, safe: SafeAction) -> Runtime:
    """policy.pt. Raises ExportRefused."""
    module = read_torchscript(content)

    @torch.no_grad()
    def answer(obs: FloatArray) -> tuple[FloatArray, Any]:
        actions, valid = module(torch.from_numpy(obs))
        return actions.numpy(), valid.numpy()

    error = within_tolerance("policy.pt", *answer(parity.obs), parity)
    check_held("policy.pt", *answer(refused_rows(parity.obs[0], obs_abs_max)), safe.value)

    def act(obs: FloatArray) -> FloatArray:
        return answer(obs)[0]

    return Runtime("torchscript", act, error, median_seconds(act, parity))


def within_tolerance(file: str, actions: FloatArray, valid: Any, parity: ParitySet) -> float:
    """The worst error. Raises ExportRefused where it is too large, or where a valid row is held."""
    if not valid.all():
        raise ExportRefused(f"{file} refuses observation {int(valid.argmin())} of the parity set, which is valid")
    error = parity.error(actions)
    if error > TOLERANCE:
        raise ExportRefused(
            f"{file} differs from the policy by up to {error:.1e} of an action's half range, allowed is {TOLERANCE:.0e}"
        )
    return error


def refused_rows(row: FloatArray, obs_abs_max: float) -> FloatArray:
    """NaN, both infinities and twice obs_abs_max in each entry of a row (O,), one at a time: (4 O, O)."""
    bad = np.array([np.nan, np.inf, -np.inf, 2 * obs_abs_max], np.float32)
    obs = np.repeat(row[None], 4 * len(row), 0)
    obs[np.arange(4 * len(row)), np.repeat(np.arange(len(row)), 4)] = np.tile(bad, len(row))
    return obs


def check_held(file: str, actions: FloatArray, valid: Any, expected: FloatArray) -> None:
    """Raise ExportRefused unless every row (n, A) is held at the expected action (A,), to the bit."""
    if valid.any() or not (actions == expected).all():
        raise ExportRefused(f"{file} does not answer every observation that it must refuse with the safe action")


def median_seconds(act: Callable[[FloatArray], FloatArray], parity: ParitySet, steps: int = TIMED_STEPS) -> float:
    """The median time of a call with one observation."""
    seconds = []
    for index in range(steps):
        row = parity.obs[index % len(parity.obs)][None]
        start = time.perf_counter()
        act(row)
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds))


def play(runtime: Runtime, env: VecEnv, episodes: int, seed: int) -> Score:
    """The closed loop, as dsac.evaluate plays it."""

    def policy(obs: Tensor) -> Tensor:
        return torch.from_numpy(runtime.act(obs.numpy()))

    return score(policy, env, episodes, seed)


def check_closed_loop(runtime: Runtime, found: Score, expected: Score) -> None:
    """Raise ExportRefused unless the intervals of two closed loops meet, or the means are equal but for rounding."""
    meet = found.low <= expected.high and expected.low <= found.high
    if not meet and abs(found.mean - expected.mean) > ROUNDING_SHARE * abs(expected.mean):
        raise ExportRefused(
            f"in closed loop {runtime.name} returns {closed_loop(found.facts())}, "
            f"the policy {closed_loop(expected.facts())}"
        )
