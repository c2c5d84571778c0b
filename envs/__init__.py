"""Environments: `make` builds those of a task by its name, and imports only the backend that it needs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

from envs.contract import UnsuitableEnvironment, VecEnv

TASKS = (
    "Ant",
    "HalfCheetah",
    "Hopper",
    "Humanoid",
    "HumanoidStandup",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Pusher",
    "Reacher",
    "Swimmer",
    "Walker2d",
)
ANY_GYMNASIUM_ID = "gymnasium"
CUSTOM = "custom"
BACKENDS = {"engine": ("envs.engine", "make"), "gymnasium": ("envs.gymnasium", "GymnasiumVecEnv")}
ACTION_UNITS = ("unit", "env")


def make(
    name: str,
    num_envs: int,
    seed: int,
    backend: str | None = None,
    *,
    env_id: str | None = None,
    xml: str | None = None,
    task: str | None = None,
    threads: int | None = None,
    randomise: bool = False,
    flatten: bool = False,
    action_units: str = "unit",
    max_episode_steps: int | None = None,
    kwargs: Mapping[str, Any] | None = None,
    wrappers: Sequence[str] | None = None,
) -> VecEnv:
    """Build num_envs worlds of one task, each in the first episode of reset(seed).

    name               a task of TASKS, with or without "-v5", "gymnasium" for the Gymnasium id in env_id, or "custom"
                       for a robot of one's own: `task`, a module with a TASK (envs.task.Task), and `xml`, its MJCF
    backend            "engine" (compiled) or "gymnasium"; None: engine, but gymnasium for an env_id
    threads            worlds that the engine steps at a time; None: all cores
    randomise          draw each world's model anew at each reset, as the task's randomisation says (engine only)
    flatten            lay Dicts, Tuples and tables out as one vector, a Discrete with a number for each of its values
    action_units       "unit": step takes [-1, 1]; "env": step takes the task's own units
    max_episode_steps  where the clock ends an episode; None: as the task is registered
    kwargs             arguments of the env's constructor (gymnasium only)
    wrappers           import paths of what is put around each env, "module:Class", innermost first (gymnasium only)

    Raises UnsuitableEnvironment for a request that cannot be served, EnvironmentFault for a world that fails.
    """
    if backend is None:
        backend = "gymnasium" if name == ANY_GYMNASIUM_ID else "engine"
    if backend not in BACKENDS:
        raise UnsuitableEnvironment(f"unknown backend {backend!r}; nearest: {nearest(backend, BACKENDS)}")
    if action_units not in ACTION_UNITS:
        raise UnsuitableEnvironment(
            f"unknown action units {action_units!r}; nearest: {nearest(action_units, ACTION_UNITS)}"
        )
    if num_envs < 1:
        raise UnsuitableEnvironment(f"num_envs is {num_envs}; at least 1 world is needed")
    if max_episode_steps is not None and max_episode_steps < 1:
        raise UnsuitableEnvironment(
            f"max_episode_steps is {max_episode_steps}; give at least 1, or null for the task's"
        )
    if (name, backend) in ((CUSTOM, "gymnasium"), (ANY_GYMNASIUM_ID, "engine")):
        raise UnsuitableEnvironment(f"env={name} does not run on backend={backend}; leave the backend out")
    task_id = resolve(name, env_id, task)
    refuse_arguments(backend, kwargs, wrappers)
    module, builder = BACKENDS[backend]
    particular: dict[str, Any] = (
        {"xml": xml, "threads": threads, "randomise": randomise}
        if backend == "engine"
        else {"flatten": flatten, "kwargs": kwargs, "wrappers": wrappers}
    )
    vec_env: VecEnv = getattr(import_module(module), builder)(
        task_id, num_envs, seed, action_units=action_units, max_episode_steps=max_episode_steps, **particular
    )
    return vec_env


def resolve(name: str, env_id: str | None = None, task: str | None = None) -> str:
    """The full id of a request, "Humanoid-v5" for "Humanoid", or its task module, without building a world.

    Raises UnsuitableEnvironment for an unknown name, version or id, naming the nearest.
    """
    if (task is None) == (name == CUSTOM):
        raise UnsuitableEnvironment(
            f"env={CUSTOM} needs a task, such as env.task=my_package.my_task"
            if task is None
            else f"task {task!r} was given beside {name!r}; a task module belongs to env={CUSTOM}"
        )
    if task is not None:
        return task
    if name != ANY_GYMNASIUM_ID:
        if env_id is not None:
            raise UnsuitableEnvironment(
                f"id {env_id!r} was given beside task {name!r}; an id belongs to env={ANY_GYMNASIUM_ID}"
            )
        return _task_id(name)
    if env_id is None:
        raise UnsuitableEnvironment(f"env={ANY_GYMNASIUM_ID} needs an id, such as env.id=Pendulum-v1")
    if env_id.partition("-v")[0] in TASKS:
        return _task_id(env_id)
    import_module("envs.registered").require_registered(env_id)
    return env_id


def refuse_arguments(backend: str, kwargs: Mapping[str, Any] | None, wrappers: Sequence[str] | None) -> None:
    """Raise UnsuitableEnvironment for constructor arguments and wrappers where Gymnasium does not step the envs."""
    given = [f"env.kwargs.{name}" for name in kwargs or ()] + ["env.wrappers"] * bool(wrappers)
    if given and backend != "gymnasium":
        raise UnsuitableEnvironment(
            f"{given[0]} needs an env of Gymnasium, which the compiled engine does not build: env=gymnasium "
            "env.id=<id>, or env.backend=gymnasium"
        )


def require_arguments(env_id: str, kwargs: Mapping[str, Any] | None, wrappers: Sequence[str] | None) -> None:
    """Raise UnsuitableEnvironment for arguments that the constructor of a known id does not take, and for wrappers
    that cannot be found; no env is built.
    """
    if kwargs or wrappers:
        registered = import_module("envs.registered")
        registered.require_arguments(env_id, kwargs or {})
        registered.wrappers_of(wrappers or ())


def nearest(word: str, names: Iterable[str]) -> str:
    """The one of names that is spelled most like word, whatever its case."""
    by_lower_case = {name.lower(): name for name in names}
    return by_lower_case[difflib.get_close_matches(word.lower(), by_lower_case, n=1, cutoff=0.0)[0]]


def _task_id(name: str) -> str:
    task, _, version = name.partition("-v")
    if ":" in name or (task not in TASKS and _registered(name)):
        raise UnsuitableEnvironment(f"{name} is no task of the engine; env={ANY_GYMNASIUM_ID} env.id={name} takes it")
    if task not in TASKS:
        raise UnsuitableEnvironment(
            f"unknown task {name!r}; nearest: {nearest(task, TASKS)} "
            f"(any other Gymnasium id: env={ANY_GYMNASIUM_ID} env.id=<id>)"
        )
    if version in ("2", "3", "4"):
        raise UnsuitableEnvironment(
            f"{name} is not supported: before v5 contact costs, healthy rewards and observations differ, "
            f"so its returns compare with nothing here; use {task}-v5"
            + (f", or v4 through Gymnasium: env={ANY_GYMNASIUM_ID} env.id=gymnasium:{name}" if version == "4" else "")
        )
    if name not in (task, f"{task}-v5"):
        raise UnsuitableEnvironment(f"unknown task {name!r}; nearest: {task}-v5")
    return f"{task}-v5"


def _registered(name: str) -> bool:
    """Whether Gymnasium itself knows the id; no module of a user is imported to find out."""
    try:
        import_module("envs.registered").require_registered(name)
    except UnsuitableEnvironment:
        return False
    return True
