"""Callbacks that score the policies of a run and show what its critics predict."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dsac.callbacks.calibration import Calibration
from dsac.callbacks.logger import Logger
from dsac.evaluation import film
from dsac.evaluation.critic_predictions import predict
from dsac.evaluation.scoring import OnceEach, Stopped, score
from dsac.memory.kernels import TRANSITION, Rings
from dsac.nn.policy import Policy
from dsac.persistence.policies import better_there, task_facts, write_policy
from dsac.schema.plain_text import warn
from dsac.seeding import derived_seed
from dsac.trainer import Trainer
from envs.contract import VecEnv

HISTOGRAM_ROWS = 1024


class Evaluator:
    """Scores every learner's deterministic policy in separate environments; keeps the best in learner-<i>/best.

    The resets of an evaluation depend on run seed and env steps only, so evaluations do not change the training and a
    resumed run repeats them. An evaluation that a stop cuts short records nothing and is `owed`: the resumed run makes
    it first.

    env     environments for the scores, in the task's own action units
    films   whether each new best policy is filmed
    alive   called after every step, so that a long evaluation does not look like a run that hangs
    calibration  measures the critics beside the policies, where it is asked for
    """

    def __init__(
        self,
        run: Path,
        env: VecEnv,
        episodes: int,
        logger: Logger,
        films: bool = False,
        alive: Callable[[], None] = lambda: None,
        calibration: Calibration | None = None,
    ) -> None:
        self.run, self.env, self.episodes, self.logger, self.films = run, env, episodes, logger, films
        self.alive, self.warn, self.calibration = alive, OnceEach(), calibration
        self.best: dict[int, float] = {}
        self.unwritten: dict[int, tuple[Policy, dict[str, Any]]] = {}
        self.owed = False

    def __call__(self, trainer: Trainer) -> None:
        policies = [trainer.algorithm.policy(learner) for learner in range(trainer.algorithm.learners)]
        seeds = [derived_seed(seed, "evaluation", trainer.env_steps) for seed in trainer.algorithm.seeds]
        self.owed = True

        def should_stop(played: int, step: int) -> bool:
            self.alive()
            self.logger.show_evaluation(played, self.episodes, step)
            return trainer.stop_reason is not None

        try:
            scores = [
                score(policy, self.env, self.episodes, seed, should_stop, self.warn)
                for policy, seed in zip(policies, seeds, strict=True)
            ]
            calibrated = [self.calibrated(trainer, learner, should_stop) for learner in range(len(scores))]
        except Stopped:
            return
        self.owed = False
        trainer.scores = [result.mean for result in scores]
        for learner, result in enumerate(scores):
            values = {
                "eval/return": result.mean,
                "eval/return_std": float(result.returns.std()),
                "eval/length": float(result.lengths.mean()),
            }
            if self.episodes > 1:  # one has no interval
                values |= {"eval/return_low": result.low, "eval/return_high": result.high}
            self.logger.curves[learner].write(values | calibrated[learner], trainer)
            if result.mean > self.best.get(learner, -float("inf")):
                self.best[learner] = result.mean
                facts = {"env_steps": trainer.env_steps, "updates": trainer.updates, "score": values}
                facts["task"] = task_facts(self.env.spec)
                self.unwritten[learner] = (policies[learner], facts)
                if self.films:
                    self.write_film(learner, policies[learner], seeds[learner], trainer)
        try:
            self.write_best()
        except OSError as error:
            warn(f"the best policy is not written yet; the next save tries again: {error}")

    def calibrated(self, trainer: Trainer, learner: int, should_stop: Callable[[int, int], bool]) -> dict[str, float]:
        """How true a learner's critics are, by tag; nothing where that is not asked for."""
        if self.calibration is None:
            return {}
        stop = partial(should_stop, self.episodes)
        return self.calibration(trainer.algorithm, trainer.memory.n_step(learner), learner, trainer.env_steps, stop)

    def write_best(self) -> None:
        """Write best policies that are not on the disk yet. Raises OSError where it does not take them."""
        for learner, (policy, facts) in list(self.unwritten.items()):
            folder = self.run / f"learner-{learner}" / "best"
            if not better_there(folder, facts["score"]["eval/return"]):
                write_policy(folder, policy, facts)
            del self.unwritten[learner]

    def write_film(self, learner: int, policy: Policy, seed: int, trainer: Trainer) -> None:
        """Film a policy for its learner's curves, in the evaluation's environments: the next one resets them."""
        try:
            gif = film.gif(policy, self.env, seed)
        except Exception as error:  # a driver that fails is no reason to lose a run
            warn(f"no film at {trainer.env_steps:,} env steps: {error}")
            return
        self.logger.curves[learner].write_film(gif, film.GIF_SIZE, trainer)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far by learner, and whether an evaluation is owed."""
        return {"best": {str(learner): value for learner, value in self.best.items()}, "owed": self.owed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue with the saved scores."""
        self.best = {int(learner): value for learner, value in state["best"].items()}
        self.owed = state["owed"]


class Histograms:
    """Writes histograms of what each learner's critics predict for transitions of the replay, in the task's units.

    The transitions are drawn by a separate generator, so training is not changed. Nothing is written for algorithms
    without a replay or without critics, or while a replay holds nothing but failed steps.
    """

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def __call__(self, trainer: Trainer) -> None:
        algorithm, memory = trainer.algorithm, trainer.memory
        if memory.frames is None or algorithm.critic_network() is None:
            return
        rings = memory.frames.rings
        if not (rings.flags & TRANSITION).any(axis=(1, 2)).all():
            return
        drawn = [random_transitions(rings, learner, trainer.env_steps) for learner in range(algorithm.learners)]
        obs, action = (torch.from_numpy(np.stack(part)).to(algorithm.device) for part in zip(*drawn, strict=True))
        predicted = predict(algorithm, obs, action)
        for learner, curves in enumerate(self.logger.curves):
            values = {"critic/q": predicted.mean[learner].cpu().numpy()}
            if predicted.sigma is not None:
                values["critic/sigma"] = predicted.sigma[learner].cpu().numpy()
            curves.write_histograms(values, trainer)


def random_transitions(rings: Rings, learner: int, env_steps: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """HISTOGRAM_ROWS transitions from the rings of a Replay, with replacement: obs (rows, O), action (rows, A)."""
    envs, frames = np.nonzero(rings.flags[learner] & TRANSITION)
    chosen = np.random.default_rng(derived_seed(env_steps, "evaluation")).integers(0, len(envs), HISTOGRAM_ROWS)
    at = (learner, envs[chosen], frames[chosen])
    return rings.obs[at], rings.action[at]
