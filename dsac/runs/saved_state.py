"""The saved state that a session goes on from: read from the newest checkpoint and put back into a trainer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsac.callbacks import training_state
from dsac.errors import CheckpointError
from dsac.persistence import checkpoint
from dsac.schema.plain_data import array_misfit
from dsac.schema.plain_text import warn
from dsac.trainer import Trainer
from envs.contract import EnvironmentFault


@dataclass(frozen=True)
class SavedState:
    """What the newest checkpoint of a run holds; the defaults are those of a new run, which has none.

    state      the state of trainer, evaluator and logger
    config     the settings that it was saved with, as a tree
    env_steps  steps of one learner, the warm-up not counted
    step       the same, the warm-up counted
    """

    state: Mapping[str, Any] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    env_steps: int = 0
    step: int | None = None


def load(run: Path, learners: int) -> SavedState:
    """The newest checkpoint of a run that is whole; damaged ones are moved aside with a warning.

    Raises CheckpointError where there is none, or where it is not one of so many learners; OSError.
    """
    state, manifest, reasons = checkpoint.newest(run / "checkpoints", checkpoint.RUN)
    counts = {len(state["logger"]["curves"]), len(state["trainer"]["collector"]["finished"])}
    best = state["evaluator"]["best"].keys()
    if counts != {learners} or best - {str(learner) for learner in range(learners)}:
        raise CheckpointError(f"{run}: its newest checkpoint is not one of {learners} learners")
    for reason in reasons:
        warn(f"a damaged checkpoint was moved aside: {reason}")
    return SavedState(state, manifest["config"], manifest["env_steps"], manifest["step"])


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put the state of a trainer back. Raises CheckpointError where a part of it does not fit."""
    if wrong := array_misfit(state["algorithm"], trainer.algorithm.state_dict()):
        raise CheckpointError(f"the algorithm in the checkpoint does not fit the settings of its run: {wrong}")
    try:
        training_state.restore(trainer, state)
    except (EnvironmentFault, CheckpointError):
        raise
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"the checkpoint does not fit the settings of its run: {reason}") from error
