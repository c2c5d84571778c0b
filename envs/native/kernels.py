"""The compiled loops: N worlds stepped side by side, each with its own clock, generator and automatic reset."""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types

from envs.native.compile_cache import kernel
from envs.native.libmujoco import (
    NOT_RUNNING,
    calling,
    mj_forward,
    mj_reset_data,
    mj_rne_post_constraint,
    mj_set_const,
    mj_step,
    pointer,
    thread_identity,
    warning_counters,
)
from envs.native.noise import drawn
from envs.native.physics import model_at, physics_at
from envs.native.thread_pool import (
    NEXT_WORLD,
    STOP,
    WORLDS_DONE,
    add_one,
    await_notice,
    notify,
    prepare,
    read,
    wake,
    yield_processor,
)
from envs.native.worlds import (
    FLOAT_TABLE,
    FUNCTIONS_TYPE,
    LONGS,
    PACKED,
    SETTINGS_TYPE,
    SIGNATURES,
    STEP_TYPE,
    unpack,
)

NOTHING = -1


_call_reset, _call_command = calling(SIGNATURES["reset"]), calling(SIGNATURES["command"])
_call_actuate, _call_observe = calling(SIGNATURES["actuate"]), calling(SIGNATURES["observe"])
_call_privileged, _call_reward = calling(SIGNATURES["privileged"]), calling(SIGNATURES["reward"])
_call_terminated, _call_randomise = calling(SIGNATURES["terminated"]), calling(SIGNATURES["randomise"])


@njit
def physics_of(worlds, settings, world):
    """The Physics of a world."""
    return physics_at(
        worlds.addresses[world], worlds.shapes, worlds.bodies, worlds.sites, worlds.sensors, settings.dt,
        settings.timestep,
    )  # fmt: skip


@njit
def look(worlds, functions, world, physics, noise, obs, privileged):
    """Let the task choose what holds until the next step, then write obs (O,) and privileged (P,)."""
    state = worlds.state[world]
    if functions.command != 0:
        _call_command(functions.command, (physics, state, noise))
    _call_observe(functions.observe, (physics, state, noise, obs))
    if functions.privileged != 0:
        _call_privileged(functions.privileged, (physics, state, privileged))


@njit
def after_step(worlds, settings, functions, world, obs):
    """Derive everything from a world's qpos and qvel as the first state of an episode; writes obs (O,)."""
    mj_forward(pointer(worlds.handles[world, 0]), pointer(worlds.handles[world, 1]))
    physics, noise = physics_of(worlds, settings, world), drawn(worlds.generators[world], worlds.step_noise, world)
    look(worlds, functions, world, physics, noise, obs, worlds.privileged[world])
    worlds.episode_step[world] = 0
    for entry in range(obs.shape[0]):
        if not math.isfinite(obs[entry]):
            worlds.report[1] = world


@njit
def begin_episode(worlds, settings, functions, world, obs):
    """Start an episode in a world from its generator; writes obs (O,)."""
    model, data = pointer(worlds.handles[world, 0]), pointer(worlds.handles[world, 1])
    if functions.randomise != 0:
        changed = model_at(worlds.model_addresses[world], worlds.model_shapes)
        nominal = model_at(worlds.nominal_addresses, worlds.model_shapes)
        _call_randomise(
            functions.randomise, (changed, nominal, drawn(worlds.generators[world], worlds.model_noise, world))
        )
        mj_set_const(model, data)
    mj_reset_data(model, data)
    clear_row(worlds.state[world])
    if functions.reset != 0:
        noise = drawn(worlds.generators[world], worlds.reset_noise, world)
        _call_reset(functions.reset, (physics_of(worlds, settings, world), worlds.state[world], noise))
    after_step(worlds, settings, functions, world, obs)


