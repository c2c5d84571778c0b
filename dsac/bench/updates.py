"""Updates a second of an algorithm at a task's sizes, and their share of the ceiling that this machine's products set.

The work of an update is counted, not estimated: the products of the update as it is written, averaged over the steps
with and without the policy.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Any

import torch

from dsac.algorithms.base import Algorithm
from dsac.bench import timing
from dsac.config import compose, load
from dsac.data import Batch
from dsac.nn.precision import set_precision
from dsac.runs import hardware
from dsac.schema.ranges import at_least, positive
from dsac.schema.run_config import TrainConfig
from dsac.updater import Updater

HELP = """\
python -m dsac.bench update [tasks=Humanoid,HalfCheetah] [algo=dsac_t] [modes=eager,compile] [precisions=float32]
                            [learners=1] [device=auto] [threads=2] [seconds=0.5] [repeats=3] [--json]

Modes and precisions take turns; figures are medians. share: work of an update x updates a second over the best of ten
turns of a plain 256 x 256 x 256 product in the same precision, on the same threads. overhead: what the calls around the
compiled graph take, measured with the graph left out. On device=cuda the modes are eager and graph.
"""


@dataclass(frozen=True)
class Config:
    """The words of this command."""

    tasks: tuple[str, ...] = ("Humanoid", "HalfCheetah")
    algo: str = "dsac_t"
    modes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ("float32",)
    learners: tuple[int, ...] = (1,)
    device: str = "auto"
    threads: int | None = at_least(None, 1)
    seconds: float = positive(0.5)
    repeats: int = at_least(3, 1)


def measure(config: Config) -> dict[str, Any]:
    """The report of a run: versions, and a row for each task, number of learners, precision and mode."""
    rows = []
    for task in config.tasks:
        for learners in config.learners:
            rows += race(task, learners, config)
    return {"versions": timing.versions(), "rows": rows}


def race(task: str, learners: int, config: Config) -> list[dict[str, Any]]:
    """The rows of one task: modes and precisions in turns with each other and with the plain product."""
    words = [f"env={task}", f"algo={config.algo}", "experiment=paper"]
    words += [f"learners={learners}", f"device={config.device}"]
    words += [f"threads={config.threads}"] if config.threads else []
    settings, _ = hardware.resolve_hardware(load(compose([*words, "total_env_steps=1"])))
    modes = config.modes or (("eager", "graph") if settings.device == "cuda" else ("eager", "compile"))
    hardware.set_up(settings)
    contestants, updaters = {}, {}
    for precision in config.precisions:
        for mode in modes:
            updater, batch = prepared(settings, mode, precision)
            contestants[mode, precision] = work(updater, batch, settings)
            updaters[mode, precision] = updater, batch
    rates = timing.in_turns({f"{a} {b}": run for (a, b), run in contestants.items()}, config.repeats, config.seconds)
    device = torch.device(settings.device)
    tops = {name: timing.ceiling(dtype_of(name), device) for name in config.precisions}
    operations = flops(algorithm_of(settings, "float32"), batch)
    return [
        {
            "task": task,
            "algo": config.algo,
            "learners": learners,
            "mode": mode,
            "precision": precision,
            "updates_per_second": (rate := statistics.median(rates[f"{mode} {precision}"])),
            "gflop_per_update": operations / 1e9,
            "ceiling_gflops": tops[precision] / 1e9,
            "share": rate * operations / tops[precision],
            "overhead_share": overhead(*updaters[mode, precision]) * rate,
        }
        for mode, precision in contestants
    ]


def algorithm_of(settings: TrainConfig, precision: str) -> Algorithm:
    """The algorithm at the task's sizes, with no worlds kept."""
    from dsac.algorithms import load as load_algorithm
    from dsac.collection.worlds import make_worlds

    worlds = make_worlds(settings.env, 1, 0, "unit", 1)
    algorithm = load_algorithm(settings.algo.name)(worlds.spec, settings.algo, settings.seeds)
    worlds.close()
    set_precision(algorithm.to(torch.device(settings.device)), precision)
    return algorithm


def prepared(settings: TrainConfig, mode: str, precision: str) -> tuple[Updater, Any]:
    """An updater that has run both of its variants, and a batch of its shapes."""
    algorithm = algorithm_of(settings, precision)
    batch = random_batch(algorithm)
    updater = Updater(algorithm, mode)
    for _ in range(2 * algorithm.delay):
        updater(batch)
    return updater, batch


def random_batch(algorithm: Algorithm) -> Any:
    """A batch of standard normal numbers in the shapes that the algorithm learns from."""
    from dsac.algorithms.ppo import Sample

    c, spec, generator = algorithm.config, algorithm.spec, torch.Generator().manual_seed(0)

    def draw(*widths: int) -> torch.Tensor:
        rows = c.batch_size if c.off_policy else c.minibatch_size
        return torch.randn(algorithm.learners, rows, *widths, generator=generator).to(algorithm.device)

    obs, action = draw(spec.obs_dim), draw(spec.action_dim)
    if c.off_policy:
        return Batch(obs, action, draw(), draw(spec.obs_dim), draw())
    return Sample(obs, action, draw(), draw(), draw(), draw())


def work(updater: Updater, batch: Any, settings: TrainConfig) -> Any:
    """Some updates, waited for: how many."""
    device, some = torch.device(settings.device), 2 * updater.algorithm.delay * (50 if settings.device == "cuda" else 1)

    def run() -> float:
        for _ in range(some):
            updater(batch)
        timing.wait_for(device)
        return some

    return run


def overhead(updater: Updater, batch: Any) -> float:
    """Seconds that one call takes besides its noise and its arithmetic."""
    real = updater.variants
    updater.variants = dict.fromkeys(real, lambda *inputs: {})
    calls = 2_000
    start = time.perf_counter()
    for _ in range(calls):
        updater(batch)
    total = time.perf_counter() - start
    start = time.perf_counter()
    for _ in range(calls):
        updater.draw_noise()
    updater.variants = real
    return max(0.0, (total - (time.perf_counter() - start)) / calls)


def flops(algorithm: Algorithm, batch: Any) -> float:
    """Floating-point operations in the products of one update, on average over the policy's delay."""
    from torch.utils.flop_counter import FlopCounterMode

    updater = Updater(algorithm, "eager")
    with FlopCounterMode(display=False) as counter:
        for _ in range(algorithm.delay):
            updater(batch)
    return float(counter.get_total_flops()) / algorithm.delay


def dtype_of(precision: str) -> torch.dtype:
    """The type in which products are taken."""
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def table(report: dict[str, Any]) -> str:
    """The rows for people."""
    head = (
        f"{'task':<24}{'algo':<9}{'learners':>8}  {'mode':<9}{'precision':<10}{'updates/s':>10}{'GFLOP':>8}"
        f"{'ceiling GFLOP/s':>17}{'share':>7}{'overhead':>10}"
    )
    lines = [
        f"{row['task']:<24}{row['algo']:<9}{row['learners']:>8}  {row['mode']:<9}{row['precision']:<10}"
        f"{row['updates_per_second']:>10,.1f}{row['gflop_per_update']:>8.3f}{row['ceiling_gflops']:>17,.0f}"
        f"{row['share']:>7.2f}{row['overhead_share']:>10.2%}"
        for row in report["rows"]
    ]
    return "\n".join([head, *lines])
