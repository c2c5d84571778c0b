"""Whatever can be wrong with a task or its model is found here, before the first step, and named with file and line.

First the scalar subset is checked on the syntax tree, then the functions run once as plain Python on real arrays, where
a wrong index is an error and not a stray write, and only then they are compiled.
"""

from __future__ import annotations

import ast
import difflib
import functools
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FunctionType
from typing import Any, cast

import mujoco
import numpy as np
from numba.core.errors import NumbaError

from envs.answers import in_one_line
from envs.contract import EnvironmentFault, EnvSpec, UnsuitableEnvironment, refuse_limits
from envs.mujoco_facts import actuator_names
from envs.native import worlds
from envs.native.compile_cache import callback
from envs.native.physics import Model, Noise, Physics, model_arrays, physics_arrays
from envs.task import Randomisation, Task

_BUILTINS = {"range", "len", "min", "max", "abs", "float", "int", "bool"}
_REFUSED: dict[type[ast.AST], str] = {
    ast.While: "a while loop; loop over a range with a bound",
    ast.Slice: "a slice; loop over a range, or use the helpers of envs.task",
    ast.Try: "try",
    ast.With: "with",
    ast.Lambda: "a lambda; define a function with @helper",
    ast.ListComp: "a comprehension",
    ast.GeneratorExp: "a comprehension",
    ast.DictComp: "a comprehension",
    ast.SetComp: "a comprehension",
    ast.List: "a list",
    ast.Dict: "a dict",
    ast.Set: "a set",
    ast.JoinedStr: "a string",
    ast.Import: "an import; import at the top of the file",
    ast.ImportFrom: "an import; import at the top of the file",
    ast.Raise: "raise; return a value that is not finite instead",
    ast.Assert: "assert",
    ast.Global: "global",
    ast.ClassDef: "a class",
}


# Words of task files as they were before tasks had a state.
_MENDED = {"uniform": "noise.uniform", "normal": "noise.normal", "memory": "state"}


def functions_of(task: Task) -> dict[str, FunctionType]:
    """The functions that a task defines, by the name of their field."""
    return {name: function for name in worlds.ARGUMENTS if (function := getattr(task, name, None)) is not None}


def refuse_arguments(functions: Mapping[str, FunctionType]) -> None:
    """Raise EnvironmentFault where the arguments of a function are not those of its field; "_noise" is noise unused."""
    wrong, old = [], set()
    for name, function in functions.items():
        code, expected = function.__code__, worlds.ARGUMENTS[name]
        found = code.co_varnames[: code.co_argcount]
        if tuple(argument.lstrip("_") for argument in found) != expected:
            right = f"def {function.__name__}({', '.join(expected)})"
            wrong.append(f"{_place(function)}: {name} takes other arguments than ({', '.join(found)}): write {right}")
            old |= _MENDED.keys() & {*found}
    if wrong:
        mended = [f"{word} is now {_MENDED[word]}" for word in sorted(old)]
        raise EnvironmentFault("; ".join(wrong + mended))


def lint(functions: Iterable[Callable[..., Any]]) -> list[str]:
    """What leaves the scalar subset in these functions and in the helpers that they use: "file:line: what"."""
    found, seen, waiting = [], set(), list(functions)
    while waiting:
        function = waiting.pop()
        code = function.__code__
        if code in seen:
            continue
        seen.add(code)
        used = [function.__globals__.get(name) for name in code.co_names]
        waiting += [value for value in used if isinstance(value, FunctionType)]
        for node in ast.walk(ast.parse(Path(code.co_filename).read_text())):
            if isinstance(node, ast.FunctionDef) and _is_at(node, code.co_firstlineno):
                found += [f"{code.co_filename}:{line}: {what}" for line, what in _outside_subset(node)]
    return found


def _is_at(node: ast.FunctionDef, line: int) -> bool:
    return line in (node.lineno, *(decorator.lineno for decorator in node.decorator_list))


def _outside_subset(function: ast.FunctionDef) -> list[tuple[int, str]]:
    found = []
    documented = ast.get_docstring(function) is not None
    for statement in function.body[1 if documented else 0 :]:
        for node in ast.walk(statement):
            what = _REFUSED.get(type(node))
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                what = "a string"
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                owner = node.func.value
                if not (isinstance(owner, ast.Name) and owner.id == "math"):
                    what = f"{ast.unparse(node.func)}(); only math.*, @helper functions and {sorted(_BUILTINS)}"
            if what:
                found.append((node.lineno, f"task functions keep to numbers and loops, but here stands {what}"))
    return found


