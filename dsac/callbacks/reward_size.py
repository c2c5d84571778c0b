"""Tells of a jump in the size of the returns, by which rewards are divided: the critics stand wrong for a while."""

from __future__ import annotations

from dsac.schema.plain_text import warn
from dsac.trainer import Trainer

JUMP = 1.5  # between two rows of curves; over a run's length the size of most tasks moves by more, but slowly
SETTLED = 50_000  # steps, the warm-up counted: before, the size is that of a few episodes and moves by itself
MOST_WARNINGS = 3


class RewardSizeWatch:
    """A callback at the cadence of the curves: a warning where the size has jumped since the row before."""

    def __init__(self) -> None:
        self.sizes: list[float] = []
        self.warnings = 0

    def __call__(self, trainer: Trainer) -> None:
        size = trainer.algorithm.reward_size()
        if size is None:
            return
        before, self.sizes = self.sizes, size.tolist()
        if trainer.warmup_env_steps + trainer.env_steps < SETTLED:
            return
        for learner, (old, new) in enumerate(zip(before, self.sizes, strict=False)):
            if not 1 / JUMP < new / old < JUMP and self.warnings < MOST_WARNINGS:
                self.warnings += 1
                warn(
                    f"the size of learner {learner}'s returns went from {old:.3g} to {new:.3g} at "
                    f"{trainer.env_steps:,} env steps: rewards of a new kind, or one that is far too large? "
                    "(train/reward_size in the curves)"
                )
