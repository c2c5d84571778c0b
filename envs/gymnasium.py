"""Any Gymnasium id whose observations and actions are vectors behind the contract, its worlds stepped in turn."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import ArrayLike, NDArray

from envs.answers import first_not_finite, flag, in_one_line, number, shown, write_observation
from envs.contract import EnvironmentFault, FloatArray, NonFiniteAction, Step, UnsuitableEnvironment
from envs.generators import restore_generator, saved_generator
from envs.mujoco_facts import (
    REWARD_TERMS,
    derived_state,
    diverged,
    integration_state,
    restore,
    route_warnings_to_logging,
)
from envs.registered import require_arguments, wrappers_of
from envs.spaces import describe, parts_of

LARGEST_REWARD = float(np.finfo(np.float32).max)
log = logging.getLogger("envs.gymnasium")


class GymnasiumVecEnv:
    """N worlds of one Gymnasium id, each in the first episode of reset(seed) from the start.

    exact_state is True for the MuJoCo tasks of REWARD_TERMS without wrappers. Of any other id only the random
    generators can be saved: load_state_dict then starts new episodes from them.

    worlds    the N Gymnasium environments
    kwargs    arguments of the constructor behind the id, beside those that it is registered with
    wrappers  import paths ("module:Class") of what is put around each world, the first one innermost
    """

    def __init__(
        self,
        task_id: str,
        num_envs: int,
        seed: int,
        *,
        flatten: bool = False,
        action_units: str = "unit",
        max_episode_steps: int | None = None,
        kwargs: Mapping[str, Any] | None = None,
        wrappers: Sequence[str] | None = None,
    ) -> None:
        route_warnings_to_logging()
        self.num_envs = num_envs
        self.exact_state = task_id in REWARD_TERMS and not wrappers
        self.failure = ""
        self._kwargs = dict(kwargs or {})
        require_arguments(task_id, self._kwargs)
        self._wrappers = list(zip(wrappers or (), wrappers_of(wrappers or ()), strict=True))
        self._task_id = task_id
        self._seed = seed
        self._takes_unit_actions = action_units == "unit"
        self.worlds: list[gymnasium.Env[Any, Any]] = []
        try:
            for index in range(num_envs):
                self.worlds.append(self._build_world(index, max_episode_steps))
                if index == 0:
                    self._look_at(self.worlds[0], flatten)
            self._obs = np.empty((num_envs, self.spec.obs_dim), np.float32)
            self.reset(seed)
        except Exception:
            self.close()
            raise

    def reset(self, seed: int) -> FloatArray:
        """Start a new episode in every world, world i with world_seed(seed, i); returns obs (N, O).

        Raises EnvironmentFault when a world fails.
        """
        self._seed = seed
        for index in range(self.num_envs):
            self._obs[index] = self._reset_world(index, world_seed(seed, index))
        return self.observe()

    def simulator(self, world: int) -> tuple[Any, Any]:
        """MuJoCo's (MjModel, MjData) of a world, to draw it. Raises UnsuitableEnvironment where there is none."""
        simulated: Any = self.worlds[world].unwrapped
        if not hasattr(simulated, "model") or not hasattr(simulated, "data"):
            raise UnsuitableEnvironment(f"{self.spec.id} has no MuJoCo simulator to draw")
        return simulated.model, simulated.data

    def observe(self) -> FloatArray:
        """What to act on now, (N, O): the obs of the last reset, step or load_state_dict."""
        return self._obs.copy()

    def step(self, action: ArrayLike) -> Step:
        """Apply actions (N, A), in [-1, 1] or in the task's units as action_units says; see VecEnv.step.

        Raises NonFiniteAction before a simulator sees one, EnvironmentFault when a world fails, ValueError when action
        has another shape.
        """
        controls = self._controls(np.asarray(action))
        terms = self.spec.reward_terms
        next_obs = np.empty((self.num_envs, self.spec.obs_dim), np.float32)
        rewards = np.empty(self.num_envs)
        terminated = np.empty(self.num_envs, np.bool_)
        truncated = np.empty(self.num_envs, np.bool_)
        reward_terms = np.empty((self.num_envs, len(terms)), np.float32)
        thrown_away = np.empty(self.num_envs, np.bool_)
        for index, world in enumerate(self.worlds):
            try:
                observation, earned, task_ended, clock_ended, info = world.step(controls[index])
                write_observation(observation, self._parts, next_obs[index])
                rewards[index] = earned if isinstance(earned, float) else number(earned, "reward")
                terminated[index] = flag(task_ended, "terminated")
                truncated[index] = flag(clock_ended, "truncated")
                reward_terms[index] = [info[term] for term in terms]
                thrown_away[index] = self.exact_state and diverged(world.unwrapped.data)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                raise self._fault(index, f"step on action {controls[index].tolist()}", error) from error
        too_large = ~(np.abs(rewards) <= LARGEST_REWARD)
        invalid = thrown_away | too_large | ~np.isfinite(next_obs).all(axis=1)
        if invalid.any():
            first = int(invalid.argmax())
            self.failure = self._what_failed(first, bool(thrown_away[first]), next_obs[first], float(rewards[first]))
            next_obs[invalid], rewards[invalid], reward_terms[invalid] = self._obs[invalid], 0.0, 0.0
            terminated[invalid], truncated[invalid] = False, True
        reward = rewards.astype(np.float32)
        obs = next_obs.copy()
        for ended in np.flatnonzero(terminated | truncated).tolist():
            obs[ended] = self._reset_world(ended)
        self._obs[...] = obs
        return Step(next_obs, reward, terminated, truncated, obs, reward_terms, invalid)

    def state_dict(self) -> dict[str, Any]:
        """Everything the next step depends on; see VecEnv.state_dict.

        id, seed         of these worlds
        obs              (N, O) float32, what to act on now
        generators       N states of the worlds' generators, as saved_generator gives them
        and where exact_state is True
        integration      (N, I) float64, mujoco_facts.integration_state
        derived          (N, D) float64, mujoco_facts.derived_state
        elapsed_steps    (N,) int64, steps of the running episodes
        """
        simulated: list[Any] = [world.unwrapped for world in self.worlds]
        state: dict[str, Any] = {
            "id": self._task_id,
            "seed": self._seed,
            "obs": self.observe(),
            "generators": [saved_generator(world) for world in simulated],
        }
        if self.exact_state:
            elapsed_steps = [world.get_wrapper_attr("_elapsed_steps") for world in self.worlds]
            state["elapsed_steps"] = np.array(elapsed_steps, np.int64)
            state["integration"] = np.stack([integration_state(world.model, world.data) for world in simulated])
            state["derived"] = np.stack([derived_state(world.data) for world in simulated])
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state_dict of the same task and number of worlds; observe() is then what to act on.

        Raises EnvironmentFault when the state is of another task, number of worlds or MuJoCo version.
        """
        saved = (state["id"], len(state["generators"]))
        if saved != (self._task_id, self.num_envs):
            raise EnvironmentFault(
                f"{self._task_id}: the saved state is of {saved[1]} worlds of {saved[0]}, "
                f"this run has {self.num_envs} of {self._task_id}; resume with the saved run's env and num_envs"
            )
        self._seed = state["seed"]
        for index, world in enumerate(self.worlds):
            simulated: Any = world.unwrapped
            known = restore_generator(simulated, state["generators"][index])
            if not self.exact_state:
                self._obs[index] = self._reset_world(index, None if known else world_seed(self._seed, index))
                continue
            try:
                integration, derived = np.asarray(state["integration"][index]), np.asarray(state["derived"][index])
                restore(simulated.model, simulated.data, integration, derived)
            except ValueError as error:
                raise EnvironmentFault(f"{self._task_id}: {error}") from error
            world.set_wrapper_attr("_elapsed_steps", int(state["elapsed_steps"][index]))
            self._obs[index] = state["obs"][index]

    def close(self) -> None:
        """Close every world; of one that fails in it there is only a warning: nothing depends on it any more."""
        for index, world in enumerate(self.worlds):
            try:
                with self._blamed(index, "close"):
                    world.close()
            except EnvironmentFault as fault:
                log.warning("%s", fault)

    def _build_world(self, index: int, max_episode_steps: int | None) -> gymnasium.Env[Any, Any]:
        with self._blamed(index, "constructor"):
            # The checker keeps whole observations and warns; what it looks for is refused in _look_at.
            world: gymnasium.Env[Any, Any] = gymnasium.make(
                self._task_id, max_episode_steps=max_episode_steps, disable_env_checker=True, **self._kwargs
            )
        for path, wrapper in self._wrappers:
            with self._blamed(index, f"wrapper {path}"):
                world = wrapper(world)
                if not isinstance(world, gymnasium.Env):
                    raise TypeError(f"it returned {shown(world)}; an env is right")
        return world

    def _look_at(self, world: gymnasium.Env[Any, Any], flatten: bool) -> None:
        with self._blamed(0, "constructor"):
            self._action_space: Any = world.action_space
            self._parts = parts_of(self._task_id, world.observation_space, (), flatten)
            self.spec = describe(self._task_id, world, self._parts, known=self.exact_state)

    def _reset_world(self, index: int, seed: int | None = None) -> FloatArray:
        row = np.empty(self.spec.obs_dim, np.float32)
        with self._blamed(index, "reset"):
            answer = self.worlds[index].reset(seed=seed)
            if not isinstance(answer, tuple | list) or len(answer) != 2:
                raise TypeError(f"it returned {shown(answer)}; (observation, info) is right")
            write_observation(answer[0], self._parts, row)
            if bad := first_not_finite(row, self.spec.obs_names):
                raise ValueError(f"{bad[0]} is {bad[1]}; finite numbers are right")
        return row

    @contextmanager
    def _blamed(self, index: int, doing: str) -> Iterator[None]:
        """Whatever is raised within is the fault of this world: a call of sys.exit too, but not an interrupt."""
        try:
            yield
        except (KeyboardInterrupt, UnsuitableEnvironment):
            raise
        except BaseException as error:
            raise self._fault(index, doing, error) from error

    def _what_failed(self, world: int, thrown_away: bool, row: FloatArray, reward: float) -> str:
        if thrown_away:
            return f"{self._task_id}: MuJoCo threw the state of world {world} away"
        name, value = first_not_finite(row, self.spec.obs_names) or ("reward", reward)
        return f"{self._task_id}: {name} of world {world} is {value}"

    def _controls(self, action: NDArray[Any]) -> NDArray[Any]:
        wanted = (self.num_envs, self.spec.action_dim)
        if action.shape != wanted:
            raise ValueError(f"{self._task_id}: actions of shape {action.shape}, expected {wanted}")
        finite = np.isfinite(action)
        if not finite.all():
            world, entry = np.argwhere(~finite)[0]
            raise NonFiniteAction(
                f"{self._task_id}: action {self.spec.action_names[entry]} of world {world} is {action[world, entry]}; "
                "look for the first metric that is not finite: the policy has diverged"
            )
        low, high = self._action_space.low, self._action_space.high
        controls = to_task_units(action, low, high) if self._takes_unit_actions else np.clip(action, low, high)
        return controls.astype(self._action_space.dtype)

    def _fault(self, index: int, doing: str, error: BaseException) -> EnvironmentFault:
        return EnvironmentFault(
            f"{self._task_id}: {doing} failed in world {index} (seed {self._seed}, first reset with seed "
            f"{world_seed(self._seed, index)}): {type(error).__name__}: {in_one_line(str(error))}; "
            "repair the environment, then run again"
        )


def world_seed(seed: int, index: int) -> int:
    """The integer in [0, 2**32) that world `index` of a run is first reset with, from SeedSequence((seed, index))."""
    # No wider: environments hand it on to generators that take 32 bits.
    return int(np.random.SeedSequence((seed, index)).generate_state(1)[0])


def to_task_units(action: NDArray[Any], low: NDArray[Any], high: NDArray[Any]) -> NDArray[np.float64]:
    """Map actions (N, A) in [-1, 1] onto the limits (A,) each; -1 and 1 reach them exactly, no value goes beyond."""
    share = (action.astype(np.float64) + 1.0) / 2.0
    # Weighting both limits is exact at both ends; centre + half_range * action may miss one by a rounding.
    mapped: NDArray[np.float64] = np.clip(low * (1.0 - share) + high * share, low, high)
    return mapped
