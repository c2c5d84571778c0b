"""The compiled environment engine: N MuJoCo worlds of one task stepped in parallel without Python.

The kernels (envs/native/kernels.py) call the libmujoco of the Python bindings; a task's functions (envs/task.py) are
compiled once and kept on disk. Each world has its own mjData, generator and clock, and optionally its own mjModel.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from envs.contract import EnvironmentFault, FloatArray, NonFiniteAction, Step, UnsuitableEnvironment
from envs.mujoco_facts import route_warnings_to_logging
from envs.native import kernels
from envs.native.exact_state import model_state, physics_state, restore_model, restore_physics
from envs.native.libmujoco import in_flight
from envs.native.physics import Noise, addresses_of, model_arrays, physics_arrays, shapes_of
from envs.native.pool_threads import PoolThreads
from envs.native.thread_pool import new_pool
from envs.native.worlds import Settings, Worlds, pack
from envs.system import available_cores
from envs.task import Randomisation, Task
from envs.task_checks import compiled, load_model, rehearse, rehearse_randomisation
from envs.tasks import find_task

WARNINGS = tuple(mujoco.mjtWarning.__members__)[:-1]
log = logging.getLogger("envs.engine")


class Engine:
    """N worlds of one task behind envs.contract.VecEnv; `threads` of them are stepped at a time.

    invalid_steps   (N,) int64, how often each world failed since it was made
    """

    exact_state = True

    def __init__(
        self,
        task: Task,
        num_envs: int,
        seed: int,
        *,
        xml: str | None = None,
        threads: int | None = None,
        action_units: str = "unit",
        max_episode_steps: int | None = None,
        randomise: Randomisation | None = None,
    ) -> None:
        route_warnings_to_logging()
        self.num_envs = num_envs
        self.task = task
        self.model = load_model(task, xml)
        copies = num_envs if randomise else 0
        self.models = [copy.copy(self.model) for _ in range(copies)] or [self.model] * num_envs
        self.datas = [mujoco.MjData(model) for model in self.models]
        clock = max_episode_steps or task.max_episode_steps
        self.spec = rehearse(task, self.model, self.datas[0])._replace(max_episode_steps=clock)
        self.threads = min(num_envs, threads or available_cores())
        self.invalid_steps = np.zeros(num_envs, dtype=np.int64)
        self._randomised = randomise is not None
        self._functions = compiled(task, randomise)
        self._settings = Settings(
            frame_skip=task.frame_skip,
            max_episode_steps=clock,
            contact_forces=task.contact_forces,
            unit_actions={"unit": True, "env": False}[action_units],
            first_divergence=int(mujoco.mjtWarning.mjWARN_BADQPOS),
            dt=self.spec.dt,
            timestep=float(self.model.opt.timestep),
        )
        if randomise is not None:
            rehearse_randomisation(randomise, self.model)
        self._worlds = self._allocate(randomise or Randomisation(change=lambda *_: None))
        self._packed = pack(self._worlds)
        self._warned: set[str] = set()
        self._thrown_away = self._states_thrown_away()
        self.failure = ""
        self._pool_threads: PoolThreads | None = None
        self.reset(seed)

    def _allocate(self, randomise: Randomisation) -> Worlds:
        task, count, spec = self.task, self.num_envs, self.spec
        low, high = spec.action_low, spec.action_high
        pairs = list(zip(self.models, self.datas, strict=True))
        handles = [[model._address, data._address, data.warning.number.ctypes.data] for model, data in pairs]
        return Worlds(
            handles=np.array(handles, dtype=np.int64),
            addresses=np.array([addresses_of(physics_arrays(*pair)) for pair in pairs], dtype=np.int64),
            shapes=shapes_of(physics_arrays(*pairs[0])),
            model_addresses=np.array([addresses_of(model_arrays(model)) for model in self.models], dtype=np.int64),
            model_shapes=shapes_of(model_arrays(self.model)),
            nominal_addresses=np.array(addresses_of(model_arrays(self.model)), dtype=np.int64),
            bodies=np.array([self.model.body(name).id for name in task.bodies], dtype=np.int64),
            sites=np.array([self.model.site(name).id for name in task.sites], dtype=np.int64),
            sensors=np.array([self.model.sensor(name).adr[0] for name in task.sensors], dtype=np.int64),
            low=low,
            high=high,
            state=np.zeros((count, len(task.state))),
            generators=np.zeros((count, 4), dtype=np.uint64),
            episode_step=np.zeros(count, dtype=np.int64),
            last_obs=np.zeros((count, spec.obs_dim), dtype=np.float32),
            privileged=np.zeros((count, len(spec.privileged_names)), dtype=np.float32),
            next_privileged=np.zeros((count, len(spec.privileged_names)), dtype=np.float32),
            reset_noise=Noise(np.zeros((count, task.uniform)), np.zeros((count, task.normal))),
            step_noise=Noise(np.zeros((count, task.step_uniform)), np.zeros((count, task.step_normal))),
            model_noise=Noise(np.zeros((count, randomise.uniform)), np.zeros((count, randomise.normal))),
            task_action=np.zeros((count, spec.action_dim)),
            warnings=np.zeros((count, len(WARNINGS)), dtype=np.int64),
            in_flight=in_flight.table(self, self.threads),
            pool=new_pool(),
            action=np.zeros((count, spec.action_dim), dtype=np.float32),
            result=self._new_step(),
            report=np.zeros(3, dtype=np.int64),
        )

    def reset(self, seed: int) -> FloatArray:
        """Start a new episode in every world, world i from SeedSequence((seed, i)); returns obs (N, O)."""
        for world in range(self.num_envs):
            self._worlds.generators[world] = np.random.SeedSequence((seed, world)).generate_state(4, np.uint64)
            kernels.begin_world(self._packed, self._settings, self._functions, world)
            self._refuse_bad_start()
        return self.observe()

    def simulator(self, world: int) -> tuple[Any, Any]:
        """MuJoCo's (MjModel, MjData) of a world, to draw it."""
        return self.models[world], self.datas[world]

    def observe(self) -> FloatArray:
        """What to act on now, (N, O): after a reset, a step or a load."""
        return self._worlds.last_obs.copy()

    def privileged(self) -> tuple[FloatArray, FloatArray]:
        """For a critic alone, (N, P) each: beside observe(), and beside the next_obs of the newest step."""
        return self._worlds.privileged.copy(), self._worlds.next_privileged.copy()

    def step(self, action: FloatArray) -> Step:
        """Apply actions (N, A), as envs.contract.VecEnv says; raises EnvironmentFault."""
        action = np.ascontiguousarray(action, dtype=np.float32)
        count, spec = self.num_envs, self.spec
        if action.shape != (count, spec.action_dim):
            raise ValueError(f"{spec.id}: actions of shape {action.shape}, expected {(count, spec.action_dim)}")
        step = self._new_step()
        if self._pool_threads is None:
            shared = (self._packed, self._settings, self._functions)
            pool, held = self._worlds.pool, (self._worlds, self.datas, self.models)
            self._pool_threads = PoolThreads(pool, kernels.step_in_pool, shared, self.threads - 1, held)
        kernels.step_worlds(self._packed, self._settings, self._functions, action, step)
        report = self._worlds.report
        if report[0] != kernels.NOTHING:
            world = int(report[0])
            entry = int(np.argmin(np.isfinite(action[world])))
            raise NonFiniteAction(
                f"{spec.id}: action {spec.action_names[entry]} of world {world} is {action[world, entry]}; "
                "look for the first metric that is not finite: the policy has diverged"
            )
        self._refuse_bad_start()
        if report[2]:
            self.invalid_steps += step.invalid
            self._tell(step)
        return step

    def _new_step(self) -> Step:
        count, spec = self.num_envs, self.spec
        return Step(
            next_obs=np.empty((count, spec.obs_dim), dtype=np.float32),
            reward=np.empty(count, dtype=np.float32),
            terminated=np.empty(count, dtype=np.bool_),
            truncated=np.empty(count, dtype=np.bool_),
            obs=np.empty((count, spec.obs_dim), dtype=np.float32),
            reward_terms=np.empty((count, len(spec.reward_terms)), dtype=np.float32),
            invalid=np.empty(count, dtype=np.bool_),
        )

    def _refuse_bad_start(self) -> None:
        world = int(self._worlds.report[1])
        if world != kernels.NOTHING:
            entry = int(np.argmin(np.isfinite(self._worlds.last_obs[world])))
            raise EnvironmentFault(
                f"{self.spec.id}, world {world}: the first observation of an episode is not finite "
                f"({self.spec.obs_names[entry]}); look at the task's reset and observe"
            )

    def _tell(self, step: Step) -> None:
        before, self._thrown_away = self._thrown_away, self._states_thrown_away()
        if step.invalid.any():
            world = int(step.invalid.argmax())
            lost = self._thrown_away[world] > before[world]
            what = "MuJoCo threw its state away" if lost else "its reward or observation is not finite"
            self.failure = f"{self.spec.id}: world {world}: {what}"
        # Each kind once: a policy that breaks the simulator does so in thousands of steps.
        for kind in [name for name, total in self.warnings.items() if total and name not in self._warned]:
            self._warned.add(kind)
            worlds = np.flatnonzero(step.invalid).tolist()
            log.warning("%s: %s (worlds %s); from here on only counted", self.spec.id, kind, worlds)

    def _states_thrown_away(self) -> np.ndarray:
        counts: np.ndarray = self._worlds.warnings[:, self._settings.first_divergence :].sum(axis=1)
        return counts

    @property
    def warnings(self) -> dict[str, int]:
        """How often MuJoCo warned since the worlds were made, by kind."""
        return dict(zip(WARNINGS, self._worlds.warnings.sum(axis=0).tolist(), strict=True))

    def get_state(self, world: int) -> tuple[np.ndarray, np.ndarray]:
        """Copies of one world's qpos (nq,) and qvel (nv,), in SI units."""
        return self.datas[world].qpos.copy(), self.datas[world].qvel.copy()

    def set_state(self, world: int, qpos: Sequence[float], qvel: Sequence[float]) -> FloatArray:
        """Start a new episode in one world from qpos (nq,) and qvel (nv,), its task's state at 0; returns its obs."""
        data = self.datas[world]
        mujoco.mj_resetData(self.models[world], data)
        data.qpos[:], data.qvel[:] = qpos, qvel
        kernels.refresh_world(self._packed, self._settings, self._functions, world)
        self._refuse_bad_start()
        return self._worlds.last_obs[world].copy()

    def fork(self, source: int, targets: Sequence[int]) -> FloatArray:
        """Copy one world's state, clock and model into others, which keep their generators; returns its obs (O,).

        So they stay alike until noise is drawn: at the next reset, or the next step where the task asks for noise then.
        """
        state, worlds = self._physics_state(source), self._worlds
        for target in targets:
            if self._randomised:
                restore_model(self.models[target], self.datas[target], model_state(self.models[source]))
            restore_physics(self.models[target], self.datas[target], state)
            for array in (worlds.state, worlds.episode_step, worlds.last_obs, worlds.privileged):
                array[target] = array[source]
        return worlds.last_obs[source].copy()

    def _physics_state(self, world: int) -> np.ndarray:
        return physics_state(self.models[world], self.datas[world], with_derived=self.task.actuate is not None)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on, `memory` the task's state; stepping on from it is bit-identical."""
        worlds = self._worlds
        state: dict[str, Any] = {
            "task": self.spec.id,
            "physics": np.stack([self._physics_state(world) for world in range(self.num_envs)]),
            "memory": worlds.state.copy(),
            "generators": worlds.generators.copy(),
            "episode_step": worlds.episode_step.copy(),
            "obs": worlds.last_obs.copy(),
            "warnings": worlds.warnings.copy(),
            "invalid_steps": self.invalid_steps.copy(),
        }
        if self.spec.privileged_names:
            state["privileged"] = worlds.privileged.copy()
        if self._randomised:
            state["models"] = [model_state(model) for model in self.models]
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state_dict of the same task and number of worlds; raises EnvironmentFault otherwise."""
        sizes = self._physics_state(0).size, self._worlds.state.shape[1]
        found = (state["task"], state["physics"].shape, state["memory"].shape, "models" in state)
        expected = (self.spec.id, *((self.num_envs, size) for size in sizes), self._randomised)
        if found != expected:
            raise EnvironmentFault(
                f"{self.spec.id}: the saved state (task, simulator, task's own state, randomised) is {found}, "
                f"not {expected}"
            )
        for world in range(self.num_envs):
            if self._randomised:
                restore_model(self.models[world], self.datas[world], state["models"][world])
            restore_physics(self.models[world], self.datas[world], state["physics"][world])
        worlds = self._worlds
        worlds.state[:], worlds.generators[:] = state["memory"], state["generators"]
        if self.spec.privileged_names:
            worlds.privileged[:] = state["privileged"]
        worlds.episode_step[:], worlds.last_obs[:] = state["episode_step"], state["obs"]
        worlds.warnings[:] = state["warnings"]
        self.invalid_steps[:] = state["invalid_steps"]
        self._thrown_away = self._states_thrown_away()

    def close(self) -> None:
        """Let the helping threads go; a later step calls new ones."""
        if self._pool_threads is not None:
            self._pool_threads.dismiss()
            self._pool_threads = None


def make(
    task: str,
    num_envs: int,
    seed: int,
    *,
    xml: str | None = None,
    threads: int | None = None,
    action_units: str = "unit",
    max_episode_steps: int | None = None,
    randomise: Randomisation | bool | None = None,
) -> Engine:
    """N worlds of a task by name ("Ant") or of a user's module ("my_package.my_task") with the model in `xml`.

    randomise=True takes the task's own randomisation; raises UnsuitableEnvironment where it names none.
    """
    found = find_task(task)
    if randomise is True and found.randomisation is None:
        raise UnsuitableEnvironment(f"randomise=true, but the task {task} names no randomisation")
    return Engine(
        found,
        num_envs,
        seed,
        xml=xml,
        threads=threads,
        action_units=action_units,
        max_episode_steps=max_episode_steps,
        randomise=(found.randomisation if randomise else None) if isinstance(randomise, bool) else randomise,
    )
