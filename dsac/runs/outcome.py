"""How a session of a run ended: the value that train() returns, and the last lines on the screen."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from dsac.cli.exit_codes import FINISHED
from dsac.config import to_tree
from dsac.errors import CheckpointError
from dsac.persistence import checkpoint
from dsac.schema.importing import modules_named
from dsac.schema.plain_data import misfit
from dsac.schema.run_config import TrainConfig
from dsac.schema.validate import command
from dsac.trainer import Trainer


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    run                 the run folder
    env_steps, updates  steps and gradient steps of one learner, over all sessions
    scores              the latest evaluation's mean return of each learner; empty before the first
    exit_code           0 finished, 75 stopped and resumable
    """

    run: Path
    env_steps: int
    updates: int
    scores: tuple[float, ...]
    exit_code: int


def outcome_of_finished(run: Path, total_env_steps: int) -> Outcome | None:
    """The outcome of a run that has nothing left to do, after a line that says so; None where it has."""
    try:
        _, manifest = checkpoint.read(checkpoint.committed(run / "checkpoints")[-1])
    except (CheckpointError, IndexError):
        return None  # whoever reads the checkpoint next says why
    if misfit(manifest, {"env_steps": int, "updates": int, "scores": [float], "evaluation_owed": bool}):
        return None  # written by a release that did not save all of these, or damaged
    if manifest["env_steps"] < total_env_steps or manifest["evaluation_owed"]:
        return None
    print(f"{run} is finished: {manifest['env_steps']:,} env steps; a larger total_env_steps continues it")
    return Outcome(run, manifest["env_steps"], manifest["updates"], tuple(manifest["scores"]), FINISHED)


def print_outcome(run: Path, config: TrainConfig, trainer: Trainer, exit_code: int) -> Outcome:
    """Print where the results are and what to type next; the outcome."""
    tree = to_tree(config)
    if exit_code == FINISHED:
        modules = [f"{key}={value}" for key, value in modules_named(tree, uses=("env",)).items()]
        score = f"{trainer.scores[0]:,.1f}" if trainer.scores else "none"
        print(
            f"finished {trainer.env_steps:,} env steps, {trainer.updates:,} updates; "
            f"last evaluation {score}; results in {run}"
        )
        evaluate = command("evaluate", [f"run={run}", *modules])
        print(f"next: {evaluate}    curves: {shlex.join(['tensorboard', '--logdir', str(run)])}")
    else:
        modules = [f"{key}={value}" for key, value in modules_named(tree).items()]
        print(f"stopped ({trainer.stop_reason}) and saved at {trainer.env_steps:,} env steps in {run}")
        print(f"next: {command('train', [f'resume={run}', *modules])}")
    return Outcome(run, trainer.env_steps, trainer.updates, tuple(trainer.scores), exit_code)
