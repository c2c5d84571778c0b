"""Train: python -m dsac.train env=Humanoid, or dsac.train(env="Humanoid") from Python.

Composes the config, builds five things, hands them and the callbacks to the trainer.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dsac.cli.callable_module import make_callable
from dsac.cli.exit_codes import FINISHED, with_exit_code
from dsac.cli.progress import ProgressBar
from dsac.cli.signals import Stopping, stopping_on_signals
from dsac.config import choices, conf_folder, known_choice, load, refuse_shadowed_envs, remark, to_tree
from dsac.errors import ConfigError
from dsac.runs.parts import build
from dsac.runs.resume import newest_like, requested
from dsac.schema.plain_text import on_screen, warn
from dsac.schema.run_config import TrainConfig
from dsac.schema.validate import as_word

if TYPE_CHECKING:
    from dsac.runs.session import Outcome
    from dsac.trainer import Callback

HELP = """\
python -m dsac.train [key=value ...]      train; Ctrl-C saves and stops
python -m dsac.train resume=<run>         continue a run in its folder
python -m dsac.train resume=auto ...      continue the newest run with these settings, or begin one
python -m dsac.train init_from=<run> ...  a new run from the weights of another
python -m dsac.train --cfg job ...        show the settings that the words come to, without training
python -m dsac.evaluate run=<run>         score a policy of a run
python -m dsac.export run=<run>           write a policy for a robot's controller

  python -m dsac.train env=Humanoid
  python -m dsac.train env=HalfCheetah algo=sac seed=3 total_env_steps=2e6
  python -m dsac.train env=gymnasium env.id=Pendulum-v1 algo=ppo
  python -m dsac.train env=Hopper num_envs=1 updates_per_env_step=1

env    {envs}
algo   {algos}
       `algo=NAME --help` lists the algorithm's own settings
       experiment=NAME  settings by name: {experiments}
exit   0 finished, 2 usage, 3 environment, 4 numerical, 5 storage, 6 resources, 75 stopped and resumable

