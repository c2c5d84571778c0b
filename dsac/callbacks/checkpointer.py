"""Saving: the state of a run as a checkpoint, now and then and at the end; a full disk costs a save, not the run."""

from __future__ import annotations

import errno
import math
import shutil
import time
from pathlib import Path
from typing import Any

from dsac.callbacks import training_state
from dsac.callbacks.divergence import DivergenceCheck
from dsac.callbacks.evaluator import Evaluator
from dsac.callbacks.logger import Logger
from dsac.cli.signals import LONG_SECONDS
from dsac.persistence import checkpoint
from dsac.persistence.policies import task_facts, write_policy
from dsac.persistence.replay_segments import Archive
from dsac.schema import files
from dsac.schema.plain_text import warn
from dsac.trainer import Trainer

RETRY_SECONDS = 60.0
LAST_TRIES = 10
# What a disk says that may take the same save later: room is made, a network comes back, a busy file is let go.
PASSING = {
    errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ENOMEM,
    errno.ENFILE, errno.EMFILE, errno.ENOLCK, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH,
    errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN, errno.ECONNRESET, errno.ECONNREFUSED,
}  # fmt: skip


class Checkpointer:
    """Commits the state of the whole run below <run>/checkpoints, and each learner's policy to learner-<i>/last.

    Stands after the evaluator in the trainer's callbacks, so that a checkpoint holds the scores of its own step.
    divergence: asked whether all is finite. facts: what every manifest says, config and versions.
    archive: where the frames of a replay go, if it has any.
    saved_at: the step of the newest checkpoint, the warm-up counted; None before the first.
    """

    def __init__(
        self,
        run: Path,
        evaluator: Evaluator,
        logger: Logger,
        divergence: DivergenceCheck,
        keep: int,
        facts: dict[str, Any],
        archive: Archive | None,
        saved_at: int | None = None,
    ) -> None:
        self.run, self.evaluator, self.logger, self.divergence = run, evaluator, logger, divergence
        self.keep, self.facts, self.archive, self.saved_at = keep, facts, archive, saved_at
        self.done: tuple[int, bool] | None = None  # what was saved last since the run was started or resumed
        self.try_again_at: float | None = None

    def __call__(self, trainer: Trainer) -> None:
        """Save what has changed since the last save; where the disk does not take it now, warn and try again later.

        Raises OSError for what no time mends, such as a folder where a file belongs, or no right to write.
        """
        if self.done == (step_of(trainer), self.evaluator.owed):
            return
        try:
            self.save(trainer)
            self.try_again_at = None
        except OSError as error:
            files.refuse_gone(self.run)
            if error.errno not in PASSING:
                raise OSError(f"{self.failure(trainer, error)}; resume from there") from error
            self.try_again_at = time.monotonic() + RETRY_SECONDS
            warn(f"{self.failure(trainer, error)}; trying again")

    def after_block(self, trainer: Trainer) -> None:
        """After every block: let the archive have what settled, and make up for a save that failed.

        Raises FileError where the run folder is gone.
        """
        files.refuse_gone(self.run)
        if self.archive:
            self.archive.write_full_segments()
        if self.try_again_at is not None and time.monotonic() >= self.try_again_at:
            self(trainer)

    def finish(self, trainer: Trainer) -> None:
        """The last save: tried for some minutes, unless the run was told to stop. Raises OSError when it fails."""
        for _ in range(LAST_TRIES):
            if trainer.stop_reason:
                break
            self(trainer)
            while self.try_again_at is not None and time.monotonic() < self.try_again_at and not trainer.stop_reason:
                time.sleep(0.1)
            if self.try_again_at is None:
                return
        try:
            if self.done != (step_of(trainer), self.evaluator.owed):
                self.save(trainer)
        except OSError as error:
            files.refuse_gone(self.run)
            raise OSError(f"{self.failure(trainer, error)}; resume from there") from error

    def save(self, trainer: Trainer) -> None:
        """Commit. Raises OSError where the disk does not take it, NumericalFault where a number is not finite."""
        trainer.patience = math.inf  # however slow the disk is: what a stop waits for is this
        try:
            self.commit(trainer)
        finally:
            trainer.patience = LONG_SECONDS

    def commit(self, trainer: Trainer) -> None:
        """A save, in its order: the policies before the checkpoint that counts on them."""
        self.divergence.check_learners()
        facts = {"env_steps": trainer.env_steps, "updates": trainer.updates, "scores": trainer.scores}
        self.evaluator.write_best()
        policy_facts = {**facts, "task": task_facts(self.evaluator.env.spec)}
        for learner in range(trainer.algorithm.learners):
            write_policy(self.run / f"learner-{learner}" / "last", trainer.algorithm.policy(learner), policy_facts)
        state = {
            "trainer": training_state.state_of(trainer),
            "evaluator": self.evaluator.state_dict(),
            "logger": self.logger.state_dict(trainer),
        }
        if self.archive:
            state["trainer"]["memory"]["frames"] = self.archive.commit()
        step, owed = step_of(trainer), self.evaluator.owed
        checkpoint.save_step(
            self.run / "checkpoints", step, state, {**self.facts, **facts, "evaluation_owed": owed}, self.keep
        )
        self.saved_at, self.done = step, (step, owed)

    def begin(self, trainer: Trainer) -> None:
        """The save before the first step of a session. Raises OSError where this or what will follow finds no room."""
        if self.saved_at is None:
            self.refuse_small_disk(trainer)
        self.save(trainer)

    def refuse_small_disk(self, trainer: Trainer) -> None:
        """Raise OSError where the disk cannot hold what this run will come to: checkpoints, policies and the replay."""
        state = sum(tensor.nbytes for tensor in trainer.algorithm.state_dict().values())
        steps = trainer.algorithm.warmup_env_steps + trainer.total_env_steps
        replay = self.archive.bytes_after(steps) if self.archive else 0
        needed, free = (self.keep + 3) * state + replay, shutil.disk_usage(self.run).free
        if needed > free:
            raise OSError(
                f"{self.run}: the run will need about {needed / 1e6:,.0f} MB, {free / 1e6:,.0f} MB are free: "
                "make room, set runs= to another disk, or lower algo.replay_capacity or keep_checkpoints",
            )

    def failure(self, trainer: Trainer, error: OSError) -> str:
        """What happened, what a save takes, what there is, and what one can rely on."""
        tensors = [*trainer.algorithm.state_dict().values()]
        needed = sum(tensor.nbytes for tensor in tensors) + (self.archive.unsaved_bytes() if self.archive else 0)
        free = shutil.disk_usage(self.run).free
        safe = "nothing is saved yet" if self.saved_at is None else f"step {self.saved_at:,} is safe"
        return (
            f"not saved at step {step_of(trainer):,}: {error}; a save takes about {needed / 1e6:,.0f} MB, "
            f"{free / 1e6:,.0f} MB are free; {safe}"
        )


def step_of(trainer: Trainer) -> int:
    """The steps that name a checkpoint: those of one learner, the warm-up counted."""
    return trainer.warmup_env_steps + trainer.env_steps
