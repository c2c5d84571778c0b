"""A session of a run: everything around the training itself, opened in order and closed the other way round."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from dsac.callbacks.calibration import Calibration
from dsac.callbacks.checkpointer import Checkpointer
from dsac.callbacks.divergence import DivergenceCheck
from dsac.callbacks.evaluator import Evaluator, Histograms
from dsac.callbacks.logger import Logger
from dsac.callbacks.on_new_best import ExportOnNewBest, check_settings
from dsac.callbacks.reward_size import RewardSizeWatch
from dsac.callbacks.watchdog import Watchdog
from dsac.cli.exit_codes import FINISHED, INTERRUPTED, RESUMABLE, code_of
from dsac.cli.progress import ProgressBar
from dsac.cli.signals import Stopping
from dsac.config import remark, to_tree
from dsac.evaluation import film
from dsac.persistence import checkpoint
from dsac.persistence.lock import RunLock
from dsac.persistence.replay_segments import Archive, Log
from dsac.runs import folder, hardware, record, saved_state
from dsac.runs.fine_tuning import take_weights
from dsac.runs.full_disk import full_disk_explained
from dsac.runs.outcome import Outcome, outcome_of_finished, print_outcome
from dsac.runs.parts import build, scoring_envs
from dsac.runs.resume import learned_otherwise
from dsac.runs.saved_state import SavedState
from dsac.schema import files
from dsac.schema.plain_text import on_screen, warn
from dsac.schema.run_config import TrainConfig
from dsac.trainer import Callback, Trainer, every
from envs.contract import VecEnv


class Session:
    """A new run, or one that goes on, ready to be trained: `with session: session.trainer.run(); session.finish()`.

    Entering it builds the trainer, restores what was saved, opens the run folder and adds the callbacks. Leaving it
    closes all that was opened, also when entering fails half-way, and records how the session ended.

    config   the settings, with device, threads and accelerate decided
    resumed  the folder of the run that goes on; None for a new one
    run      the run folder, once entered
    trainer  once entered: in the state to go on from, with its callbacks and then the user's
    """

    run: Path
    trainer: Trainer
    evaluator: Evaluator
    checkpointer: Checkpointer

    def __init__(
        self,
        config: TrainConfig,
        resumed: Path | None,
        callbacks: Sequence[Callback] = (),
        bar: ProgressBar | None = None,
        stopping: Stopping | None = None,
    ) -> None:
        """Raises ConfigError where this machine lacks what the config asks for."""
        self.config, self.remarks = hardware.resolve_hardware(config)
        self.resumed, self.callbacks = resumed, callbacks
        self.bar, self.stopping = bar or ProgressBar(config.algo.name), stopping or Stopping()
        self.opened = ExitStack()

    def already_finished(self) -> Outcome | None:
        """The outcome of a resumed run that has nothing left to do, after a line that says so; else None."""
        return outcome_of_finished(self.resumed, self.config.total_env_steps) if self.resumed else None

    def __enter__(self) -> Self:
        """Raises CrashLoop, Locked, CheckpointError, ConfigError, OSError, and what an environment raises."""
        with self.opened:  # closes what is open where one of these fails
            saved = self.load()
            envs_for_scores = self.build()
            task = envs_for_scores.spec.id
            facts = record.facts(self.config, task, torch.get_num_threads(), saved.env_steps, saved.step)
            self.restore(saved, facts)
            self.stopping.attend(self.trainer)
            watchdog = self.open_run(saved, facts)
            self.add_callbacks(saved, facts, envs_for_scores, watchdog)
            self.opened = self.opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self.opened.__exit__(kind, error, trace)

    def finish(self) -> None:
        """Save the end of the training. Raises OSError where the disk does not take it."""
        self.checkpointer.finish(self.trainer)

    def print_outcome(self) -> Outcome:
        """Print where the results are and what to type next; the outcome."""
        return print_outcome(self.run, self.config, self.trainer, self.exit_code)

    @property
    def exit_code(self) -> int:
        """0 finished, 75 stopped with steps or an evaluation left to do."""
        return RESUMABLE if self.trainer.stop_reason and not self.complete else FINISHED

    @property
    def complete(self) -> bool:
        """Whether all steps are taken and the last evaluation is made."""
        return self.trainer.finished and not self.evaluator.owed

    def load(self) -> SavedState:
        """Lock the run that goes on and read its newest checkpoint."""
        config, run = self.config, self.resumed
        self.opened.enter_context(full_disk_explained(run or Path(config.runs)))
        if run is None:
            return SavedState()
        files.refuse_linked_folders(run)
        self.opened.enter_context(closing(RunLock(run)))
        saved = saved_state.load(run, config.learners)
        assert saved.step is not None
        record.refuse_crash_loop(run, saved.step, config.resumes_without_progress)
        return saved

    def build(self) -> VecEnv:
        """Build the trainer; the environments for scores."""
        config = self.config
        for line in filter(None, [remark(config), *self.remarks]):
            warn(line)
        self.trainer = build(config)
        for env in self.trainer.collector.envs:
            self.opened.callback(env.close)
        envs_for_scores = scoring_envs(config)
        self.opened.callback(envs_for_scores.close)
        if config.eval.video:
            film.check(envs_for_scores)
        check_settings(config, envs_for_scores.spec)
        self.calibration = Calibration(config, self.trainer.algorithm) if config.eval.calibration else None
        return envs_for_scores

    def restore(self, saved: SavedState, facts: dict[str, Any]) -> None:
        """Give the trainer its saved state, or the weights of the run that a new one starts from."""
        if saved.state is not None:
            saved_state.restore(self.trainer, saved.state["trainer"])
        elif self.config.init_from:
            facts["init_from"] = take_weights(self.trainer.algorithm, Path(self.config.init_from))

    def open_run(self, saved: SavedState, facts: Mapping[str, Any]) -> Watchdog:
        """Open the run folder, add an entry to run.json, print the first line on the screen; the watchdog."""
        self.run = run = self.resumed or folder.create(self.config)
        if self.resumed is None:
            self.opened.enter_context(closing(RunLock(run)))
        earlier = record.read(run)
        folder.save_config(run, self.config)
        record.begin(run, facts)
        self.opened.enter_context(self.end_recorded())
        watchdog = self.opened.enter_context(closing(Watchdog(run / "stacks.log", self.config.stall_seconds)))
        self.stopping.last_words = watchdog.write
        where = f"resumed {run} at {saved.env_steps:,} env steps" if self.resumed else f"run {run}"
        machine, memory = hardware.describe(self.config), self.trainer.memory.describe()
        print(on_screen(f"{where}  ({machine}, {memory})"), flush=True)
        if self.resumed:
            reasons = [f"{key} was changed" for key in learned_otherwise(saved.config, self.config)]
            exact_envs = all(env.exact_state for env in self.trainer.collector.envs)
            reasons += record.inexactness(earlier[-1] if earlier else {}, facts, exact_envs)
            level = "bit for bit the run that was never stopped"
            print(on_screen(f"not {level}: {'; '.join(reasons)}") if reasons else f"from here on {level}", flush=True)
        return watchdog

    @contextlib.contextmanager
    def end_recorded(self) -> Iterator[None]:
        """Within this block the session goes on; then run.json says how it ended, if the disk takes it."""
        code: int | None = None
        try:
            yield
            code = self.exit_code
        except BaseException as error:
            code = code_of(error) if isinstance(error, Exception) else INTERRUPTED
            raise
        finally:
            with contextlib.suppress(OSError):
                record.end(self.run, code, self.trainer.env_steps)

    def add_callbacks(
        self, saved: SavedState, facts: Mapping[str, Any], envs_for_scores: VecEnv, watchdog: Watchdog
    ) -> None:
        """Make the callbacks, restore them and give them to the trainer; save a run that is new or was changed."""
        run, config, trainer = self.run, self.config, self.trainer
        logger = Logger(run, config, facts, self.bar, None if saved.state is None else saved.state["logger"])
        self.opened.callback(logger.close)
        self.evaluator = Evaluator(
            run, envs_for_scores, config.eval.episodes, logger, config.eval.video, watchdog, self.calibration
        )
        if saved.state is not None:
            self.evaluator.load_state_dict(saved.state["evaluator"])
        exports = ExportOnNewBest(run, config)
        self.opened.callback(lambda: exports.close(self.complete))
        archive = self.open_archive(saved)
        manifest = {"versions": facts["versions"], "architecture": facts["architecture"], "config": to_tree(config)}
        divergence_check = DivergenceCheck(run, trainer, manifest)
        self.opened.push(divergence_check.leave)
        trainer.inspect = divergence_check.after_update
        self.checkpointer = Checkpointer(
            run, self.evaluator, logger, divergence_check, config.keep_checkpoints, manifest, archive, saved.step
        )
        trainer.callbacks += [
            watchdog,
            divergence_check,
            logger.show,
            self.checkpointer.after_block,
            every(config.log_every_env_steps, divergence_check.look_at_learners),
            every(config.log_every_env_steps, logger),
            every(config.log_every_env_steps, RewardSizeWatch()),
            every(config.eval_every_env_steps, self.evaluator),
            every(config.eval_every_env_steps, Histograms(logger)),
            every(config.checkpoint_every_env_steps, self.checkpointer),
            every(config.eval_every_env_steps, exports),
            *self.callbacks,
        ]
        if saved.config != manifest["config"]:
            self.checkpointer.begin(trainer)  # shows at once that the disk takes it, and keeps what was declared
        if self.evaluator.owed:
            self.evaluator(trainer)

    def open_archive(self, saved: SavedState) -> Archive | None:
        """The writer of the frames of a replay; None for a memory without."""
        frames = self.trainer.memory.frames
        if frames is None:
            return None
        found = saved.state["trainer"]["memory"]["frames"] if saved.state else None
        segments = self.run / "checkpoints" / checkpoint.SEGMENTS
        return self.opened.enter_context(closing(Archive(segments, frames, found if isinstance(found, Log) else None)))
