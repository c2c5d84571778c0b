"""What a run uses of its machine: the device, the threads, and how its updates are run.

`resolve_hardware` replaces every `auto` and null by a definite value. The values are saved with the run, so that a
resumed run uses the same.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import torch

from dsac import compiler_cache
from dsac.errors import ConfigError
from dsac.schema.run_config import TrainConfig
from envs.system import available_cores

WORTH_COMPILING = 10_000  # updates after which the first compilation, 30 s, has paid
SMALL_LAYER = 32_768  # rows x width below which a second thread costs more than it gains


def resolve_hardware(config: TrainConfig) -> tuple[TrainConfig, list[str]]:
    """The config with device, threads and accelerate decided, and remarks for the user, a line each.

    Raises ConfigError where this machine lacks what the config asks for.
    """
    device, cores, remarks = device_for(config), available_cores(), []
    mode = config.accelerate
    missing = None if mode == "eager" else missing_compiler(device)
    if mode == "auto":
        worth = config.algo.updates_in(config.total_env_steps) >= WORTH_COMPILING
        mode = "eager" if missing or not worth else "graph" if device == "cuda" else "compile"
        if missing and worth:
            remarks.append(f"updates are not compiled and take 1.5 times as long: {missing}")
    elif missing:
        raise ConfigError(f"accelerate={mode}: {missing}; accelerate=eager needs nothing")
    if mode == "graph" and device != "cuda":
        raise ConfigError("accelerate=graph needs device=cuda; on the CPU accelerate=compile is the fastest")
    if config.overlap and device != "cuda":
        raise ConfigError("overlap=true needs device=cuda: on the CPU the environments and the updates share the cores")
    if config.precision == "tf32" and device != "cuda":
        raise ConfigError("precision=tf32 needs device=cuda; a CPU offers float32 and bfloat16")
    if config.precision == "bfloat16" and device == "cpu" and not fast_bfloat16():
        remarks.append("this processor has no bfloat16 instructions: precision=bfloat16 takes many times as long")
    threads = config.threads or cores
    if threads > cores:
        remarks.append(f"threads={threads} on {cores} cores: threads that wait for a core stop all the others")
    elif (load := os.getloadavg()[0]) > 0.75 * cores and threads == cores:
        remarks.append(
            f"the {cores} cores are busy already (load {load:.1f}): beside other work threads=1 is often faster"
        )
    return dataclasses.replace(config, device=device, accelerate=mode, threads=threads), remarks


def set_up(config: TrainConfig) -> None:
    """Set torch's threads and the precision of its products. The engine is told its threads when it is built."""
    torch.set_num_threads(torch_threads(config))
    if config.device == "cuda":
        torch.set_float32_matmul_precision("high" if config.precision == "tf32" else "highest")


def torch_threads(config: TrainConfig) -> int:
    """Threads for torch: one where the layers are so small that a second only waits, else `threads`."""
    widest = max(config.algo.hidden_sizes, default=1)
    small = config.algo.rows_per_update() * widest * config.learners < SMALL_LAYER
    return 1 if small else config.threads or available_cores()


def describe(config: TrainConfig) -> str:
    """Device, acceleration, precision and threads, for the line that a run begins with."""
    return f"{config.device}, {config.accelerate}, {config.precision}, {config.threads} of {available_cores()} cores"


def device_for(config: TrainConfig) -> str:
    """The device to use; auto takes CUDA where there is one. Raises ConfigError where CUDA is asked for and missing."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device=cuda, but torch sees no CUDA device here; use device=cpu")
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def missing_compiler(device: str) -> str | None:
    """Why updates cannot be compiled on this machine; None where they can."""
    if device == "cuda":
        from torch.utils._triton import has_triton

        return None if has_triton() else "Triton, which compiles for CUDA, is not installed"
    compiler_cache.use_private_folder()
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    try:
        get_cpp_compiler()
    except InvalidCxxCompiler:
        return "there is no C++ compiler on this machine (Debian: apt install g++; macOS: xcode-select --install)"
    return None


def fast_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 natively."""
    probe: Any = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe and probe())
