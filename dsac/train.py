"""Train: python -m dsac.train env=Humanoid

Composes the config, builds five things, hands them and the periodic tasks to the trainer.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac.config import ConfigError, TrainConfig, choices, compose, conf_folder, load

if TYPE_CHECKING:
    from dsac.trainer import Trainer

FINISHED, USAGE, ENVIRONMENT, STORAGE, RESOURCES, RESUMABLE = 0, 2, 3, 5, 6, 75
FREE_ON_RESUME = (
    "total_env_steps", "log_every_env_steps", "eval_every_env_steps", "checkpoint_every_env_steps", "keep_checkpoints",
    "device",
)  # fmt: skip

HELP = """\
python -m dsac.train [key=value ...]      train; Ctrl-C saves and stops
python -m dsac.train resume=<run>         continue a run in its folder
python -m dsac.evaluate run=<run>         score a policy of a run

  python -m dsac.train env=Humanoid
  python -m dsac.train env=HalfCheetah algo=sac seed=3 total_env_steps=2e6
  python -m dsac.train env=gymnasium env.id=Pendulum-v1 algo=ppo
  python -m dsac.train env=Hopper num_envs=1 updates_per_env_step=1

env    {envs}
algo   {algos}
       `algo=NAME --help` lists the algorithm's own settings

