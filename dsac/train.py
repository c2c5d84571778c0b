"""Train: python -m dsac.train env=Humanoid, or dsac.train(env="Humanoid") from Python.

Checks the overrides of the command line, composes the config, and trains in a session.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from dsac.cli.callable_module import make_callable
from dsac.cli.exit_codes import FINISHED, with_exit_code
from dsac.cli.progress import ProgressBar
from dsac.cli.signals import Stopping, stopping_on_signals
from dsac.config import choices, conf_folder, known_choice, load, refuse_shadowed_envs, to_tree
from dsac.errors import ConfigError
from dsac.runs.resume import newest_like, requested
from dsac.schema.plain_text import on_screen
from dsac.schema.run_config import EnvConfig, TrainConfig
from dsac.schema.validate import as_word

if TYPE_CHECKING:
    from dsac.runs.outcome import Outcome
    from dsac.trainer import Callback

HELP = """\
python -m dsac.train [key=value ...]      train; Ctrl-C saves and stops
python -m dsac.train resume=<run>         continue a run in its folder
python -m dsac.train resume=auto ...      continue the newest run with these settings, or begin one
python -m dsac.train init_from=<run> ...  a new run from the weights of another
python -m dsac.train --cfg job ...        print the resulting settings, without training
python -m dsac.evaluate run=<run>         score a policy of a run
python -m dsac.export run=<run>           write a policy for a robot's controller
python -m dsac.watch runs=<folder>        show how far all runs below a folder are

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


_under_way = threading.Lock()


def train(*, callbacks: Sequence[Callback] = (), **settings: Any) -> Outcome:
    """Train with the keys of the command line: train(env="Hopper", algo="sac", **{"algo.gamma": 0.98}).

    Each of `callbacks` is called with the Trainer after every block, once the run's own callbacks have been;
    dsac.trainer.every makes one periodic. Raises ConfigError with everything that is wrong, before a file is made.
    """
    refuse_shadowed_envs()
    return start([as_word(key, value) for key, value in settings.items()], callbacks)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in arguments or "-h" in arguments:
        print_help(arguments)
        return FINISHED
    overrides = [argument for index, argument in enumerate(arguments) if not is_cfg_flag(arguments, index)]
    if len(overrides) < len(arguments):
        return with_exit_code(lambda: print_settings(overrides))
    return with_exit_code(lambda: start(overrides).exit_code)


def print_settings(overrides: Sequence[str]) -> int:
    """Print all settings that the overrides result in; returns the exit code."""
    problems: list[str] = []
    request = requested(overrides, problems)
    print(yaml.safe_dump(to_tree(load(request.tree, problems)), sort_keys=False), end="")
    return FINISHED


def is_cfg_flag(arguments: Sequence[str], index: int) -> bool:
    """Whether an argument is --cfg, --cfg=job, or the value after --cfg: job, all."""
    flags = ("--cfg", "-c")
    value = index > 0 and arguments[index - 1] in flags and "=" not in arguments[index]
    return value or arguments[index].partition("=")[0] in flags


def print_help(arguments: Sequence[str]) -> None:
    """Print the usage, and every setting with its default from the yaml files."""
    print(
        HELP.format(
            envs=" ".join(choices("env")), algos=" ".join(choices("algo")), experiments=" ".join(choices("experiment"))
        )
    )
    for argument in arguments:
        group, _, name = argument.partition("=")
        if known_choice(group, name) in choices(group):
            print((conf_folder() / group / f"{known_choice(group, name)}.yaml").read_text())
    print((conf_folder() / "train.yaml").read_text())


def start(overrides: Sequence[str], callbacks: Sequence[Callback] = ()) -> Outcome:
    """Check the overrides, show the progress bar, train. Raises ConfigError with everything that is wrong."""
    with only_training():
        problems: list[str] = []
        request = requested(overrides, problems)
        with stopping_on_signals() as stopping, ProgressBar(title_of(request.tree)) as bar:  # while torch is imported
            config = load(request.tree, problems)
            resumed = newest_run(config, request.named) if request.auto else request.run
            return run_session(config, resumed, callbacks, bar, stopping)


def title_of(tree: Mapping[str, Any]) -> str:
    """What the bar is called: the task and the algorithm, as far as settings that are not checked yet tell."""
    from dsac.runs.folder import env_name

    env, algo = tree["env"], tree["algo"].get("name")
    try:
        return f"{env_name(EnvConfig(str(env.get('name')), env.get('id'), task=env.get('task')))} {algo}"
    except Exception:  # whoever builds the env says what is wrong with its module
        return f"{env.get('task')} {algo}"


@contextmanager
def only_training() -> Iterator[None]:
    """Within this block no other training begins in this process. Raises ConfigError where one is under way."""
    if not _under_way.acquire(blocking=False):
        raise ConfigError(
            "another training is under way in this process, and both would set torch's threads and handle the signals: "
            "start this one when that one has ended, or in another process (python -m dsac.sweep starts many)"
        )
    try:
        yield
    finally:
        _under_way.release()


def newest_run(config: TrainConfig, named: Mapping[str, str]) -> Path | None:
    """For resume=auto: the newest run with these settings, None where there is none; a line says which.

    named: the modules of the user's own that may be imported.
    """
    from dsac.runs.folder import folders_of

    run = newest_like(config, folders_of(config), named)
    print(on_screen(f"resume=auto: {run or 'no run with these settings yet, a new one begins'}"), flush=True)
    return run


def run_session(
    config: TrainConfig,
    resumed: Path | None,
    callbacks: Sequence[Callback] = (),
    bar: ProgressBar | None = None,
    stopping: Stopping | None = None,
) -> Outcome:
    """Train a new run, or the one in the folder `resumed`, to its end or until it is stopped; then it is saved."""
    from dsac.runs.session import Session

    session = Session(config, resumed, callbacks, bar, stopping)
    if outcome := session.already_finished():
        return outcome
    with session:
        session.trainer.run()
        session.finish()
    return session.print_outcome()


make_callable(__name__, train)

if __name__ == "__main__":
    raise SystemExit(main())
