"""What remote collectors cost: the same work by them, on a test cluster of Ray on this machine, and in this process.

Contestants take turns. A turn begins once whatever was on its way has arrived and, untimed, as many blocks as there are
collectors were taken: blocks made while another one had its turn give nobody a head start.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dsac.bench import timing
from dsac.collection.ray_cluster import cluster_here
from dsac.config import compose, load
from dsac.errors import ConfigError
from dsac.runs import hardware
from dsac.schema.ranges import at_least, choice
from dsac.trainer import Trainer

HELP = """\
python -m dsac.bench collect [tasks=Humanoid] [algo=sac] [work=collect,train] [collectors=1,2,4] [nodes=2]
                             [block_steps=50] [threads=2] [env_steps=20000] [repeats=3] [--json]

Seconds for `env_steps` by the collector of this process and by remote ones on a test cluster of `nodes` nodes, all on
this machine. work=collect learns nothing, work=train makes the algorithm's own updates. Figures are medians over turns.
"""
REST_SECONDS = 3.0  # until what was asked of collectors has arrived
SELDOM = 1e-6  # updates per env step where nothing is to be learned


@dataclass(frozen=True)
class Config:
    """The words of this command."""

    tasks: tuple[str, ...] = ("Humanoid",)
    algo: str = choice("sac", "sac", "dsac_t", "dsac_v1", "td3", "ddpg")
    work: tuple[str, ...] = ("collect", "train")
    collectors: tuple[int, ...] = (1, 2, 4)
    nodes: int = at_least(2, 1)
    block_steps: int = at_least(50, 1)
    threads: int | None = at_least(None, 1)
    env_steps: int = at_least(20_000, 1)
    repeats: int = at_least(3, 1)


def measure(config: Config) -> dict[str, Any]:
    """The report of a run: versions, and a row for each task, kind of work and number of collectors."""
    if unknown := set(config.work) - {"collect", "train"}:
        raise ConfigError(f"work={','.join(sorted(unknown))}: known are collect, train")
    cpus = math.ceil(max(config.collectors) / config.nodes)
    with cluster_here(config.nodes, cpus) as cluster:
        rows = []
        for task, work in itertools.product(config.tasks, config.work):
            for row in race(task, work, cluster.address, config):
                rows.append(row)
                print(line(row), file=sys.stderr, flush=True)
    return {"versions": timing.versions(), "nodes": config.nodes, "rows": rows}


def race(task: str, work: str, address: str, config: Config) -> Iterator[dict[str, Any]]:
    """One task and kind of work: in this process against each number of collectors."""
    for collectors in config.collectors:
        with contextlib.ExitStack() as stack:
            contestants = {
                "local": stack.enter_context(trainer(task, work, [], config)),
                "remote": stack.enter_context(
                    trainer(task, work, ["collect=ray", f"collectors={collectors}", f"ray.address={address}"], config)
                ),
            }
            seconds: dict[str, list[float]] = {name: [] for name in contestants}
            for _ in range(config.repeats):
                for name, contestant in contestants.items():
                    seconds[name].append(turn(contestant, collectors, config))
            remote = contestants["remote"].collector
            facts = remote.take_facts()
            yield {
                "task": task,
                "algo": config.algo,
                "work": work,
                "collectors": collectors,
                "env_steps_per_second": {
                    name: config.env_steps / statistics.median(values) for name, values in seconds.items()
                },
                "overhead": statistics.median(
                    remote / local - 1 for local, remote in zip(seconds["local"], seconds["remote"], strict=True)
                ),
                "policy_lag": facts["collect/policy_lag"],
                "block_bytes": sum(field.nbytes for field in remote.block or ()),
            }


@contextlib.contextmanager
def trainer(task: str, work: str, words: list[str], config: Config) -> Iterator[Trainer]:
    """A trainer past its warm-up."""
    from dsac.runs.parts import build

    words = [
        f"env={task}",
        f"algo={config.algo}",
        "accelerate=compile",
        f"ray.block_steps={config.block_steps}",
        *words,
    ]
    words += [f"threads={config.threads}"] if config.threads else []
    words += [f"updates_per_env_step={SELDOM}"] if work == "collect" else []
    settings, _ = hardware.resolve_hardware(load(compose(words)))
    built = build(settings)
    try:
        while built.warmup_env_steps < built.algorithm.warmup_env_steps:
            built.collect_block(built.algorithm.warmup_act, learning=False)
        for _ in range(2):
            built.collect_block(built.act, learning=True)
        yield built
    finally:
        for env in built.collector.envs:
            env.close()


def turn(trainer: Trainer, collectors: int, config: Config) -> float:
    """Seconds for `env_steps`."""
    time.sleep(REST_SECONDS)
    for _ in range(collectors):
        trainer.collect_block(trainer.act, learning=True)
    begin, start = trainer.env_steps, time.perf_counter()
    while trainer.env_steps - begin < config.env_steps:
        trainer.collect_block(trainer.act, learning=True)
    return time.perf_counter() - start


def line(row: dict[str, Any]) -> str:
    """A row for people."""
    rates = row["env_steps_per_second"]
    return (
        f"{row['task']:<16}{row['algo']:<9}{row['work']:<9}{row['collectors']:>11}{rates['local']:>15,.0f}"
        f"{rates['remote']:>9,.0f}{row['overhead']:>10.1%}{row['policy_lag']:>6.1f}"
    )


def table(report: dict[str, Any]) -> str:
    """The rows for people."""
    head = ("task", "algo", "work", "collectors", "here, steps/s", "remote", "overhead", "lag")
    return "\n".join(["{:<16}{:<9}{:<9}{:>11}{:>15}{:>9}{:>10}{:>6}".format(*head), *map(line, report["rows"])])
