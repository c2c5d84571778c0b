"""Gymnasium ids, the arguments of their constructors and wrappers: found by name, or refused before an env is built."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.envs.registration import load_env_creator

from envs import nearest
from envs.answers import in_one_line
from envs.contract import UnsuitableEnvironment
from envs.importing import users_module

SAID_ELSEWHERE = {"id": "env.id", "max_episode_steps": "env.max_episode_steps"}
Wrapper = Callable[[Any], Any]


def require_registered(env_id: str) -> None:
    """Raise UnsuitableEnvironment, naming the nearest, unless Gymnasium knows the id ("Name-v0", "module:Name-v0")."""
    module, _, registered_id = env_id.rpartition(":")
    if module:
        _imported(module, f"Gymnasium id {env_id!r}")
    try:
        gymnasium.spec(registered_id)
    except gymnasium.error.Error as error:
        near = nearest(registered_id, gymnasium.registry)
        raise UnsuitableEnvironment(
            f"unknown Gymnasium id {env_id!r}; nearest: {near} (your own: module:Name-v0, module registers it)"
        ) from error


def require_arguments(env_id: str, kwargs: Mapping[str, Any]) -> None:
    """Raise UnsuitableEnvironment for an argument that the constructor behind a known id does not take.

    One that takes any (**kwargs) is asked when it is called.
    """
    for name in kwargs.keys() & SAID_ELSEWHERE.keys():
        raise UnsuitableEnvironment(f"env.kwargs.{name}: write {SAID_ELSEWHERE[name]}=")
    entry_point = gymnasium.spec(env_id.rpartition(":")[2]).entry_point
    try:
        creator: Any = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
        parameters = inspect.signature(creator).parameters.values()
    except Exception:  # whoever builds the env says what is wrong
        return
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return
    known = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    for name in kwargs:
        if name not in known:
            advice = f"did you mean {nearest(name, known)}? It takes {', '.join(known)}" if known else "it takes none"
            raise UnsuitableEnvironment(
                f"env.kwargs.{name}: the constructor of {env_id} has no such argument; {advice}"
            )


def wrappers_of(paths: Sequence[str]) -> list[Wrapper]:
    """What makes another env of an env, by import path ("module:Class"). Raises UnsuitableEnvironment."""
    return [_wrapper_of(path) for path in paths]


def _wrapper_of(path: str) -> Wrapper:
    module, _, name = path.partition(":")
    if not module or not name.isidentifier():
        raise UnsuitableEnvironment(f"env.wrappers: {path!r} is no import path; module:Class is right")
    found = _imported(module, f"env.wrappers={path}")
    wrapper: Wrapper | None = getattr(found, name, None)
    if wrapper is None or not callable(wrapper):
        offered = [other for other, value in vars(found).items() if callable(value)]
        hint = f"; did you mean {nearest(name, offered)}?" if offered else ""
        raise UnsuitableEnvironment(f"env.wrappers={path}: the module {module} has no class {name}{hint}")
    return wrapper


def _imported(module: str, asked: str) -> Any:
    try:
        return users_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        reason = in_one_line(str(error) if isinstance(error, ImportError) else f"{type(error).__name__}: {error}")
        raise UnsuitableEnvironment(f"{asked}: its module cannot be imported: {reason}") from error
