"""Whole training steps a second, where their time goes, and other libraries doing the same work in the same run.

`published` takes 20 env steps to an update in 20 worlds, as the published protocol does; `every` takes one env step in
one world to an update, which is what Stable-Baselines3 and sbx do by default and what they are compared in.
"""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from dsac.bench import timing
from dsac.config import compose, load
from dsac.errors import ConfigError
from dsac.runs import hardware
from dsac.schema.ranges import at_least, positive
from dsac.trainer import Trainer

HELP = """\
python -m dsac.bench train [tasks=Humanoid,HalfCheetah] [algo=sac] [protocols=published,every] [precisions=float32]
                           [accelerate=compile] [peers=true]
                           [device=auto] [threads=2] [seconds=0.5] [repeats=3] [--json]

Contestants take turns; figures are medians of iterations a second: one update with its env steps. collect, act, replay
and update are shares of the iteration's time. Peers (pip install '.[peers]') train SAC with the same nets, batch and
one update per env step.
"""
WARMUP_ENV_STEPS = 2_000
PROTOCOLS = {"published": (20, 0.05), "every": (1, 1.0)}
PARTS = ("collect", "act", "replay", "update")
PEERS = {"stable-baselines3": "stable_baselines3", "sbx": "sbx"}


@dataclass(frozen=True)
class Config:
    """The words of this command."""

    tasks: tuple[str, ...] = ("Humanoid", "HalfCheetah")
    algo: str = "sac"
    protocols: tuple[str, ...] = ("published", "every")
    precisions: tuple[str, ...] = ("float32",)
    accelerate: str = "auto"
    peers: bool = True
    device: str = "auto"
    threads: int | None = at_least(None, 1)
    seconds: float = positive(0.5)
    repeats: int = at_least(3, 1)


def measure(config: Config) -> dict[str, Any]:
    """The report of a run: versions, and a row for each task, protocol and contestant."""
    if unknown := set(config.protocols) - set(PROTOCOLS):
        raise ConfigError(f"protocols={','.join(sorted(unknown))}: known are {', '.join(PROTOCOLS)}")
    rows = [row for task in config.tasks for protocol in config.protocols for row in race(task, protocol, config)]
    return {"versions": timing.versions(), "rows": rows}


def race(task: str, protocol: str, config: Config) -> list[dict[str, Any]]:
    """One task under one protocol: our precisions and the peers in turns."""
    ours = {f"dsac {precision}": Loop(trainer(task, protocol, precision, config)) for precision in config.precisions}
    contestants: dict[str, Callable[[], float]] = dict(ours)
    if protocol == "every" and config.algo == "sac" and config.peers:
        contestants |= {
            name: PEER_MAKERS[name](task) for name, module in PEERS.items() if importlib.util.find_spec(module)
        }
    rates = timing.medians(timing.in_turns(contestants, config.repeats, config.seconds))
    return [
        {
            "task": task,
            "algo": config.algo,
            "protocol": protocol,
            "contestant": name,
            "iterations_per_second": rate,
            "env_steps_per_second": rate * (PROTOCOLS[protocol][0] if name in ours else 1),
            "shares": ours[name].shares() if name in ours else None,
            "times_peer": {peer: rate / rates[peer] for peer in PEERS if peer in rates and name in ours},
        }
        for name, rate in rates.items()
    ]


def trainer(task: str, protocol: str, precision: str, config: Config) -> Trainer:
    """A trainer past its warm-up and its compilation."""
    from dsac.runs.parts import build

    worlds, ratio = PROTOCOLS[protocol]
    words = [f"env={task}", f"algo={config.algo}", "experiment=paper"]  # the peers normalise nothing
    words += [f"num_envs={worlds}", f"updates_per_env_step={ratio}"]
    words += [f"device={config.device}", f"precision={precision}", f"accelerate={config.accelerate}"]
    words += [f"threads={config.threads}"] if config.threads else []
    settings, _ = hardware.resolve_hardware(load(compose(words)))
    built = build(settings)
    while built.warmup_env_steps < WARMUP_ENV_STEPS:
        built.collect_block(built.algorithm.warmup_act, learning=False)
    for _ in range(2 * built.algorithm.delay):
        built.collect_block(built.act, learning=True)
    return built


