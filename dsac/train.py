"""Train: python -m dsac.train env=Humanoid, or dsac.train(env="Humanoid") from Python.

Composes the config, builds five things, hands them and the periodic tasks to the trainer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsac.callable_module import make_callable
from dsac.config import (
    ConfigError,
    TrainConfig,
    choices,
    compose,
    conf_folder,
    known_choice,
    load,
    modules_named,
    refuse_shadowed_envs,
    remark,
    saved,
    source_problems,
    to_tree,
)
from dsac.exit_codes import FINISHED, RESUMABLE, guarded
from dsac.progress import ProgressBar
from dsac.strict import as_word

if TYPE_CHECKING:
    from dsac.remote_collector import RemoteCollector
    from dsac.trainer import Task, Trainer
    from envs.contract import VecEnv

FREE_ON_RESUME = (
    "total_env_steps", "log_every_env_steps", "eval_every_env_steps", "checkpoint_every_env_steps", "keep_checkpoints",
    "device",
)  # fmt: skip

HELP = """\
python -m dsac.train [key=value ...]      train; Ctrl-C saves and stops
python -m dsac.train resume=<run>         continue a run in its folder
python -m dsac.train init_from=<run> ...  a new run from the weights of another
python -m dsac.evaluate run=<run>         score a policy of a run

  python -m dsac.train env=Humanoid
  python -m dsac.train env=HalfCheetah algo=sac seed=3 total_env_steps=2e6
  python -m dsac.train env=gymnasium env.id=Pendulum-v1 algo=ppo
  python -m dsac.train env=Hopper num_envs=1 updates_per_env_step=1

env    {envs}
algo   {algos}
       `algo=NAME --help` lists the algorithm's own settings
       experiment=NAME  settings by name: {experiments}
exit   0 finished, 2 usage, 3 environment, 5 storage, 6 resources, 75 stopped and resumable

