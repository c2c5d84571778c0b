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
    OBSERVE,
    PACKED,
    RANDOMISE,
    REMEMBER,
    RESET,
    REWARD,
    SETTINGS_TYPE,
    STEP_TYPE,
    TERMINATED,
    unpack,
)

NOTHING = -1


_call_reset, _call_observe, _call_reward = calling(RESET), calling(OBSERVE), calling(REWARD)
_call_terminated, _call_remember, _call_randomise = calling(TERMINATED), calling(REMEMBER), calling(RANDOMISE)


@njit
def _rotated(value, distance):
    return (value << np.uint64(distance)) | (value >> np.uint64(64 - distance))


@njit
def draw(state):
    """The next number of xoshiro256++ (Blackman and Vigna 2019), uniform in [0, 1) with 53 bits; state (4,) uint64."""
    result = _rotated(state[0] + state[3], 23) + state[0]
    shifted = state[1] << np.uint64(17)
    state[2] ^= state[0]
    state[3] ^= state[1]
    state[1] ^= state[2]
    state[0] ^= state[3]
    state[2] ^= shifted
    state[3] = _rotated(state[3], 45)
    return np.float64(result >> np.uint64(11)) * 2.0**-53


@njit
def fill_noise(state, uniform, normal):
    """Fill a row with uniform numbers and a row with normal ones, by the transform of Box and Muller."""
    for index in range(uniform.shape[0]):
        uniform[index] = draw(state)
    for index in range(normal.shape[0]):
        radius = math.sqrt(-2.0 * math.log(1.0 - draw(state)))
        normal[index] = radius * math.cos(2.0 * math.pi * draw(state))


@njit
def physics_of(worlds, settings, world):
    """The Physics of a world."""
    return physics_at(
        worlds.addresses[world], worlds.shapes, worlds.bodies, worlds.sites, worlds.sensors, settings.dt,
        settings.timestep,
    )  # fmt: skip


@njit
def after_step(worlds, settings, functions, world, obs):
    """Derive everything from a world's qpos and qvel as the first state of an episode; writes obs (O,)."""
    mj_forward(pointer(worlds.handles[world, 0]), pointer(worlds.handles[world, 1]))
    physics = physics_of(worlds, settings, world)
    _call_observe(functions.observe, (physics, obs))
    if functions.remember != 0:
        _call_remember(functions.remember, (physics, worlds.memory[world]))
    worlds.episode_step[world] = 0
    for entry in range(obs.shape[0]):
        if not math.isfinite(obs[entry]):
            worlds.report[1] = world


@njit
def begin_episode(worlds, settings, functions, world, obs):
    """Start an episode in a world from its generator; writes obs (O,)."""
    model, data = pointer(worlds.handles[world, 0]), pointer(worlds.handles[world, 1])
    state = worlds.generators[world]
    if functions.randomise != 0:
        fill_noise(state, worlds.model_uniform[world], worlds.model_normal[world])
        changed = model_at(worlds.model_addresses[world], worlds.model_shapes)
        nominal = model_at(worlds.nominal_addresses, worlds.model_shapes)
        noise = worlds.model_uniform[world], worlds.model_normal[world]
        _call_randomise(functions.randomise, (changed, nominal, noise[0], noise[1]))
        mj_set_const(model, data)
    fill_noise(state, worlds.uniform[world], worlds.normal[world])
    mj_reset_data(model, data)
    physics = physics_of(worlds, settings, world)
    _call_reset(functions.reset, (physics, worlds.uniform[world], worlds.normal[world]))
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
def step_world(worlds, settings, functions, world):
    """The action of one world in worlds.action; writes the world's rows of worlds.result."""
    model, data = pointer(worlds.handles[world, 0]), pointer(worlds.handles[world, 1])
    physics, step = physics_of(worlds, settings, world), worlds.result
    apply_action(worlds, settings, worlds.action[world], physics.ctrl)
    for _ in range(settings.frame_skip):
        mj_step(model, data)
    if settings.contact_forces:
        mj_rne_post_constraint(model, data)
    worlds.episode_step[world] += 1

    next_obs, terms, last_obs = step.next_obs[world], step.reward_terms[world], worlds.last_obs[world]
    invalid = take_warnings(worlds, settings, world)
    reward, terminated = 0.0, False
    if not invalid:
        _call_observe(functions.observe, (physics, next_obs))
        reward = _call_reward(functions.reward, (physics, worlds.memory[world], terms))
        if functions.terminated != 0:
            terminated = _call_terminated(functions.terminated, (physics,))
        invalid = not math.isfinite(np.float32(reward))
        for entry in range(next_obs.shape[0]):
            invalid = invalid or not math.isfinite(next_obs[entry])
    truncated = worlds.episode_step[world] >= settings.max_episode_steps
    if invalid:
        worlds.report[2] += 1
        reward, terminated, truncated = 0.0, False, True
        for term in range(terms.shape[0]):
            terms[term] = 0.0
        copy_row(last_obs, next_obs)
    step.reward[world] = np.float32(reward)
    step.terminated[world] = terminated
    step.truncated[world] = truncated
    step.invalid[world] = invalid

    if terminated or truncated:
        begin_episode(worlds, settings, functions, world, last_obs)
    else:
        copy_row(next_obs, last_obs)
        if functions.remember != 0:
            _call_remember(functions.remember, (physics, worlds.memory[world]))
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
    """Take the qpos and qvel that lie in one world as the start of an episode; writes last_obs and worlds.report."""
    worlds = unpack(packed)
    worlds.report[1] = NOTHING
    worlds.in_flight[0, 0] = np.int64(thread_identity())
    worlds.in_flight[0, 1] = world
    after_step(worlds, settings, functions, world, worlds.last_obs[world])
    worlds.in_flight[0, 1] = NOT_RUNNING