class Loop:
    """The trainer's own loop in a few iterations a call, with a clock on each of its parts."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.seconds = dict.fromkeys(("whole", *PARTS), 0.0)
        updater: Any = trainer.updater
        trainer.updater = self.clocked(updater, "update")
        collector, memory = trainer.collector, trainer.memory
        for part, name, key in (
            (collector, "collect", "collect"), (trainer, "act", "act"), (memory, "add", "replay"),
            (memory, "sample", "replay"),
        ):  # fmt: skip
            setattr(part, name, self.clocked(getattr(part, name), key))

    def clocked(self, call: Callable[..., Any], key: str) -> Any:
        """The call with its time added up under `key`."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[key] += time.perf_counter() - start

        return timed

    def __call__(self) -> float:
        start, some = time.perf_counter(), 10
        for _ in range(some):
            self.trainer.collect_block(self.trainer.act, learning=True)
        timing.wait_for(self.trainer.algorithm.device)
        self.seconds["whole"] += time.perf_counter() - start
        return some

    def shares(self) -> dict[str, float]:
        """Shares of the time: collect is without act."""
        seconds = self.seconds | {"collect": self.seconds["collect"] - self.seconds["act"]}
        return {key: value / seconds["whole"] for key, value in seconds.items() if key != "whole"}


def stable_baselines3(task: str) -> Callable[[], float]:
    """SAC of Stable-Baselines3 with our nets and batch, one update per env step."""
    from stable_baselines3 import SAC

    nets = {"net_arch": [256, 256, 256], "activation_fn": torch.nn.GELU}
    return peer(SAC, task, {"policy_kwargs": nets, "device": "cpu"})


def sbx(task: str) -> Callable[[], float]:
    """SAC of sbx (JAX) with our nets and batch, one update per env step."""
    import flax.linen
    from sbx import SAC

    gelu = functools.partial(flax.linen.gelu, approximate=False)
    return peer(SAC, task, {"policy_kwargs": {"net_arch": [256, 256, 256], "activation_fn": gelu}})


def peer(algorithm: Any, task: str, settings: dict[str, Any]) -> Callable[[], float]:
    """Training steps of another library's SAC, past its warm-up."""
    import gymnasium

    ids = sorted(name for name in gymnasium.registry if name.startswith(f"{task}-v"))
    sizes = {"batch_size": 256, "buffer_size": 100_000, "learning_starts": 300}
    model = algorithm("MlpPolicy", gymnasium.make(ids[-1]), **sizes, **settings)
    model.learn(320)

    def run() -> float:
        model.learn(20, reset_num_timesteps=False)
        return 20.0

    return run


PEER_MAKERS = {"stable-baselines3": stable_baselines3, "sbx": sbx}


def table(report: dict[str, Any]) -> str:
    """The rows for people."""
    head = f"{'task':<16}{'algo':<9}{'protocol':<11}{'contestant':<20}{'iterations/s':>13}{'env steps/s':>13}"
    head += "".join(f"{part:>9}" for part in PARTS) + "   times SB3, sbx"
    lines = []
    for row in report["rows"]:
        shares = row["shares"] or {}
        line = f"{row['task']:<16}{row['algo']:<9}{row['protocol']:<11}{row['contestant']:<20}"
        line += f"{row['iterations_per_second']:>13,.1f}{row['env_steps_per_second']:>13,.0f}"
        line += "".join(f"{shares[part]:>9.1%}" if shares else " " * 9 for part in PARTS)
        lines.append(line + "   " + ", ".join(f"{value:.2f}" for value in row["times_peer"].values()))
    return "\n".join([head, *lines])