"""


@dataclass(frozen=True)
class Outcome:
    """How a sitting ended.

    run                 the run folder
    env_steps, updates  steps and gradient steps of one learner, over all sittings
    scores              the latest evaluation's mean return of each learner; empty before the first
    exit_code           0 finished, 75 stopped and resumable
    """

    run: Path
    env_steps: int
    updates: int
    scores: tuple[float, ...]
    exit_code: int


def train(*, tasks: Sequence[Task] = (), **settings: Any) -> Outcome:
    """Train with the keys of the command line: train(env="Hopper", algo="sac", **{"algo.gamma": 0.98}).

    `tasks` are called with the Trainer after every block, last of all tasks; dsac.trainer.every makes one periodic.
    Raises ConfigError with all that is wrong, before a file is made.
    """
    refuse_shadowed_envs()
    return start([as_word(key, value) for key, value in settings.items()], tasks)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if "--help" in words or "-h" in words:
        print_help(words)
        return FINISHED
    return guarded(lambda: start(words).exit_code)


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


def start(words: Sequence[str], tasks: Sequence[Task] = ()) -> Outcome:
    """Check the words, show that something happens, train."""
    problems: list[str] = []
    run, tree = prepare(words, problems)
    title = f"{tree['env'].get('id') or tree['env'].get('name')} {tree['algo'].get('name')}"
    with ProgressBar(title) as bar:  # while torch is being imported
        config = load(tree, problems)
        return run_sitting(config, run, tasks, bar)


def prepare(words: Sequence[str], problems: list[str]) -> tuple[Path | None, dict[str, Any]]:
    """The tree of a new run, or the folder and the tree of one to continue; what is wrong is noted in `problems`.

    Raises ConfigError when there is no run to continue.
    """
    given = {key: value for key, _, value in (word.partition("=") for word in words)}
    resume = given.pop("resume", "")
    others = [word for word in words if not word.startswith("resume=")]
    if resume in ("", "null"):
        tree = compose(others, problems)
        problems += source_problems(tree)
        return None, tree
    run = Path(resume)
    tree = saved(run, given)
    same = {
        "algo": tree["algo"].get("name"),
        "env": tree["env"].get("name"),
        "env.id": tree["env"].get("id"),
        "env.task": tree["env"].get("task"),
    }
    for word in others:
        key, _, value = word.partition("=")
        if key not in FREE_ON_RESUME and same.get(key) != value:
            problems.append(f"{word}: only {', '.join(FREE_ON_RESUME)} may change on resume")
    free = [key for key in given if key in FREE_ON_RESUME]
    changed = compose([word for word in others if word.partition("=")[0] in free], problems)
    return run, tree | {key: changed[key] for key in free}


def run_sitting(
    config: TrainConfig, resumed: Path | None, tasks: Sequence[Task] = (), bar: ProgressBar | None = None
) -> Outcome:
    """Build the five parts and their tasks, train, save."""
    import torch

    from dsac import evaluation, film, machine, runs
    from dsac.data import derived_seed
    from dsac.initial_weights import take_weights
    from dsac.logger import Logger
    from dsac.signals import stopping_on_signals
    from dsac.tasks import Evaluator, Saver
    from dsac.trainer import every

    config, remarks = machine.chosen(config)
    state, env_steps = (None, 0) if resumed is None else latest(resumed)
    if resumed and state and env_steps >= config.total_env_steps and not state["evaluator"]["owed"]:
        print(f"{resumed} is finished: {env_steps:,} env steps; a larger total_env_steps continues it")
        done = state["trainer"]
        return Outcome(resumed, env_steps, done["updater"]["count"], tuple(done.get("scores", ())), FINISHED)
    for line in filter(None, [remark(config), *remarks]):
        print(f"warning: {line}", file=sys.stderr)
    trainer = build(config)
    scoring_worlds = runs.make_worlds(
        config.env,
        evaluation.worlds(config.eval.episodes),
        derived_seed(config.seed, "evaluation"),
        "env",
        config.threads,
    )

    facts = runs.facts(config, torch.get_num_threads(), env_steps)
    if config.eval.video:
        film.check(scoring_worlds)
    if state:
        restore(trainer, state["trainer"])
    elif config.init_from:
        facts["init_from"] = take_weights(trainer.algorithm, Path(config.init_from))
    run = resumed or runs.create(config)
    runs.save_config(run, config)
    runs.record(run, facts)
    where = f"run {run}" if resumed is None else f"resumed {run} at {env_steps:,} env steps"
    print(f"{where}  ({machine.describe(config)}, {describe(trainer.memory)})", flush=True)

    logger = Logger(run, config.learners, bar or ProgressBar(config.algo.name), state and state["logger"])
    evaluator = Evaluator(run, scoring_worlds, config.eval.episodes, logger, config.eval.video)
    saver = Saver(run, evaluator, logger, config.keep_checkpoints, {"versions": facts["versions"]})
    trainer.tasks += [
        logger.show,
        every(config.log_every_env_steps, logger),
        every(config.eval_every_env_steps, evaluator),
        every(config.checkpoint_every_env_steps, saver),
        *tasks,
    ]
    if state:
        evaluator.load_state_dict(state["evaluator"])
        del state  # its large arrays are mapped from the checkpoint
    try:
        with stopping_on_signals(trainer):
            if evaluator.owed:
                evaluator(trainer)
            trainer.run()
            saver(trainer)
    finally:
        logger.close()
        for env in (*trainer.collector.envs, scoring_worlds):
            env.close()
    code = conclude(run, config, trainer, evaluator.owed)
    return Outcome(run, trainer.env_steps, trainer.updates, tuple(trainer.scores), code)


def build(config: TrainConfig) -> Trainer:
    """The five parts, without tasks: the worlds in their collector, the algorithm, its updater, its memory, the hub."""
    import torch

    from dsac import machine
    from dsac.accelerate import Updater
    from dsac.algorithms import load as load_algorithm
    from dsac.collector import Collector
    from dsac.trainer import Trainer

    machine.set_up(config)
    device = torch.device(config.device)
    remote = remote_collector(config)
    collector = remote or Collector(own_worlds(config), config.seeds, device)
    algorithm = load_algorithm(config.algo.name)(collector.spec, config.algo, config.seeds).to(device)
    if remote:
        remote.follow(algorithm)
    memory = algorithm.memory(config.algo.num_envs, device)
    algorithm.set_precision(config.precision)
    updater = Updater(algorithm, config.accelerate)
    return Trainer(algorithm, updater, collector, memory, [], config.total_env_steps, config.overlap)


def remote_collector(config: TrainConfig) -> RemoteCollector | None:
    """The collectors in other processes, where the config asks for them. Raises ConfigError where Ray is missing."""
    if config.collect == "local":
        return None
    from dsac.remote_collector import RemoteCollector

    return RemoteCollector(config)


def own_worlds(config: TrainConfig) -> list[VecEnv]:
    """The training worlds of every learner, in this process."""
    from dsac.data import derived_seed
    from dsac.runs import make_worlds

    seeds = [derived_seed(seed, "environment") for seed in config.seeds]
    return [make_worlds(config.env, config.algo.num_envs, seed, "unit", config.threads) for seed in seeds]


def latest(run: Path) -> tuple[dict[str, Any], int]:
    """The state that a run continues from and its env steps; damaged checkpoints are named and passed over."""
    from dsac import checkpoint

    state, manifest, reasons = checkpoint.newest(run / "checkpoints")
    for reason in reasons:
        print(f"warning: a damaged checkpoint was moved aside: {reason}", file=sys.stderr)
    return state, manifest["env_steps"]


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    """Put the parts back where they stood. Raises ConfigError where the config was changed in the meantime."""
    from envs.contract import EnvironmentFault

    try:
        trainer.load_state_dict(state)
    except EnvironmentFault:
        raise
    except (KeyError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the run's config.yaml does not fit its checkpoint: {reason}") from error


def conclude(run: Path, config: TrainConfig, trainer: Trainer, owed: bool) -> int:
    """The last lines: where the results are, what to type next. Returns the exit code."""
    named = modules_named(to_tree(config))
    if trainer.stop_reason and (owed or not trainer.finished):
        words = "".join(f" {key}={value}" for key, value in named.items())
        print(f"stopped ({trainer.stop_reason}) and saved at {trainer.env_steps:,} env steps in {run}")
        print(f"next: python -m dsac.train resume={run}{words}")
        return RESUMABLE
    words = "".join(f" {key}={value}" for key, value in named.items() if key != "algo")
    done = f"{trainer.env_steps:,} env steps, {trainer.updates:,} updates"
    last = f"{trainer.scores[0]:,.1f}" if trainer.scores else "none"
    print(f"finished {done}; last evaluation {last}; results in {run}")
    print(f"next: python -m dsac.evaluate run={run}{words}    curves: tensorboard --logdir {run}")
    return FINISHED


def describe(memory: Any) -> str:
    """The memory in a few words, where it has them."""
    return str(memory.describe()) if hasattr(memory, "describe") else type(memory).__name__.lower()


make_callable(__name__, train)

if __name__ == "__main__":
    raise SystemExit(main())
