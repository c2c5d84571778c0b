"""The tasks of the compiled engine, one file a robot, and how to find one by its name or module path."""

from __future__ import annotations

import difflib
import re
import traceback

from envs.contract import EnvironmentFault
from envs.importing import users_module
from envs.task import Task

MODULES = {
    "Ant": "ant",
    "HalfCheetah": "half_cheetah",
    "Hopper": "hopper",
    "Humanoid": "humanoid",
    "HumanoidStandup": "humanoid_standup",
    "InvertedDoublePendulum": "inverted_double_pendulum",
    "InvertedPendulum": "inverted_pendulum",
    "Pusher": "pusher",
    "Reacher": "reacher",
    "Swimmer": "swimmer",
    "Walker2d": "walker2d",
}


def find_task(name: str) -> Task:
    """The task of a robot by its name ("Ant" or "Ant-v5"), or TASK of a user's module ("my_package.my_task")."""
    short = name.removesuffix("-v5")
    path = f"envs.tasks.{MODULES[short]}" if short in MODULES else name
    try:
        task = getattr(users_module(path), "TASK", None)
    except ModuleNotFoundError as error:
        raise EnvironmentFault(f"task {name}: {error}; is its folder on PYTHONPATH, or is it installed?") from error
    except TypeError as error:
        if (field := re.search(r"^Task\.__new__\(\).* unexpected keyword argument '(\w+)'", str(error))) is None:
            raise
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise EnvironmentFault(
            f"{place.filename}:{place.lineno}: Task has no {field[1]}; {_mended(field[1])}"
        ) from error
    if not isinstance(task, Task):
        raise EnvironmentFault(f"task {name}: the module {path} defines no TASK of type envs.task.Task")
    return task


def _mended(field: str) -> str:
    """What to write for a field that Task does not have: its successor, or the nearest."""
    return {
        "remember": "write command=, a function (physics, state, noise)",
        "memory": 'write state=("x before the step (m)",), a name for each number',
    }.get(field) or f"did you mean {difflib.get_close_matches(field, Task._fields, 1, 0.0)[0]}?"
