"""The loop, and nothing algorithmic: collect a block, remember it, learn from it, attend to the callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from dsac.algorithms.base import Algorithm, Metrics
from dsac.cli.signals import BLOCK_SECONDS, LONG_SECONDS
from dsac.collection.contract import Act, AnyCollector
from dsac.memory.contract import Memory
from dsac.updater import StatisticsUpdater, Updater, accelerated

Callback = Callable[["Trainer"], None]


class Trainer:
    """The hub: every call returns here.

    env_steps         steps taken in the envs of one learner since the warm-up
    warmup_env_steps  steps of one learner before learning, outside the budget
    updates           gradient steps so far
    wall_time         seconds of training over all sessions of the run
    metrics           those of the latest update, (S,) tensors still on the device
    overlap           learn from the blocks before while the envs step (CUDA)
    scores            the latest evaluation's mean return of each learner; empty before the first
    inspect           called with each batch once it was learned from
    patience          seconds within which it moves if it does not hang, for a stop that waits
    """

    def __init__(
        self,
        algorithm: Algorithm,
        updater: Updater,
        collector: AnyCollector,
        memory: Memory,
        callbacks: Sequence[Callback],
        total_env_steps: int,
        overlap: bool = False,
    ) -> None:
        self.algorithm, self.updater, self.collector, self.memory = algorithm, updater, collector, memory
        self.act: Act = accelerated(algorithm, algorithm.act, updater.mode)
        self.update_statistics = StatisticsUpdater(algorithm, updater.mode)
        self.callbacks, self.total_env_steps, self.overlap = list(callbacks), total_env_steps, overlap
        self.env_steps = self.previous_env_steps = self.warmup_env_steps = 0
        self.earlier_wall_time, self.started = 0.0, time.monotonic()
        self.metrics: Metrics = {}
        self.scores: list[float] = []
        self.stop_reason: str | None = None
        self.inspect: Callable[[Any], None] = lambda batch: None
        self.patience = LONG_SECONDS

    def run(self) -> None:
        """Train until the budget is spent or someone calls `stop`; the callbacks run after every block."""
        self.started = time.monotonic()
        try:
            while self.warmup_env_steps < self.algorithm.warmup_env_steps and not self.stop_reason:
                self.collect_block(self.algorithm.warmup_act, learning=False)
            while not self.finished and not self.stop_reason:
                self.algorithm.set_progress(self.env_steps / self.total_env_steps)
                self.collect_block(self.act, learning=True)
        finally:
            self.patience = LONG_SECONDS

    def collect_block(self, act: Act, learning: bool) -> None:
        """One block through every part: env -> block -> process -> memory -> updates -> statistics -> callbacks.

        With `overlap` the updates that are due for the block before are launched while the envs take this one, whose
        actions were chosen first: the policy acts one block late, and in what order things happen is still certain.
        """
        algorithm, began = self.algorithm, time.monotonic()
        overlap = learning and self.overlap
        block = self.collector.collect(act, algorithm.horizon, meanwhile=self.learn if overlap else None)
        self.memory.add(algorithm.process(block), counts=learning)
        if learning and not overlap:
            self.learn()
        self.update_statistics(block)
        self.previous_env_steps = self.env_steps
        steps = block.reward[:, 0].size
        if learning:
            self.env_steps += steps
        else:
            self.warmup_env_steps += steps
        took, self.patience = time.monotonic() - began, LONG_SECONDS
        for callback in self.callbacks:
            callback(self)
        self.patience = max(BLOCK_SECONDS, 3 * took)  # the next block may well take as long as this one

    def learn(self) -> None:
        """The updates that are due."""
        for batch in self.memory.batches():
            self.metrics |= self.updater(batch)
            self.inspect(batch)

    def stop(self, reason: str) -> None:
        """End the run after this block."""
        self.stop_reason = reason

    def signs(self) -> tuple[Any, ...]:
        """What shows that it moves, also within a long block: one of these becomes another object."""
        return self.patience, self.collector.block, self.updates

    @property
    def finished(self) -> bool:
        """True once the budget is spent."""
        return self.env_steps >= self.total_env_steps

    @property
    def updates(self) -> int:
        return self.updater.count

    @property
    def wall_time(self) -> float:
        return self.earlier_wall_time + time.monotonic() - self.started

    def crossed(self, every_env_steps: int) -> bool:
        """Whether this block passed a multiple of `every_env_steps`, or spent the budget."""
        passed = self.env_steps // every_env_steps > self.previous_env_steps // every_env_steps
        return passed or (self.finished and self.env_steps > self.previous_env_steps)


def every(env_steps: int, action: Callback) -> Callback:
    """`action` as a periodic callback: whenever a multiple of `env_steps` was passed, and at the end."""

    def callback(trainer: Trainer) -> None:
        if trainer.crossed(env_steps):
            action(trainer)

    return callback