@njit
def apply_action(worlds, settings, action, ctrl):
    """Write an action (A,) into ctrl in the task's units, clipped to its limits and rounded to float32."""
    for entry in range(action.shape[0]):
        low, high = np.float64(worlds.low[entry]), np.float64(worlds.high[entry])
        value = np.float64(action[entry])
        if settings.unit_actions:
            # Weighting both limits is exact at both ends; centre + half * action may miss one by a rounding.
            share = (value + 1.0) / 2.0
            value = low * (1.0 - share) + high * share
        ctrl[entry] = np.float32(min(max(value, low), high))


@njit
def take_warnings(worlds, settings, world):
    """Move a world's new warnings into its totals; returns whether one says that MuJoCo threw the state away."""
    counters = warning_counters(worlds.handles[world, 2], worlds.warnings.shape[1])
    diverged = False
    for kind in range(worlds.warnings.shape[1]):
        count = counters[2 * kind]
        if count > 0:
            counters[2 * kind] = 0
            worlds.warnings[world, kind] += count
            worlds.report[2] += 1
            diverged = diverged or kind >= settings.first_divergence
    return diverged


@njit
def copy_row(source, target):
    """Copy a row; a slice assignment would compile into code for every kind of overlap."""
    for entry in range(source.shape[0]):
        target[entry] = source[entry]


@njit
def clear_row(row):
    """Set every entry of a row to 0."""
    for entry in range(row.shape[0]):
        row[entry] = 0.0


@njit
def step_world(worlds, settings, functions, world):
    """The action of one world in worlds.action; writes the world's rows of worlds.result."""
    model, data = pointer(worlds.handles[world, 0]), pointer(worlds.handles[world, 1])
    physics, step, state = physics_of(worlds, settings, world), worlds.result, worlds.state[world]
    noise = drawn(worlds.generators[world], worlds.step_noise, world)
    action = physics.ctrl if functions.actuate == 0 else worlds.task_action[world]
    apply_action(worlds, settings, worlds.action[world], action)
    for _ in range(settings.frame_skip):
        if functions.actuate != 0:
            _call_actuate(functions.actuate, (physics, state, action, noise))
        mj_step(model, data)
    if settings.contact_forces:
        mj_rne_post_constraint(model, data)
    worlds.episode_step[world] += 1

    next_obs, terms, last_obs = step.next_obs[world], step.reward_terms[world], worlds.last_obs[world]
    privileged, next_privileged = worlds.privileged[world], worlds.next_privileged[world]
    invalid = take_warnings(worlds, settings, world)
    reward, terminated = 0.0, False
    if not invalid:
        reward = _call_reward(functions.reward, (physics, state, terms))
        if functions.terminated != 0:
            terminated = _call_terminated(functions.terminated, (physics, state))
        look(worlds, functions, world, physics, noise, next_obs, next_privileged)
        invalid = not math.isfinite(np.float32(reward))
        for entry in range(next_obs.shape[0]):
            invalid = invalid or not math.isfinite(next_obs[entry])
    truncated = worlds.episode_step[world] >= settings.max_episode_steps
    if invalid:
        worlds.report[2] += 1
        reward, terminated, truncated = 0.0, False, True
        clear_row(terms)
        copy_row(last_obs, next_obs)
        copy_row(privileged, next_privileged)
    step.reward[world] = np.float32(reward)
    step.terminated[world] = terminated
    step.truncated[world] = truncated
    step.invalid[world] = invalid

    if terminated or truncated:
        begin_episode(worlds, settings, functions, world, last_obs)
    else:
        copy_row(next_obs, last_obs)
        copy_row(next_privileged, privileged)
    copy_row(last_obs, step.obs[world])


@njit
def step_remaining(worlds, settings, functions, slot):
    """Step worlds that no other thread has taken until none is left; who is slow takes fewer."""
    count = worlds.action.shape[0]
    worlds.in_flight[slot, 0] = np.int64(thread_identity())
    while True:
        world = add_one(worlds.pool, NEXT_WORLD)
        if world >= count:
            break
        worlds.in_flight[slot, 1] = world
        step_world(worlds, settings, functions, world)
        worlds.in_flight[slot, 1] = NOT_RUNNING
        add_one(worlds.pool, WORLDS_DONE)