def load_model(task: Task, xml: str | None) -> mujoco.MjModel:
    """The model of a task, from its own MJCF or the one named; checks the names that the task uses."""
    path = xml or task.xml
    if path is None:
        raise EnvironmentFault(f"{task.id}: the task names no model; set env.xml to the path of an MJCF file")
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        raise EnvironmentFault(f"{task.id}: MuJoCo cannot read {path}: {in_one_line(str(error))}") from error
    for kind, count in (
        ("actuator", model.nu),
        ("body", model.nbody),
        ("site", model.nsite),
        ("sensor", model.nsensor),
    ):
        wanted = {"actuator": task.actuators, "body": task.bodies, "site": task.sites, "sensor": task.sensors}[kind]
        _check_names(task, str(path), kind, wanted, [getattr(model, kind)(index).name for index in range(count)])
    names = [model.actuator(index).name or str(index) for index in range(model.nu)]
    free = [name for name, limited in zip(names, model.actuator_ctrllimited, strict=True) if not limited]
    if (free and not task.actions) or not model.nu:
        raise UnsuitableEnvironment(
            f"{task.id}: {path} "
            + (f"gives no ctrlrange to the actuators {free}" if free else "has no actuator")
            + "; actions need limits"
        )
    return model


def _check_names(task: Task, path: str, kind: str, wanted: tuple[str, ...], names: list[str]) -> None:
    for name in wanted:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {names}"
            raise EnvironmentFault(f"{_line_naming(task, name)}: {path} has no {kind} named {name!r}; {hint}")
    if kind == "actuator" and wanted and list(wanted) != names:
        raise EnvironmentFault(
            f"{_line_naming(task, wanted[0])}: the task's actuators are {list(wanted)}, those of {path} are {names}"
        )


def _line_naming(task: Task, name: str) -> str:
    path = task.observe.__code__.co_filename
    for number, line in enumerate(Path(path).read_text().splitlines(), 1):
        if re.search(rf"[\"']{re.escape(name)}[\"']", line):
            return f"{path}:{number}"
    return path


def rehearse(task: Task, model: mujoco.MjModel, data: mujoco.MjData) -> EnvSpec:
    """Run a task's functions once as plain Python; returns its EnvSpec. EnvironmentFault names file and line."""
    refuse_arguments(functions_of(task))
    if outside := lint(functions_of(task).values()):
        raise EnvironmentFault("\n".join(outside))
    for names, function in (("actions", "actuate"), ("privileged_names", "privileged")):
        if getattr(task, names) and getattr(task, function) is None:
            raise EnvironmentFault(f"{task.id}: the task has {names} but no {function}: add one, or leave {names} out")
    names = task.observation_names(model)
    dt = float(model.opt.timestep) * task.frame_skip
    physics = Physics(
        *physics_arrays(model, data),
        np.array([model.body(name).id for name in task.bodies], dtype=np.int64),
        np.array([model.site(name).id for name in task.sites], dtype=np.int64),
        np.array([model.sensor(name).adr[0] for name in task.sensors], dtype=np.int64),
        dt,
        float(model.opt.timestep),
    )
    observation = np.full(len(names), np.nan, dtype=np.float32)
    terms = np.full(len(task.reward_terms), np.nan, dtype=np.float32)
    privileged = np.full(len(task.privileged_names), np.nan, dtype=np.float32)
    state, noise = np.zeros(len(task.state)), _middling(task.step_uniform, task.step_normal)
    action_names, limits = _actions(task, model)
    mujoco.mj_resetData(model, data)
    _run(task.reset, physics, state, _middling(task.uniform, task.normal))
    mujoco.mj_forward(model, data)
    for _ in range(2):  # what runs at the start of an episode alone, then what runs later
        _run(task.command, physics, state, noise)
        _run(task.observe, physics, state, noise, observation)
        _refuse_unwritten(task.observe, "observation", observation, names)
        _run(task.privileged, physics, state, privileged)
        _refuse_unwritten(task.privileged, "observation", privileged, list(task.privileged_names))
        if task.actuate is not None:
            data.ctrl[:] = np.nan
            _run(task.actuate, physics, state, limits.mean(axis=1, dtype=np.float64), noise)
            _refuse_unwritten(task.actuate, "physics.ctrl", data.ctrl, list(actuator_names(model)))
        reward = _run(task.reward, physics, state, terms)
        _refuse_unwritten(task.reward, "terms", terms, list(task.reward_terms))
        if not isinstance(reward, int | float | np.floating | np.integer):
            raise EnvironmentFault(f"{_place(task.reward)}: reward returns {reward!r}, not a number")
        _run(task.terminated, physics, state)
    mujoco.mj_resetData(model, data)
    refuse_limits(task.id, action_names, limits[:, 0], limits[:, 1])
    return EnvSpec(
        id=task.id,
        obs_dim=len(names),
        action_dim=len(action_names),
        action_low=limits[:, 0].copy(),
        action_high=limits[:, 1].copy(),
        dt=dt,
        obs_names=tuple(names),
        action_names=action_names,
        reward_terms=task.reward_terms,
        privileged_names=task.privileged_names,
    )


