"""Env steps a second of the engine, of a bare loop of the same physics, of Gymnasium and of EnvPool.

Figures of one machine drift from hour to hour, so all are taken in turns within one run, and each turn lasts long
enough for the clock. The bare loop replays a recorded run of the engine: the same mj_step calls from the same states,
in compiled code on as many threads, without task functions and without Python.
"""

from __future__ import annotations

import contextlib
import importlib.util
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsac.errors import ConfigError
from dsac.schema.ranges import at_least, positive
from envs.system import available_cores, resident_bytes

HELP = """\
python -m dsac.bench envs [tasks=all|Hopper,Ant] [worlds=1,20,64] [threads=1,2] [seconds=1] [repeats=5] [--json]

threads defaults to 1 and all cores. Contestants take turns, `repeats` times `seconds` each; figures are medians.
memory=1000000 instead takes that many HalfCheetah steps and prints how the memory in use grew.
"""
RECORDED_STEPS = 200


@dataclass(frozen=True)
class Config:
    """The words of this command."""

    tasks: str = "all"
    worlds: tuple[int, ...] = (1, 20, 64)
    threads: tuple[int, ...] = ()
    seconds: float = positive(1.0)
    repeats: int = at_least(5, 1)
    memory: int = at_least(0, 0)


def measure(config: Config) -> dict[str, Any]:
    """The report of a run: versions, and a row for each task, number of worlds and number of threads."""
    import mujoco

    import envs

    names = envs.TASKS if config.tasks == "all" else tuple(config.tasks.split(","))
    if unknown := [name for name in names if name not in envs.TASKS]:
        raise ConfigError(f"tasks={','.join(unknown)}: known are {', '.join(envs.TASKS)}")
    versions = {"mujoco": mujoco.__version__, "python": platform.python_version(), "cores": available_cores()}
    if config.memory:
        return {"versions": versions, "memory": memory_growth(config.memory)}
    threads = config.threads or tuple(sorted({1, available_cores()}))
    rows = []
    for name in names:
        for worlds in config.worlds:
            for count in threads:
                rates = race(name, worlds, count, config.seconds, config.repeats)
                rows.append({"task": name, "worlds": worlds, "threads": count, **rates})
                print(line(rows[-1]), file=sys.stderr, flush=True)
    return {"versions": versions, "rows": rows}


def race(name: str, worlds: int, threads: int, seconds: float, repeats: int) -> dict[str, float]:
    """Median env steps a second of each contestant; engine / bare is the median of the ratios within each turn."""
    with contextlib.ExitStack() as stack:
        contestants = {
            "engine": engine_contestant(name, worlds, threads),
            "bare": stack.enter_context(bare_contestant(name, worlds, threads)),
            "gymnasium_sync": stack.enter_context(gymnasium_contestant(name, worlds, "sync")),
        }
        if threads > 1 and worlds > 1:
            contestants["gymnasium_async"] = stack.enter_context(gymnasium_contestant(name, worlds, "async"))
        if importlib.util.find_spec("envpool"):
            contestants["envpool"] = envpool_contestant(name, worlds, threads)
        rates: dict[str, list[float]] = {key: [] for key in contestants}
        for _ in range(repeats):
            for key, run in contestants.items():
                rates[key].append(rate(run, seconds))
    ratios = [bare / engine for bare, engine in zip(rates["bare"], rates["engine"], strict=True)]
    return {key: statistics.median(values) for key, values in rates.items()} | {
        "engine_time_over_bare": statistics.median(ratios)
    }


def rate(run: Callable[[], int], seconds: float) -> float:
    """Env steps a second of a function that takes some and returns how many."""
    run()
    steps, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        steps += run()
    return steps / elapsed


def recorded(name: str, worlds: int) -> tuple[Any, dict[str, Any], np.ndarray]:
    """An engine, the state it starts from, and RECORDED_STEPS actions (T, N, A)."""
    import envs

    engine = envs.make(name, worlds, 0, "engine")
    actions = np.random.default_rng(0).uniform(-1, 1, (RECORDED_STEPS, worlds, engine.spec.action_dim))
    actions = actions.astype(np.float32)
    # Worlds that have just been reset cost less than those that have run for a while.
    for action in actions:
        engine.step(action)
    return engine, engine.state_dict(), actions


def engine_contestant(name: str, worlds: int, threads: int) -> Callable[[], int]:
    """Steps the engine through the recorded run again and again."""
    import envs

    _, state, actions = recorded(name, worlds)
    engine = envs.make(name, worlds, 0, "engine", threads=threads)

    def run() -> int:
        engine.load_state_dict(state)
        for action in actions:
            engine.step(action)
        return RECORDED_STEPS * worlds

    return run