"""


_alone = threading.Lock()


def train(*, callbacks: Sequence[Callback] = (), **settings: Any) -> Outcome:
    """Train with the keys of the command line: train(env="Hopper", algo="sac", **{"algo.gamma": 0.98}).

    `callbacks` are called with the Trainer after every block, after its own; dsac.trainer.every makes one periodic.
    Raises ConfigError with all that is wrong, before a file is made.
    """
    refuse_shadowed_envs()
    return start([as_word(key, value) for key, value in settings.items()], callbacks)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if "--help" in words or "-h" in words:
        print_help(words)
        return FINISHED
    shown = [word for word in words if word.partition("=")[0] in ("--cfg", "-c")]
    return with_exit_code(lambda: show_settings(words) if shown else start(words).exit_code)


def show_settings(words: Sequence[str]) -> int:
    """Print the settings that the words come to, and do no more; returns the exit code."""
    asked = [word for index, word in enumerate(words) if not of_cfg(words, index)]
    problems: list[str] = []
    request = requested(asked, problems)
    print(yaml.safe_dump(to_tree(load(request.tree, problems)), sort_keys=False), end="")
    return FINISHED


def of_cfg(words: Sequence[str], index: int) -> bool:
    """Whether a word is --cfg, or its value as a word of its own: job, all."""
    flags = ("--cfg", "-c")
    value = index > 0 and words[index - 1] in flags and "=" not in words[index]
    return value or words[index].partition("=")[0] in flags


def print_help(words: Sequence[str]) -> None:
    """The usage and every setting with its default, straight from the yaml that holds them."""
    print(
        HELP.format(
            envs=" ".join(choices("env")), algos=" ".join(choices("algo")), experiments=" ".join(choices("experiment"))
        )
    )
    for word in words:
        group, _, name = word.partition("=")
        if known_choice(group, name) in choices(group):
            print((conf_folder() / group / f"{known_choice(group, name)}.yaml").read_text())
    print((conf_folder() / "train.yaml").read_text())


def start(words: Sequence[str], callbacks: Sequence[Callback] = ()) -> Outcome:
    """Check the words, show that something happens, train."""
    if not _alone.acquire(blocking=False):
        raise ConfigError(
            "another training is under way in this process, and torch's threads, the signals and the compilers are the "
            "process's: begin this one when that has ended, or in a process of its own (python -m dsac.sweep runs many)"
        )
    try:
        return started(words, callbacks)
    finally:
        _alone.release()


def started(words: Sequence[str], callbacks: Sequence[Callback]) -> Outcome:
    """The only training of this process."""
    problems: list[str] = []
    request = requested(words, problems)
    title = f"{request.tree['env'].get('id') or request.tree['env'].get('name')} {request.tree['algo'].get('name')}"
    with stopping_on_signals() as stopping, ProgressBar(title) as bar:  # while torch is being imported
        config, run = load(request.tree, problems), request.run
        if request.auto:
            run = run_for(config, request.named)
        return run_session(config, run, callbacks, bar, stopping)


def run_for(config: TrainConfig, named: Mapping[str, str]) -> Path | None:
    """For resume=auto: the newest run with these settings, None for a new one; either way a line says so."""
    from dsac.runs.folder import folder_of

    run = newest_like(config, folder_of(config), named)
    print(on_screen(f"resume=auto: {run or 'no run with these settings yet, a new one begins'}"), flush=True)
    return run


def run_session(  # noqa: PLR0915  its imports are late
    config: TrainConfig,
    resumed: Path | None,
    callbacks: Sequence[Callback] = (),
    bar: ProgressBar | None = None,
    stopping: Stopping | None = None,
) -> Outcome:
    """Build the five parts and their callbacks, train, save."""
    import torch

    from dsac.callbacks.checkpointer import Checkpointer
    from dsac.callbacks.evaluator import Evaluator, Histograms
    from dsac.callbacks.logger import Logger
    from dsac.callbacks.reward_size import RewardSizeWatch
    from dsac.collection.worlds import make_worlds
    from dsac.evaluation import film, scoring
    from dsac.export.on_new_best import ExportOnNewBest, check_settings
    from dsac.runs import hardware, record, session
    from dsac.runs.fine_tuning import take_weights
    from dsac.seeding import derived_seed
    from dsac.trainer import every

    config, remarks = hardware.resolve_hardware(config)
    if resumed and (outcome := session.finished(resumed, config)):
        return outcome
    with ExitStack() as stack:
        state, manifest = session.load_checkpoint(resumed, config, stack)
        for line in filter(None, [remark(config), *remarks]):
            warn(line)
        trainer = build(config)
        scoring_worlds = make_worlds(
            config.env,
            scoring.worlds(config.eval.episodes),
            derived_seed(config.seed, "evaluation"),
            "env",
            config.threads,
        )
        for env in (*trainer.collector.envs, scoring_worlds):
            stack.callback(env.close)
        if config.eval.video:
            film.check(scoring_worlds)
        check_settings(config, scoring_worlds.spec)
        facts = record.facts(config, torch.get_num_threads(), manifest["env_steps"], manifest["step"])
        if state is not None:
            session.restore(trainer, state["trainer"])
        elif config.init_from:
            facts["init_from"] = take_weights(trainer.algorithm, Path(config.init_from))
        stopping = stopping or Stopping()
        stopping.attend(trainer)
        run, watchdog = session.open_run(config, resumed, facts, manifest["config"], trainer, stack)
        stopping.last_words = watchdog.write
        logger = Logger(run, config, facts, bar or ProgressBar(config.algo.name), state and state["logger"])
        stack.callback(logger.close)
        evaluator = Evaluator(run, scoring_worlds, config.eval.episodes, logger, config.eval.video, watchdog)
        if state is not None:
            evaluator.load_state_dict(state["evaluator"])
        exports = ExportOnNewBest(run, config)
        stack.callback(lambda: exports.close(trainer.finished and not evaluator.owed))
        archive = session.archive_of(run, trainer.memory, state, stack)
        kept = {"versions": facts["versions"], "architecture": facts["architecture"], "config": to_tree(config)}
        divergence = session.divergence_check(run, trainer, kept, stack)
        checkpointer = Checkpointer(
            run, evaluator, logger, divergence, config.keep_checkpoints, kept, archive, manifest["step"]
        )
        trainer.callbacks += [
            watchdog,
            divergence,
            logger.show,
            checkpointer.after_block,
            every(config.log_every_env_steps, divergence.look_at_learners),
            every(config.log_every_env_steps, logger),
            every(config.log_every_env_steps, RewardSizeWatch()),
            every(config.eval_every_env_steps, evaluator),
            every(config.eval_every_env_steps, Histograms(logger)),
            every(config.checkpoint_every_env_steps, checkpointer),
            every(config.eval_every_env_steps, exports),
            *callbacks,
        ]
        if manifest["config"] != kept["config"]:
            checkpointer.begin(trainer)  # a new run shows at once that it can be saved, a changed one what was declared
        if evaluator.owed:
            evaluator(trainer)
        trainer.run()
        checkpointer.finish(trainer)
    return session.print_summary(run, config, trainer, evaluator.owed)


make_callable(__name__, train)

if __name__ == "__main__":
    raise SystemExit(main())
