"""A session, from opening a run (new or resumed) to the last lines: what train.py needs around the training itself."""

from __future__ import annotations

import contextlib
import errno
import shlex
import shutil
from collections.abc import Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dsac.callbacks.divergence import DivergenceCheck
from dsac.callbacks.watchdog import Watchdog
from dsac.cli.exit_codes import FINISHED, INTERRUPTED, RESUMABLE, code_of
from dsac.config import to_tree
from dsac.errors import CheckpointError
from dsac.persistence import checkpoint
from dsac.persistence.lock import RunLock
from dsac.persistence.replay_segments import Archive, Log
from dsac.runs import folder, hardware, record
from dsac.runs.resume import learned_otherwise
from dsac.schema import files
from dsac.schema.importing import modules_named
from dsac.schema.plain_data import array_misfit, misfit
from dsac.schema.plain_text import on_screen, warn
from dsac.schema.run_config import TrainConfig
from dsac.schema.validate import command
from dsac.trainer import Trainer
from envs.contract import EnvironmentFault


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


def finished(run: Path, config: TrainConfig) -> Outcome | None:
    """What a run came to that has nothing left to do, None where it has."""
    try:
        _, manifest = checkpoint.read(checkpoint.committed(run / "checkpoints")[-1])
    except (CheckpointError, IndexError):
        return None  # the reasons come when it is read
    if misfit(manifest, {"env_steps": int, "updates": int, "scores": [float], "evaluation_owed": bool}):
        return None  # of a release that did not say all of it, or not whole
    if manifest["env_steps"] < config.total_env_steps or manifest["evaluation_owed"]:
        return None
    print(f"{run} is finished: {manifest['env_steps']:,} env steps; a larger total_env_steps continues it")
    return Outcome(run, manifest["env_steps"], manifest["updates"], tuple(manifest["scores"]), FINISHED)