@contextlib.contextmanager
def bare_contestant(name: str, worlds: int, threads: int) -> Any:
    """Replays the physics of the recorded run: controls and the states after resets are looked up."""
    import mujoco

    from envs.native import bare_physics
    from envs.native.pool_threads import PoolThreads
    from envs.native.thread_pool import new_pool

    engine, state, actions = recorded(name, worlds)
    engine.load_state_dict(state)
    sizes = (RECORDED_STEPS, worlds, mujoco.mj_stateSize(engine.model, mujoco.mjtState.mjSTATE_INTEGRATION))
    states, has_reset, controls = np.zeros(sizes), np.zeros(sizes[:2], dtype=np.bool_), np.zeros(actions.shape)
    for step, action in enumerate(actions):
        answer = engine.step(action)
        low, high = engine.spec.action_low, engine.spec.action_high
        controls[step] = low + (high - low) * (action + 1) / 2
        has_reset[step] = answer.terminated | answer.truncated
        states[step] = engine.state_dict()["physics"]
    recording = bare_physics.Recording(
        pool=new_pool(),
        model=np.array([engine.model._address], dtype=np.int64),
        data=np.array([data._address for data in engine.datas], dtype=np.int64),
        ctrl=np.array([data.ctrl.ctypes.data for data in engine.datas], dtype=np.int64),
        controls=controls,
        states=states,
        has_reset=has_reset,
        position=np.array([0, engine.task.frame_skip], dtype=np.int64),
    )
    pool_threads = PoolThreads(recording.pool, bare_physics.replay_in_pool, (recording,), threads - 1, engine)

    def run() -> int:
        engine.load_state_dict(state)
        bare_physics.replay(recording)
        return RECORDED_STEPS * worlds

    try:
        yield run
    finally:
        pool_threads.dismiss()


def transitions(env: Any, actions: Iterable[np.ndarray]) -> int:
    """Step a Gymnasium vector environment; how many of the steps were transitions.

    It answers the action after an episode's end with a reset, which is no step of the task.
    """
    count = 0
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        count += len(terminated) - int((terminated | truncated).sum())
    return count


@contextlib.contextmanager
def gymnasium_contestant(name: str, worlds: int, mode: str) -> Any:
    """Steps Gymnasium's own vector environment, resets included."""
    import gymnasium

    env = gymnasium.make_vec(f"{name}-v5", num_envs=worlds, vectorization_mode=mode)
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [env.action_space.sample() for _ in range(20)]

    def run() -> int:
        return transitions(env, actions)

    try:
        yield run
    finally:
        env.close()


def envpool_contestant(name: str, worlds: int, threads: int) -> Callable[[], int]:
    """Steps EnvPool's environment of the same robot."""
    import envpool

    ids = [name_id for name_id in envpool.list_all_envs() if name_id.startswith(f"{name}-v")]
    env = envpool.make_gymnasium(sorted(ids)[-1], num_envs=worlds, num_threads=threads)
    env.reset()
    space = env.action_space
    actions = np.random.default_rng(0).uniform(space.low, space.high, (20, worlds, *space.shape)).astype(np.float32)

    def run() -> int:
        return transitions(env, actions)

    return run


def memory_growth(steps: int) -> dict[str, float]:
    """Resident bytes that each million HalfCheetah steps add, after a first tenth."""
    import envs

    engine = envs.make("HalfCheetah", 20, 0, "engine")
    actions = np.random.default_rng(0).uniform(-1, 1, (100, 20, 6)).astype(np.float32)

    def take(count: int) -> None:
        for index in range(count // 20):
            engine.step(actions[index % len(actions)])

    take(steps // 10)
    before = resident_bytes()
    take(steps)
    return {"steps": steps, "bytes_per_million": (resident_bytes() - before) / (steps / 1e6)}


COLUMNS = ("engine", "bare", "gymnasium_sync", "gymnasium_async", "envpool")


def line(row: dict[str, Any]) -> str:
    """One row for people."""
    rates = "".join(f"{row[key]:>16,.0f}" if key in row else f"{'-':>16}" for key in COLUMNS)
    return f"{row['task']:<24}{row['worlds']:>7}{row['threads']:>8}{rates}{row['engine_time_over_bare']:>12.3f}"


def table(report: dict[str, Any]) -> str:
    """The report for people: env steps a second, and how the engine's time compares with that of the bare loop."""
    versions = ", ".join(f"{key} {value}" for key, value in report["versions"].items())
    if "memory" in report:
        grown = report["memory"]
        return f"{versions}\n{grown['steps']:,} steps: {grown['bytes_per_million']:,.0f} bytes a million steps"
    head = f"{'env steps a second':<24}{'worlds':>7}{'threads':>8}" + "".join(f"{key:>16}" for key in COLUMNS)
    return "\n".join([versions, head + f"{'time / bare':>12}", *map(line, report["rows"])])