def _actions(task: Task, model: mujoco.MjModel) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of a task's actions and their limits, (A, 2) float32."""
    if not task.actions:
        return actuator_names(model), model.actuator_ctrlrange.astype(np.float32)
    for action in task.actions:
        if not action.low < action.high:
            raise EnvironmentFault(
                f"{_line_naming(task, action.name)}: the limits of action {action.name!r} are {action.low:g} to "
                f"{action.high:g}: give the lower one first"
            )
    limits = np.array([(action.low, action.high) for action in task.actions], dtype=np.float32)
    return tuple(action.name for action in task.actions), limits


def _middling(uniform: int, normal: int) -> Noise:
    return Noise(np.full(uniform, 0.5), np.zeros(normal))


def _place(function: Any) -> str:
    return f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"


def _refuse_unwritten(function: Any, what: str, row: np.ndarray, names: list[str]) -> None:
    missing = [names[index] for index in np.flatnonzero(~np.isfinite(row))]
    if missing:
        raise EnvironmentFault(
            f"{_place(function)}: {function.__name__} leaves {len(missing)} of the {len(names)} entries of {what} "
            f"unwritten or not finite, first {missing[0]!r}; write them, or name fewer"
        )


def _run(function: Any, *arguments: Any) -> Any:
    if function is None:
        return None
    try:
        with np.errstate(all="ignore"):
            return function(*arguments)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)[1:]
        own = [frame for frame in frames if frame.filename == function.__code__.co_filename]
        frame = (own or frames)[-1]
        given = ", ".join(_sizes(function.__code__.co_varnames, arguments))
        raise EnvironmentFault(
            f"{frame.filename}:{frame.lineno}: {type(error).__name__}: {error} (in {function.__name__}, given {given})"
            f"\n    {frame.line}"
        ) from error


def _sizes(names: Iterable[str], arguments: Iterable[Any]) -> Iterator[str]:
    for name, value in zip(names, arguments, strict=False):
        if isinstance(value, np.ndarray):
            yield f"{name} of {len(value)}"
        elif isinstance(value, Noise):
            yield from _sizes((f"{name}.uniform", f"{name}.normal"), value)


def compiled(task: Task, randomise: Randomisation | None) -> worlds.Functions:
    """The task's functions compiled; numba's errors become an EnvironmentFault with file and line."""
    functions: dict[str, Any] = dict(functions_of(task))
    if randomise is not None:
        functions["randomise"] = randomise.change
    addresses = {name: _compile(function, worlds.SIGNATURES[name]).address for name, function in functions.items()}
    return worlds.Functions(**{name: addresses.get(name, 0) for name in worlds.Functions._fields})


# Kept for good, as the kernels hold bare addresses.
@functools.cache
def _compile(function: Any, signature: Any) -> Any:
    try:
        return callback(function, signature)
    except NumbaError as error:
        text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
        lines = [
            int(line) for line in re.findall(rf'File "{re.escape(function.__code__.co_filename)}", line (\d+)', text)
        ]
        line = lines[-1] if lines else function.__code__.co_firstlineno
        raise EnvironmentFault(
            f"{function.__code__.co_filename}:{line}: {function.__name__} cannot be compiled: {_reason(text)}"
        ) from error


def _reason(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Failed in")]
    return " ".join(lines[:6])


def rehearse_randomisation(randomise: Randomisation, model: mujoco.MjModel) -> None:
    """Run a randomising function once as plain Python on copies. EnvironmentFault names file and line."""
    refuse_arguments({"randomise": cast("FunctionType", randomise.change)})
    if outside := lint([randomise.change]):
        raise EnvironmentFault("\n".join(outside))
    changed = Model(*(array.copy() for array in model_arrays(model)))
    noise = _middling(randomise.uniform, randomise.normal)
    _run(randomise.change, changed, Model(*model_arrays(model)), noise)
