"""The periodic tasks that every run has: scoring its policies and saving its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsac import checkpoint
from dsac.data import derived_seed
from dsac.evaluation import score
from dsac.logger import Logger
from dsac.trainer import Trainer
from envs.contract import VecEnv


class Evaluator:
    """Scores every learner's deterministic policy on worlds of its own and keeps the best in learner-<i>/best.

    The resets of an evaluation follow from run seed and env steps alone, so that evaluations never disturb training
    and a resumed run repeats them.
    """

    def __init__(self, run: Path, env: VecEnv, episodes: int, logger: Logger) -> None:
        self.run, self.env, self.episodes, self.logger = run, env, episodes, logger
        self.best: dict[int, float] = {}

    def __call__(self, trainer: Trainer) -> None:
        for learner, seed in enumerate(trainer.algorithm.seeds):
            policy = trainer.algorithm.policy(learner)
            result = score(policy, self.env, self.episodes, derived_seed(seed, "evaluation", trainer.env_steps))
            values = {
                "eval/return": result.mean,
                "eval/return_low": result.low,
                "eval/return_high": result.high,
                "eval/return_std": float(result.returns.std()),
                "eval/length": float(result.lengths.mean()),
            }
            self.logger.record_score(learner, values, trainer)
            if result.mean > self.best.get(learner, -float("inf")):
                self.best[learner] = result.mean
                facts = {"env_steps": trainer.env_steps, "updates": trainer.updates, "score": values}
                write_policy(self.run / f"learner-{learner}" / "best", policy, facts)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far by learner."""
        return {str(learner): value for learner, value in self.best.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = {int(learner): value for learner, value in state.items()}


class Saver:
    """Commits the state of the whole run below <run>/checkpoints, and each learner's policy to learner-<i>/last."""

    def __init__(self, run: Path, evaluator: Evaluator, logger: Logger, keep: int, facts: dict[str, Any]) -> None:
        self.run, self.evaluator, self.logger, self.keep, self.facts = run, evaluator, logger, keep, facts

    def __call__(self, trainer: Trainer) -> None:
        for learner in range(trainer.algorithm.learners):
            facts = {"env_steps": trainer.env_steps, "updates": trainer.updates}
            write_policy(self.run / f"learner-{learner}" / "last", trainer.algorithm.policy(learner), facts)
        state = {
            "trainer": trainer.state_dict(),
            "evaluator": self.evaluator.state_dict(),
            "logger": self.logger.state_dict(trainer),
        }
        facts = {**self.facts, "updates": trainer.updates}
        checkpoint.commit(self.run / "checkpoints", trainer.env_steps, state, facts, self.keep)


def write_policy(folder: Path, policy: Any, facts: dict[str, Any]) -> None:
    """Write a policy as data: its description and its parameters."""
    checkpoint.write(folder, {"description": policy.description, "parameters": dict(policy.state_dict())}, facts)
