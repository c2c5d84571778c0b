"""Collectors in other processes, here or on a Ray cluster, behind the contract of the one that is in this process.

Off-policy, each steps `num_envs` worlds of its own and sends whole blocks; whichever is there first is learned from, so
the learner waits for none in particular. On-policy, the worlds are dealt out among all of them, which act with the
newest policy and are all waited for.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dsac.algorithms.base import Algorithm
from dsac.collection.contract import Act, Recording, loaded_episodes, saved_episodes
from dsac.collection.ray_cluster import connect
from dsac.collection.remote_worker import CollectorHost, Report, acting_state
from dsac.collection.worlds import make_worlds
from dsac.config import to_tree
from dsac.data import Episode, Transition
from dsac.schema.plain_text import warn
from dsac.schema.run_config import TrainConfig
from envs.contract import EnvironmentFault, EnvSpec

FAILURES_IN_A_ROW = 3
WAIT_SECONDS = 1.0
START_SECONDS = 300.0  # until the first block: a place in the cluster, imports, compiled kernels
BLOCKS_HELD = 4  # of each collector: one on its way, one that is learned from, and room


@dataclass
class Slot:
    """The place of one collector: who holds it, what was asked of it, and how it fares.

    generation  how many held it before
    failures    without a block in between
    running     (S, N) discounted returns of the running episodes; None: new ones begin
    """

    index: int
    host: Any
    generation: int = 0
    running: Tensor | None = None
    request: Any = None
    asked_at: float = 0.0
    answered: bool = False
    failures: int = 0


class RemoteCollector:
    """Takes blocks from `collectors` remote ones. `set_algorithm` says whose policy acts, before the first block.

    Versions of the policy are counted by calls of `collect`: its lag is how many calls lie between the one that sent it
    out and the one that returns its block. A collector that dies, hangs or is cut off is replaced, whoever holds it
    next plays other episodes, and what it had on its way is lost. A block is whole or absent.

    losses, dropped_env_steps  collectors lost, and env steps of one learner that came too late, over all sessions
    block                      the newest block
    failed                     what repeats it, of the collectors in which a world failed in it
    """

    exact_state = False

    def __init__(self, config: TrainConfig) -> None:
        # Blocks lie in shared memory, which torch may read like any other.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        self.config, self.synchronous = config, not config.algo.off_policy
        self.num_envs = config.algo.num_envs
        sample = make_worlds(config.env, 1, 0, "unit", 1)
        self.spec = sample.spec
        sample.close()
        self.envs = [self]
        self.finished: list[list[Episode]] = [[] for _ in config.seeds]
        self.invalid_steps = np.zeros(config.learners, np.int64)
        self.failure = ""
        self.version = self.losses = self.dropped_env_steps = 0
        self.lags: list[int] = []
        self.algorithm: Algorithm | None = None
        self.seeds = config.seeds
        self.failed: list[Recording] = []
        self.block: Transition | None = None
        self.newest: Slot | None = None
        self.ray, self.started = connect(
            config.ray.address, config.collectors * config.ray.cpus, object_bytes(config, self.spec)
        )
        self.host = self.ray.remote(CollectorHost).options(num_cpus=config.ray.cpus, scheduling_strategy="SPREAD")
        self.slots = [Slot(index, self.start(index)) for index in range(config.collectors)]

    def start(self, index: int) -> Any:
        """A collector for a place, wherever Ray finds room."""
        worlds = self.num_envs // self.config.collectors if self.synchronous else self.num_envs
        return self.host.remote(to_tree(self.config), str(Path.cwd()), index, self.config.collectors, worlds)

    def set_algorithm(self, algorithm: Algorithm) -> None:
        """Send out this algorithm's policy from now on."""
        self.algorithm = algorithm

    def collect(self, act: Act, steps: int, meanwhile: Callable[[], None] | None = None) -> Transition:
        """A block (T, S, N, ...): T is `steps` on-policy, otherwise at least ray.block_steps. `act` is the algorithm's.

        Off-policy its arrays are in shared memory and cannot be written. Raises EnvironmentFault when every collector
        failed several times in a row.
        """
        self.send_out()
        assert self.algorithm is not None
        name = "warmup_act" if act == self.algorithm.warmup_act else "act"
        if self.synchronous:
            self.block = self.collect_from_all(name, steps)
            return self.block
        steps = max(steps, self.config.ray.block_steps)
        for slot in self.slots:
            if slot.request is None:
                self.ask(slot, name, steps)
        while True:
            slot = self.next_answer()
            answer = self.answer(slot)
            self.ask(slot, name, steps)
            if answer is None:
                continue
            block, report = answer
            lag = self.version - report.version
            if lag > self.config.ray.max_lag:
                self.dropped_env_steps += steps * self.num_envs
                continue
            self.lags.append(lag)
            self.failed = []
            self.note(report)
            self.continue_returns(slot)
            self.block = block
            return block

    def collect_from_all(self, act: str, steps: int) -> Transition:
        """The parts of all collectors side by side, every step by the newest policy."""
        parts: list[Transition | None] = [None] * len(self.slots)
        self.failed = []
        for slot in self.slots:
            self.ask(slot, act, steps)
        while any(slot.request is not None for slot in self.slots):
            slot = self.next_answer()
            answer = self.answer(slot)
            if answer is None:
                self.ask(slot, act, steps)
            else:
                parts[slot.index], report = answer
                self.note(report)
        self.lags.append(0)
        return Transition(*(np.concatenate(fields, axis=2) for fields in zip(*filter(None, parts), strict=True)))

    def send_out(self) -> None:
        """Put the policy as it is now where every collector can read it."""
        assert self.algorithm is not None
        self.version += 1
        acting = acting_state(self.algorithm)
        self.weights = self.ray.put({name: tensor.detach().cpu().numpy() for name, tensor in acting.items()})

    def ask(self, slot: Slot, act: str, steps: int) -> None:
        """Ask a collector for its next block by the newest policy."""
        slot.asked_at = time.monotonic()
        slot.request = slot.host.collect.remote(act, steps, slot.generation, self.version, self.weights)

    def next_answer(self) -> Slot:
        """The collector whose answer is to be read next: of those there, the one that was asked first."""
        while True:
            asked = {slot.request: slot for slot in self.slots if slot.request is not None}
            requests = list(asked)
            ready, _ = self.ray.wait(requests, num_returns=len(requests), timeout=0)
            if not ready:
                ready, _ = self.ray.wait(requests, num_returns=1, timeout=WAIT_SECONDS)
            for slot in (asked[request] for request in requests if request not in ready):
                silent_seconds = self.config.ray.silent_seconds if slot.answered else START_SECONDS
                if time.monotonic() - slot.asked_at > silent_seconds:  # also where others answer all the time
                    self.lose(slot, f"silent for {silent_seconds:g} s")
                    return slot
            if ready:
                return min((asked[request] for request in ready), key=lambda slot: slot.asked_at)

    def answer(self, slot: Slot) -> tuple[Transition, Report] | None:
        """A collector's block and report, or None where it was lost with them."""
        if slot.request is None:
            return None
        request, slot.request = slot.request, None
        try:
            block, report = self.ray.get(request, timeout=self.config.ray.silent_seconds)
        except self.ray.exceptions.RayError as error:
            self.lose(slot, reason(error))
            return None
        slot.answered, slot.failures = True, 0
        return block, report

    def lose(self, slot: Slot, why: str) -> None:
        """Count a collector that is gone, make sure that it is, and let another take its place.

        Raises EnvironmentFault when all, or on-policy one, failed several times in a row.
        """
        self.losses += 1
        slot.failures += 1
        slot.generation += 1
        slot.request, slot.answered = None, False
        self.forget_returns(slot)
        self.ray.kill(slot.host)
        slot.host = self.start(slot.index)
        warn(f"collector {slot.index} was lost: {why}")
        failing = [other for other in self.slots if other.failures >= FAILURES_IN_A_ROW]
        if len(failing) == len(self.slots) or (self.synchronous and failing):
            raise EnvironmentFault(
                f"{len(failing)} of {len(self.slots)} collectors failed {FAILURES_IN_A_ROW} times in a row: {why}"
            )

    def note(self, report: Report) -> None:
        """Keep what happened in a block that is learned from."""
        self.invalid_steps += report.invalid_steps
        self.failure = self.failure or report.failure
        self.failed += report.recordings
        for finished, episodes in zip(self.finished, report.episodes, strict=True):
            finished.extend(episodes)

    def continue_returns(self, slot: Slot) -> None:
        """Set the normaliser's running returns to those of the worlds whose block comes next."""
        assert self.algorithm is not None
        if (returns := self.algorithm.returns) is None:
            return
        if self.newest is not None:
            self.newest.running = returns.running.clone()
        returns.running.copy_(torch.zeros_like(returns.running) if slot.running is None else slot.running)
        self.newest = slot

    def forget_returns(self, slot: Slot) -> None:
        """The episodes of a collector that is gone do not go on in those of its successor."""
        slot.running = None
        if self.newest is slot:
            self.newest = None
        returns = None if self.algorithm is None else self.algorithm.returns
        if returns is not None and self.synchronous:
            worlds = self.num_envs // len(self.slots)
            returns.running[:, slot.index * worlds : (slot.index + 1) * worlds] = 0

    def recordings(self) -> list[Recording]:
        """What repeats the newest block, of the collectors in which a world failed in it."""
        return self.failed

    def take_finished(self, learner: int) -> list[Episode]:
        """The episodes of a learner that ended since the last call, in blocks that were learned from."""
        episodes, self.finished[learner] = self.finished[learner], []
        return episodes

    def take_facts(self) -> dict[str, float]:
        """The lag of the policies that acted since the last call, in blocks, and the losses so far."""
        lags, self.lags = self.lags, []
        lag = {"collect/policy_lag": float(np.mean(lags)), "collect/policy_lag_max": float(max(lags))} if lags else {}
        return lag | {"collect/collectors_lost": self.losses, "collect/env_steps_dropped": self.dropped_env_steps}

    def state_dict(self) -> dict[str, Any]:
        """The counts, and episodes not logged yet. Worlds are elsewhere and begin new episodes after a resume."""
        return {
            "finished": saved_episodes(self.finished),
            "invalid_steps": self.invalid_steps,
            "version": self.version,
            "losses": self.losses,
            "dropped_env_steps": self.dropped_env_steps,
            "generation": max(slot.generation for slot in self.slots),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the counts, with episodes that no collector of this run has played."""
        self.finished = loaded_episodes(state["finished"])
        self.invalid_steps[...] = state["invalid_steps"]
        self.version, self.losses = state["version"], state["losses"]
        self.dropped_env_steps = state["dropped_env_steps"]
        for slot in self.slots:
            slot.generation = state["generation"] + 1

    def close(self) -> None:
        """Let the collectors go, and Ray where this run started it."""
        for slot in self.slots:
            self.ray.kill(slot.host)
        if self.started:
            self.ray.shutdown()


def reason(error: Exception) -> str:
    """What went wrong in a collector, in one line: its own error, or how Ray lost it."""
    cause = getattr(error, "cause", None)
    return f"{type(cause).__name__}: {cause}" if cause else str(error).strip().partition("\n")[0]


def block_bytes(config: TrainConfig, spec: EnvSpec) -> int:
    """The size of a block of one collector; on-policy, of all of them."""
    steps = max(config.ray.block_steps, config.algo.steps_per_block())
    row = 4 * (2 * spec.obs_dim + spec.action_dim + 1) + 3
    return int(steps * config.learners * config.algo.num_envs * row)


def object_bytes(config: TrainConfig, spec: EnvSpec) -> int:
    """What a Ray of this run's own must hold: blocks of all collectors, and 100 MB for policies."""
    return int(100e6 + BLOCKS_HELD * config.collectors * block_bytes(config, spec))