"""


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if "--help" in words or "-h" in words:
        print_help([word for word in words if "=" in word])
        return FINISHED
    try:
        run, config = prepare(words)
    except ConfigError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return USAGE
    return start(config, run)


def print_help(words: Sequence[str]) -> None:
    """The usage and every setting with its default, straight from the yaml that holds them."""
    print(HELP.format(envs=" ".join(choices("env")), algos=" ".join(choices("algo"))))
    for word in words:
        group, _, name = word.partition("=")
        if name in choices(group):
            print((conf_folder() / group / f"{name}.yaml").read_text())
    print((conf_folder() / "train.yaml").read_text())


def prepare(words: Sequence[str]) -> tuple[Path | None, TrainConfig]:
    """The config of a new run, or the folder and config of one to continue. Raises ConfigError."""
    resume = [word.partition("=")[2] for word in words if word.startswith("resume=")]
    if not resume or resume[-1] in ("", "null"):
        return None, load(compose(words))
    from dsac.runs import config_of

    run, others = Path(resume[-1]), [word for word in words if not word.startswith("resume=")]
    refused = [word for word in others if word.partition("=")[0] not in FREE_ON_RESUME]
    if refused:
        raise ConfigError(*(f"{word}: only {', '.join(FREE_ON_RESUME)} may change on resume" for word in refused))
    composed = compose(others)
    changes = {key: composed[key] for key in (word.partition("=")[0] for word in others)}
    return run, load({**config_of(run), **changes})


def start(config: TrainConfig, run: Path | None) -> int:
    """Build and train; every expected failure becomes one line and its exit code."""
    import torch

    from dsac.checkpoint import CheckpointError
    from envs.contract import EnvironmentFault, UnsuitableEnvironment

    if config.device == "cuda" and not torch.cuda.is_available():
        print("error: device=cuda, but torch sees no CUDA device here; use device=cpu", file=sys.stderr)
        return USAGE
    try:
        return train(config, run)
    except UnsuitableEnvironment as error:
        code, line = USAGE, str(error)
    except EnvironmentFault as error:
        code, line = ENVIRONMENT, str(error)
    except CheckpointError as error:
        code, line = STORAGE, str(error)
    except MemoryError as error:
        code, line = RESOURCES, str(error)
    print(f"error: {line}", file=sys.stderr)
    return code


def train(config: TrainConfig, resumed: Path | None, extra_tasks: Sequence[Any] = ()) -> int:
    """Build the five parts and their tasks, train, save. Returns 0 when finished, 75 when stopped and resumable."""
    import torch

    import envs
    from dsac import checkpoint, runs
    from dsac.accelerate import Updater
    from dsac.algorithms import load as load_algorithm
    from dsac.collector import Collector
    from dsac.data import derived_seed
    from dsac.logger import Logger
    from dsac.tasks import Evaluator, Saver
    from dsac.trainer import Trainer, every

    device = torch.device("cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu")
    threads = config.threads or len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)

    def make(num_envs: int, seed: int, action_units: str) -> Any:
        e = config.env
        return envs.make(
            e.name, num_envs, seed, e.backend, env_id=e.id, xml=e.xml, task=e.task, threads=threads,
            flatten=e.flatten, action_units=action_units, max_episode_steps=e.max_episode_steps,
        )  # fmt: skip

    worlds = [make(config.algo.num_envs, derived_seed(seed, "environment"), "unit") for seed in config.seeds]
    collector = Collector(worlds, config.seeds, device)
    algorithm = load_algorithm(config.algo.name)(collector.spec, config.algo, config.seeds).to(device)
    updater = Updater(algorithm)
    memory = algorithm.memory(config.algo.num_envs, device)

    state = manifest = None
    if resumed is not None:
        state, manifest, _ = checkpoint.newest(resumed / "checkpoints")
    run = resumed or runs.create(config)
    facts = runs.facts(config, threads, str(device))
    runs.record(run, facts)
    if manifest is None:
        print(f"run {run}  ({facts['device']}, {threads} threads, {describe(memory)})", flush=True)
    else:
        print(f"resumed {run} at {manifest['step']:,} env steps", flush=True)

    logger = Logger(
        run, config.learners, f"{config.env.id or config.env.name} {config.algo.name}", state and state["logger"]
    )
    evaluator = Evaluator(
        run, make(config.eval.episodes, derived_seed(config.seed, "evaluation"), "env"), config.eval.episodes, logger
    )
    saver = Saver(run, evaluator, logger, config.keep_checkpoints, {"versions": facts["versions"]})
    tasks = [
        logger.show,
        every(config.log_every_env_steps, logger),
        every(config.eval_every_env_steps, evaluator),
        every(config.checkpoint_every_env_steps, saver),
        *extra_tasks,
    ]
    trainer = Trainer(algorithm, updater, collector, memory, tasks, config.total_env_steps)
    if state is not None:
        trainer.load_state_dict(state["trainer"])
        evaluator.load_state_dict(state["evaluator"])
    stop_on_signals(trainer)
    try:
        trainer.run()
        if trainer.stop_reason:
            saver(trainer)
    finally:
        logger.close()
        for env in (*worlds, evaluator.env):
            env.close()
    return conclude(run, trainer, logger)


def conclude(run: Path, trainer: Trainer, logger: Any) -> int:
    """The last line: where the results are, what to type next."""
    if trainer.stop_reason:
        print(f"stopped ({trainer.stop_reason}) and saved at {trainer.env_steps:,} env steps in {run}")
        print(f"next: python -m dsac.train resume={run}")
        return RESUMABLE
    score = "none" if logger.last_score is None else f"{logger.last_score:,.1f}"
    done = f"{trainer.env_steps:,} env steps, {trainer.updates:,} updates"
    print(f"finished {done}; last evaluation {score}; results in {run}")
    print(f"next: python -m dsac.evaluate run={run}    curves: tensorboard --logdir {run}")
    return FINISHED


def describe(memory: Any) -> str:
    """The memory in a few words, where it has them."""
    return str(memory.describe()) if hasattr(memory, "describe") else type(memory).__name__.lower()


def stop_on_signals(trainer: Trainer) -> None:
    """Ctrl-C, SIGTERM and SIGHUP save and stop after the present block; a second one ends the process at once."""

    def handle(number: int, _frame: Any) -> None:
        if trainer.stop_reason:
            os._exit(128 + number)
        trainer.stop(signal.Signals(number).name)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, handle)


if __name__ == "__main__":
    raise SystemExit(main())
