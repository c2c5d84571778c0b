"""Stops what may not go on: numbers that are not finite, and environments whose simulation failed.

Each leaves a snapshot: a folder <run>/snapshots/<step>-<kind>, written as a checkpoint is. It holds a state of
the environments before the block, every action since, the block, the learner and the batch that it learned from.
Stepping the environments again from there repeats the failure, bit for bit where their state is exact. So does the
update, from the learner, the batch and the noise.
"""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dsac.errors import CheckpointError, NumericalFault
from dsac.persistence import checkpoint
from dsac.schema.plain_text import warn
from dsac.trainer import Trainer
from envs.contract import EnvironmentFault

MOST_SNAPSHOTS = 3  # of one kind and session: a policy that breaks the simulator does so in thousands of steps
MOST_INVALID_STEPS = 1_000  # of every world in a row: what comes back after so many is another experiment
DIVERGED, INVALID, FAULT = "diverged", "invalid-step", "fault"


class DivergenceCheck:
    """Looks at every update and every block of a run, and ends it where no learner is left to learn.

    `after_update` is the trainer's `inspect`, the check itself one of its callbacks, `leave` belongs on the exit stack.
    """

    def __init__(self, run: Path, trainer: Trainer, facts: dict[str, Any]) -> None:
        self.run, self.trainer, self.facts = run, trainer, facts
        self.on_host = trainer.algorithm.device.type == "cpu"  # elsewhere a look at each update would wait for it
        self.known = trainer.algorithm.frozen.tolist()
        self.failed_steps = trainer.collector.invalid_steps.copy()
        self.in_a_row = np.zeros_like(self.failed_steps)  # steps of each learner in which all its worlds failed
        self.warned = False
        self.batch: Any = None
        self.snapshots: dict[str, int] = {}

    def after_update(self, batch: Any) -> None:
        """A batch was learned from. Raises NumericalFault once every learner is out of training."""
        self.batch = batch
        if self.on_host:
            self.look_at_learners()

    def __call__(self, trainer: Trainer) -> None:
        """After every block: note steps of worlds that failed. Raises EnvironmentFault where no other are left."""
        collector = trainer.collector
        if (collector.invalid_steps == self.failed_steps).all():
            self.in_a_row[:] = 0
            return
        self.failed_steps = collector.invalid_steps.copy()
        self.write(INVALID, "a world failed, its step was left out of the replay")
        if not self.warned:
            self.warned = True
            warn(
                f"{collector.failure}; such steps are not learned from, the curves count them as collect/invalid_steps"
            )
        self.look_for_valid_steps(trainer)

    def look_for_valid_steps(self, trainer: Trainer) -> None:
        """Raise EnvironmentFault where a learner has nothing to learn from, or no more."""
        collector, warmup = trainer.collector, trainer.algorithm.warmup_env_steps
        assert collector.block is not None
        all_failed = collector.block.invalid.all(axis=(0, 2))
        self.in_a_row = np.where(all_failed, self.in_a_row + len(collector.block.invalid), 0)
        steps = trainer.warmup_env_steps + trainer.env_steps
        warm = 0 < warmup <= trainer.warmup_env_steps or trainer.finished
        for learner, (failed, in_a_row) in enumerate(zip(self.failed_steps, self.in_a_row, strict=True)):
            if (warm and failed >= steps) or in_a_row >= MOST_INVALID_STEPS:
                found = f"all {steps:,} env steps" if failed >= steps else f"the last {in_a_row:,} steps of every world"
                raise EnvironmentFault(
                    f"{found} of learner {learner} were invalid, there is nothing to learn from; the first: "
                    f"{collector.failure}; repair the environment, then run again"
                )

    def look_at_learners(self, _trainer: Any = None) -> None:
        """Tell of learners that were taken out of training. Raises NumericalFault once none is left."""
        frozen = self.trainer.algorithm.frozen.tolist()
        if frozen == self.known:
            return
        new = [str(index) for index, (now, before) in enumerate(zip(frozen, self.known, strict=True)) if now > before]
        self.known = frozen
        reason = f"update {self.trainer.updates:,}: a loss or gradient of learner {', '.join(new)} is not finite"
        place = self.write(DIVERGED, reason)
        if all(frozen):
            raise NumericalFault(
                f"{reason}, and no learner is left; nothing of it was saved. {location(place)}"
                f"{shlex.quote(f'resume={self.run}')} with other settings "
                f"(say a smaller {self.learning_rate()}, and allow_change=true) goes "
                "on from the last checkpoint; with the same ones it comes here again"
            )
        warn(f"{reason}; it learns no more, the others go on. {location(place)}")

    def learning_rate(self) -> str:
        """The key of the algorithm's first learning rate."""
        names = (field.name for field in dataclasses.fields(self.trainer.algorithm.config))
        return next((f"algo.{name}" for name in names if name.endswith("learning_rate")), "learning rate")

    def check_learners(self) -> None:
        """Raise NumericalFault where something that would be saved is not finite."""
        self.look_at_learners()
        for name, tensor in self.trainer.algorithm.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                reason = f"update {self.trainer.updates:,}: {name} is not finite"
                raise NumericalFault(f"{reason}; it was not saved. {location(self.write(DIVERGED, reason))}")

    def leave(self, _kind: Any, error: BaseException | None, _trace: Any) -> bool:
        """Keep the snapshot in which a world failed or an action was not finite; lets the error pass."""
        if isinstance(error, EnvironmentFault):
            print(location(self.write(FAULT, str(error))), file=sys.stderr)
        return False

    def write(self, kind: str, reason: str) -> Path | None:
        """Write a snapshot; None where there are enough of its kind, or the disk does not take it."""
        self.snapshots[kind] = self.snapshots.get(kind, 0) + 1
        if self.snapshots[kind] > MOST_SNAPSHOTS:
            return None
        trainer, collector = self.trainer, self.trainer.collector
        state = {
            "recordings": [recording._asdict() for recording in collector.recordings()],
            "block": {} if collector.block is None else collector.block._asdict(),
            "algorithm": dict(trainer.algorithm.state_dict()),
            "batch": {} if self.batch is None else self.batch._asdict(),
            "noise": dict(trainer.updater.noise),
        }
        step = trainer.warmup_env_steps + trainer.env_steps
        facts = {**self.facts, "reason": reason, "step": step, "updates": trainer.updates, "seeds": collector.seeds}
        folder = self.run / "snapshots" / f"{step:012d}-{kind}-{self.snapshots[kind]}"
        try:
            return checkpoint.write(folder, state, facts)
        except (OSError, CheckpointError) as error:
            warn(f"{folder} could not be written: {error}")
            return None


def location(place: Path | None) -> str:
    """Where a snapshot lies, in words."""
    return "" if place is None else f"What led to it is in {place}. "
