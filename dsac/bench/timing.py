"""How the benchmarks measure: contestants in turns, medians, and the ceiling of this machine's matrix products."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

PRODUCT = 256
CEILING_TRIES = 10


def in_turns(contestants: Mapping[str, Callable[[], float]], repeats: int, seconds: float) -> dict[str, list[float]]:
    """Rates of each contestant, one a turn; a contestant does some work and returns how much. Turns alternate."""
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for work in contestants.values():
        work()
    for _ in range(repeats):
        for name, work in contestants.items():
            done, start = 0.0, time.perf_counter()
            while (elapsed := time.perf_counter() - start) < seconds:
                done += work()
            rates[name].append(done / elapsed)
    return rates


def medians(rates: Mapping[str, list[float]]) -> dict[str, float]:
    """The median rate of each contestant."""
    return {name: statistics.median(values) for name, values in rates.items()}


def ceiling(dtype: torch.dtype, device: torch.device) -> float:
    """Floating-point operations a second of a plain 256 x 256 x 256 product: the best of CEILING_TRIES turns."""
    left, right = (torch.randn(PRODUCT, PRODUCT, device=device, dtype=dtype) for _ in range(2))
    rounds = 200

    def turn() -> float:
        start = time.perf_counter()
        for _ in range(rounds):
            torch.mm(left, right)
        wait_for(device)
        return 2 * PRODUCT**3 * rounds / (time.perf_counter() - start)

    return max(turn() for _ in range(CEILING_TRIES))


def wait_for(device: torch.device) -> None:
    """Let the device finish what was launched."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def versions() -> dict[str, Any]:
    """What a figure depends on: libraries, processor, threads."""
    import platform

    from dsac.runs.record import LIBRARIES, installed
    from envs.system import processor

    return {
        "python": platform.python_version(),
        **{name: installed(name) for name in LIBRARIES},
        "cpu": processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch_threads": torch.get_num_threads(),
    }