@njit
def first_not_finite(action):
    """The first world whose action, a row of (N, A), is not finite, or NOTHING."""
    for world in range(action.shape[0]):
        for entry in range(action.shape[1]):
            if not math.isfinite(action[world, entry]):
                return world
    return NOTHING


@njit
def copy_result(result, step, world):
    """Copy one world's rows from the worlds' own memory into the caller's arrays."""
    copy_row(result.next_obs[world], step.next_obs[world])
    copy_row(result.obs[world], step.obs[world])
    copy_row(result.reward_terms[world], step.reward_terms[world])
    step.reward[world] = result.reward[world]
    step.terminated[world] = result.terminated[world]
    step.truncated[world] = result.truncated[world]
    step.invalid[world] = result.invalid[world]


@kernel(types.void(PACKED, SETTINGS_TYPE, FUNCTIONS_TYPE, FLOAT_TABLE, STEP_TYPE))
def step_worlds(packed, settings, functions, action, step):
    """One action (N, A) in each world, together with the helpers; writes step and worlds.report.

    Nothing is stepped where an action is not finite.
    """
    worlds = unpack(packed)
    worlds.report[0] = first_not_finite(action)
    worlds.report[1] = NOTHING
    worlds.report[2] = 0
    if worlds.report[0] != NOTHING:
        return
    for world in range(action.shape[0]):
        copy_row(action[world], worlds.action[world])
    notify(worlds.pool)
    # Worlds that are neither left nor done are in the hands of helpers.
    while read(worlds.pool, WORLDS_DONE) < action.shape[0]:
        step_remaining(worlds, settings, functions, 0)
        yield_processor()
    for world in range(action.shape[0]):
        copy_result(worlds.result, step, world)


@kernel(types.void(PACKED, SETTINGS_TYPE, FUNCTIONS_TYPE, types.int64))
def step_in_pool(packed, settings, functions, slot):
    """What a helper does from its start until the pool is dismissed; slot is its row of worlds.in_flight."""
    worlds = unpack(packed)
    seen = 0
    while True:
        seen = await_notice(worlds.pool, seen)
        if read(worlds.pool, STOP) != 0:
            return
        step_remaining(worlds, settings, functions, slot)


@kernel(types.void(LONGS))
def prepare_pool(pool):
    """Set up the memory of a pool."""
    prepare(pool)


@kernel(types.void(LONGS))
def stop_pool(pool):
    """Make every helper of a pool return."""
    add_one(pool, STOP)
    wake(pool)


@kernel(types.void(PACKED, SETTINGS_TYPE, FUNCTIONS_TYPE, types.int64))
def begin_world(packed, settings, functions, world):
    """Start an episode in one world from its generator; writes last_obs and worlds.report."""
    worlds = unpack(packed)
    worlds.report[1] = NOTHING
    worlds.in_flight[0, 0] = np.int64(thread_identity())
    worlds.in_flight[0, 1] = world
    begin_episode(worlds, settings, functions, world, worlds.last_obs[world])
    worlds.in_flight[0, 1] = NOT_RUNNING


@kernel(types.void(PACKED, SETTINGS_TYPE, FUNCTIONS_TYPE, types.int64))
def refresh_world(packed, settings, functions, world):
    """Take the qpos and qvel that lie in one world as the start of an episode; writes last_obs and worlds.report.

    The task's reset does not run: its state begins at 0.
    """
    worlds = unpack(packed)
    worlds.report[1] = NOTHING
    worlds.in_flight[0, 0] = np.int64(thread_identity())
    worlds.in_flight[0, 1] = world
    clear_row(worlds.state[world])
    after_step(worlds, settings, functions, world, worlds.last_obs[world])
    worlds.in_flight[0, 1] = NOT_RUNNING