def load_checkpoint(
    run: Path | None, config: TrainConfig, stack: ExitStack
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The state that a run continues from and its manifest, the run locked; no state, and an empty manifest, for None.

    Damaged checkpoints are named and passed over. Raises CrashLoop, Locked, CheckpointError, OSError.
    """
    stack.push(lambda kind, error, trace: explain_full_disk(run or Path(config.runs), error))
    if run is None:
        return None, {"env_steps": 0, "step": None, "config": None}
    files.refuse_linked_folders(run)
    stack.enter_context(closing(RunLock(run)))
    state, manifest, reasons = checkpoint.newest(run / "checkpoints", checkpoint.RUN)
    counts = {len(state["logger"]["curves"]), len(state["trainer"]["collector"]["finished"])}
    best = state["evaluator"]["best"].keys()
    if counts != {config.learners} or best - {str(learner) for learner in range(config.learners)}:
        raise CheckpointError(f"{run}: its newest checkpoint is not one of {config.learners} learners")
    for reason in reasons:
        warn(f"a damaged checkpoint was moved aside: {reason}")
    record.refuse_crash_loop(run, manifest["step"], config.resumes_without_progress)
    return state, {"config": None} | manifest


def explain_full_disk(place: Path, error: BaseException | None) -> bool:
    """Say of a full disk, beside the file that met it, what is safe and what to do; lets an error pass.

    `place` is a run, or where a new one would have been. Raises OSError.
    """
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        saved = checkpoint.committed(place / "checkpoints")
        step = int(saved[-1].name.removeprefix(checkpoint.PREFIX)) if saved else 0
        safe = f"step {step:,} is safe, resume={place} goes on from it" if saved else "nothing is saved yet"
        advice = "make room" if saved else "make room or set runs= to another disk"
        raise OSError(f"{error}; {free_megabytes(place)} MB are free: {advice}; {safe}") from error
    return False


def free_megabytes(place: Path) -> str:
    """Room on the disk of a path that may not be there yet."""
    there = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    return f"{shutil.disk_usage(there).free / 1e6:,.0f}"


def open_run(
    config: TrainConfig,
    resumed: Path | None,
    facts: dict[str, Any],
    before: Mapping[str, Any] | None,
    trainer: Trainer,
    stack: ExitStack,
) -> tuple[Path, Watchdog]:
    """The folder of the run with this session on record, and who watches over it; a line says where and what it is.

    before: the settings that a resumed run was saved with.
    """
    run = resumed or folder.create(config)
    if resumed is None:
        stack.enter_context(closing(RunLock(run)))
    earlier = record.read(run)
    folder.save_config(run, config)
    record.record(run, facts)
    stack.push(lambda kind, error, trace: record_end(run, trainer, error))
    watchdog = stack.enter_context(closing(Watchdog(run / "stacks.log", config.stall_seconds)))
    where = f"run {run}" if resumed is None else f"resumed {run} at {facts['at_env_steps']:,} env steps"
    print(on_screen(f"{where}  ({hardware.describe(config)}, {describe(trainer.memory)})"), flush=True)
    if resumed:
        exact = all(env.exact_state for env in trainer.collector.envs)
        reasons = [f"{key} was changed" for key in learned_otherwise(before or {}, config)]
        reasons += record.inexactness(earlier[-1] if earlier else {}, facts, exact)
        level = "bit for bit the run that was never stopped"
        print(on_screen(f"not {level}: {'; '.join(reasons)}") if reasons else f"from here on {level}", flush=True)
    return run, watchdog


def record_end(run: Path, trainer: Trainer, error: BaseException | None) -> bool:
    """Put down how the session ended, if the disk takes it; lets an error pass."""
    code: int | None = RESUMABLE if trainer.stop_reason and not trainer.finished else FINISHED
    if error is not None:
        code = code_of(error) if isinstance(error, Exception) else INTERRUPTED
    with contextlib.suppress(OSError):
        record.record_end(run, code, trainer.env_steps)
    return False


def archive_of(run: Path, memory: Any, state: Mapping[str, Any] | None, stack: ExitStack) -> Archive | None:
    """Where the frames of a replay go on disk; None for a memory that has none."""
    if not hasattr(memory, "frames"):
        return None
    frames = state["trainer"]["memory"]["frames"] if state else None
    archive = Archive(
        run / "checkpoints" / checkpoint.SEGMENTS, memory.frames, frames if isinstance(frames, Log) else None
    )
    stack.callback(archive.close)
    return archive


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put the parts back where they stood. Raises CheckpointError where one does not fit its place."""
    if wrong := array_misfit(state["algorithm"], trainer.algorithm.state_dict()):
        raise CheckpointError(f"the algorithm in the checkpoint does not fit the settings of its run: {wrong}")
    try:
        trainer.load_state_dict(state)
    except (EnvironmentFault, CheckpointError):
        raise
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise CheckpointError(f"the checkpoint does not fit the settings of its run: {reason}") from error


def divergence_check(run: Path, trainer: Trainer, facts: dict[str, Any], stack: ExitStack) -> DivergenceCheck:
    """A divergence over what the trainer learns and collects."""
    divergence = DivergenceCheck(run, trainer, facts)
    stack.push(divergence.leave)
    trainer.inspect = divergence.after_update
    return divergence


def print_summary(run: Path, config: TrainConfig, trainer: Trainer, owed: bool) -> Outcome:
    """The last lines: where the results are, what to type next."""
    tree = to_tree(config)
    outcome = partial(Outcome, run, trainer.env_steps, trainer.updates, tuple(trainer.scores))
    if trainer.stop_reason and (owed or not trainer.finished):
        words = [f"{key}={value}" for key, value in modules_named(tree).items()]
        print(f"stopped ({trainer.stop_reason}) and saved at {trainer.env_steps:,} env steps in {run}")
        print(f"next: {command('train', [f'resume={run}', *words])}")
        return outcome(RESUMABLE)
    words = [f"{key}={value}" for key, value in modules_named(tree, uses=("env",)).items()]
    done = f"{trainer.env_steps:,} env steps, {trainer.updates:,} updates"
    last = f"{trainer.scores[0]:,.1f}" if trainer.scores else "none"
    print(f"finished {done}; last evaluation {last}; results in {run}")
    score, curves = command("evaluate", [f"run={run}", *words]), shlex.join(["tensorboard", "--logdir", str(run)])
    print(f"next: {score}    curves: {curves}")
    return outcome(FINISHED)


def describe(memory: Any) -> str:
    """The memory in a few words, where it has them."""
    return str(memory.describe()) if hasattr(memory, "describe") else type(memory).__name__.lower()
