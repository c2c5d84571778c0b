"""The compiled engine: exact states, forks, faults, threads, generators, models of one's own in each world."""

from __future__ import annotations

import gc
import logging
import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import commanded_cart
import mujoco
import numpy as np
import pytest

import envs
from envs.contract import EnvironmentFault, Step
from envs.engine import Engine, make
from envs.native.noise import draw
from envs.task import Randomisation

ROOT = Path(__file__).parents[1]
CART = commanded_cart.__name__


def actions(engine: Engine, steps: int, seed: int = 0) -> np.ndarray:
    shape = (steps, engine.num_envs, engine.spec.action_dim)
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def assert_same(one: Step, other: Step) -> None:
    for name in Step._fields:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.mark.parametrize(("name", "randomise"), [*((name, False) for name in (*envs.TASKS, CART)), (CART, True)])
def test_a_restored_world_goes_on_bit_for_bit(name: str, randomise: bool) -> None:
    """Catches state that is forgotten: warm start, the position that the next reward is measured from, the clock.

    Of the cart also its command, its action before, a push that lasts, and what its controller reads between two steps.
    """
    saved, other = (make(name, 3, seed, max_episode_steps=40, randomise=randomise) for seed in (1, 2))
    moves = actions(saved, 60)
    for move in moves[:25]:
        saved.step(move)
    state, privileged = saved.state_dict(), saved.privileged()[0]
    expected = [(saved.step(move), saved.privileged()) for move in moves[25:]]
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.observe(), state["obs"])
    np.testing.assert_array_equal(other.privileged()[0], privileged)
    for move, (step, beside) in zip(moves[25:], expected, strict=True):
        assert_same(other.step(move), step)
        np.testing.assert_array_equal(other.privileged(), beside)


WHOLE = slice(None)
CART_STATE = mujoco.mj_stateSize(mujoco.MjModel.from_xml_path(commanded_cart.XML), mujoco.mjtState.mjSTATE_INTEGRATION)
PARTS = [
    *((name, key, WHOLE) for name in ("Ant", CART) for key in ("physics", "memory", "generators", "episode_step")),
    *((CART, "memory", slice(entry, entry + 1)) for entry in range(len(commanded_cart.TASK.state))),
    (CART, "physics", slice(CART_STATE, None)),  # what actuate reads
]


@pytest.mark.parametrize(("name", "key", "columns"), PARTS)
def test_each_part_of_the_state_is_needed(name: str, key: str, columns: slice) -> None:
    """Catches a part of the state that nothing reads, and a test above that would not see it missing."""
    engine = make(name, 2, seed=1, max_episode_steps=30)
    moves = actions(engine, 40)
    for move in moves[:10]:
        engine.step(move)
    state = engine.state_dict()
    expected = [engine.step(move) for move in moves[10:]]
    other = state[key].copy()
    other[..., columns] += other.dtype.type(1)
    engine.load_state_dict({**state, key: other})
    steps = [engine.step(move) for move in moves[10:]]
    assert any(
        not np.array_equal(getattr(one, name), getattr(two, name))
        for one, two in zip(steps, expected, strict=True)
        for name in Step._fields
    )


def test_a_state_of_another_task_or_size_is_refused() -> None:
    state = make("Hopper", 2, seed=0).state_dict()
    longer = Engine(make("Hopper", 1, 0).task._replace(state=("a (m)", "b (m)")), 2, 0)
    for other in (make("Walker2d", 2, seed=0), make("Hopper", 3, seed=0), longer):
        with pytest.raises(EnvironmentFault, match="the saved state"):
            other.load_state_dict(state)


def test_a_forked_world_is_the_same_world_until_its_reset() -> None:
    engine = make("Humanoid", 4, seed=1)
    for move in actions(engine, 10):
        engine.step(move)
    engine.fork(0, [2, 3])
    ended = False
    for move in actions(engine, 200, seed=1):
        step = engine.step(np.repeat(move[:1], 4, axis=0))
        for field in step._fields:
            if field != "obs":
                np.testing.assert_array_equal(getattr(step, field)[2], getattr(step, field)[0])
        if step.terminated[0]:
            ended = True
            assert not np.array_equal(step.obs[2], step.obs[0])
            break
    assert ended


def test_a_forked_world_goes_its_own_way_where_noise_is_drawn() -> None:
    """Catches a fork that forgets the task's state, and one that copies the generator and so pushes both alike."""
    engine = make(CART, 4, seed=1)
    for move in actions(engine, 10):
        engine.step(move)
    engine.fork(0, [2])
    state = engine.state_dict()
    for key in ("physics", "memory", "obs", "privileged", "episode_step"):
        np.testing.assert_array_equal(state[key][2], state[key][0])
    assert not np.array_equal(state["memory"][1], state["memory"][0])
    state["generators"][2] = state["generators"][0]
    engine.load_state_dict(state)
    alike = [engine.step(np.repeat(move[:1], 4, axis=0)).next_obs for move in actions(engine, 10, seed=1)]
    assert all(np.array_equal(obs[2], obs[0]) for obs in alike)
    engine.fork(0, [3])
    obs = engine.step(np.zeros((4, 1), dtype=np.float32)).next_obs
    assert not np.array_equal(obs[3], obs[0])


def test_a_task_runs_its_functions_in_the_order_that_it_is_told() -> None:
    """Catches a command that the policy does not see before it is judged by it, and an action that is seen too late.

    The same steps are written out: reward compares with the command and the action of the observation acted on.
    """
    engine = make(CART, 3, seed=4)
    obs, before = engine.observe(), np.zeros(3)
    assert not obs[:, 5].any()
    judged: list[tuple[bool, bool]] = []
    for move in actions(engine, 200):
        step = engine.step(move)
        action = before
        for _ in range(engine.task.frame_skip):
            action = action + 0.5 * (2.0 * move[:, 0] - action)
        np.testing.assert_allclose(step.next_obs[:, 5], action, rtol=1e-5)
        np.testing.assert_allclose(step.reward_terms[:, 1], -0.1 * np.abs(action - obs[:, 5]), rtol=1e-4, atol=1e-6)
        speed = engine.privileged()[1][:, 0]  # of the pushed cart, which reward does not see
        as_seen = np.isclose(step.reward_terms[:, 0], -np.abs(speed - obs[:, 4]), atol=1e-5)
        judged += zip(step.next_obs[:, 4] != obs[:, 4], as_seen, strict=True)
        obs, before = step.obs, np.where(step.terminated | step.truncated, 0.0, action)
    for changed in (False, True):
        share = np.mean([seen for other, seen in judged if other == changed])
        assert 0.8 < share < 1.0  # one step in ten has a push


def test_set_state_starts_an_episode_there() -> None:
    engine = make("HalfCheetah", 2, seed=1, max_episode_steps=5)
    for move in actions(engine, 3):
        engine.step(move)
    qpos, qvel = np.linspace(-0.1, 0.1, 9), np.full(9, 0.05)
    obs = engine.set_state(1, qpos, qvel)
    np.testing.assert_array_equal(obs, np.concatenate([qpos[1:], qvel]).astype(np.float32))
    np.testing.assert_array_equal(engine.observe()[1], obs)
    np.testing.assert_array_equal(engine.get_state(1)[0], qpos)
    ends = [engine.step(move).truncated.tolist() for move in actions(engine, 5)]
    assert ends == [[False, False], [True, False], [False, False], [False, False], [False, True]]


@pytest.mark.parametrize("name", ["Hopper", CART])
def test_threads_and_neighbours_do_not_change_a_world(name: str) -> None:
    """Catches worlds that share noise, memory or a generator, and a result that depends on who steps first."""
    alone, many = make(name, 3, seed=5, threads=1), make(name, 8, seed=5, threads=2)
    moves = actions(many, 150)
    for move in moves:
        one, other = alone.step(move[:3]), many.step(move)
        for field in Step._fields:
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field)[:3])


def test_the_arrays_of_a_step_are_the_callers() -> None:
    engine = make("Hopper", 2, seed=0)
    first, *moves = actions(engine, 30)
    start, step = engine.observe(), engine.step(first)
    kept, kept_start = Step(*(field.copy() for field in step)), start.copy()
    for move in moves:
        engine.step(move)
    assert_same(step, kept)
    np.testing.assert_array_equal(start, kept_start)


def test_the_generator_is_xoshiro256_plus_plus_from_the_seed_sequence() -> None:
    """Against the algorithm written out in Python integers."""
    mask = 2**64 - 1
    engine = make("Hopper", 3, seed=9)
    state = np.random.SeedSequence((9, 2)).generate_state(4, np.uint64)
    words = [int(word) for word in state]

    def rotated(value: int, distance: int) -> int:
        return ((value << distance) | (value >> (64 - distance))) & mask

    for _ in range(12):
        expected = (rotated((words[0] + words[3]) & mask, 23) + words[0]) & mask
        shifted = (words[1] << 17) & mask
        words[2] ^= words[0]
        words[3] ^= words[1]
        words[1] ^= words[2]
        words[0] ^= words[3]
        words[2] ^= shifted
        words[3] = rotated(words[3], 45)
        assert draw(state) == (expected >> 11) * 2.0**-53
    np.testing.assert_array_equal(engine.state_dict()["generators"][2], state)


def test_a_world_that_diverges_is_no_transition(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: Any
) -> None:
    """Catches MuJoCo's silent reset inside mj_step, a log that is flooded, and a neighbour that is touched."""
    monkeypatch.chdir(tmp_path)
    engine, twin = make("HalfCheetah", 3, seed=1), make("HalfCheetah", 3, seed=1)
    with caplog.at_level(logging.WARNING):
        for move in actions(engine, 20):
            before = engine.observe()
            engine.datas[1].qvel[3] = 1e12
            step, expected = engine.step(move), twin.step(move)
            assert step.invalid.tolist() == [False, True, False]
            assert (step.terminated[1], step.truncated[1]) == (False, True)
            assert step.reward[1] == 0
            assert not step.reward_terms[1].any()
            np.testing.assert_array_equal(step.next_obs[1], before[1])
            assert np.isfinite(step.obs).all()
            for field in Step._fields:
                np.testing.assert_array_equal(getattr(step, field)[[0, 2]], getattr(expected, field)[[0, 2]])
    assert engine.invalid_steps.tolist() == [0, 20, 0]
    assert engine.warnings["mjWARN_BADQVEL"] == 20
    assert len(caplog.records) <= 3
    assert not list(tmp_path.iterdir())


def test_both_backends_mark_a_diverged_world() -> None:
    engine, python = (envs.make("Ant", 2, 0, backend) for backend in ("engine", "gymnasium"))
    engine.datas[1].qpos[2] = python.worlds[1].unwrapped.data.qpos[2] = np.nan
    for worlds in (engine, python):
        before = worlds.observe()
        step = worlds.step(np.zeros((2, 8), dtype=np.float32))
        assert step.invalid.tolist() == [False, True]
        assert step.truncated.tolist() == [False, True]
        np.testing.assert_array_equal(step.next_obs[1], before[1])
        assert re.search("Ant-v5: .*MuJoCo threw .*state.* away", worlds.failure)
        assert "world 1" in worlds.failure


def test_an_action_that_is_not_finite_is_refused_before_the_step() -> None:
    engine = make("HalfCheetah", 3, seed=1)
    before = engine.state_dict()
    for value in (np.nan, np.inf):
        move = np.zeros((3, 6), dtype=np.float32)
        move[2, 4] = value
        with pytest.raises(EnvironmentFault, match=r"fshin of world 2 is (nan|inf)"):
            engine.step(move)
    np.testing.assert_array_equal(engine.state_dict()["physics"], before["physics"])
    with pytest.raises(ValueError, match="expected"):
        engine.step(np.zeros((3, 5), dtype=np.float32))


FATAL = """
import numpy as np
from envs.engine import make
engine = make("Hopper", 4, 0, threads=2, randomise={randomise})
engine.models[3].opt.integrator = 99
for _ in range(3):
    engine.step(np.zeros((4, 3), dtype=np.float32))
print("survived")
"""


def test_a_fatal_error_of_mujoco_ends_the_process_and_names_the_world(tmp_path: Path) -> None:
    """Catches exit(1) from a worker thread, a lost message and a log file in the user's folder."""
    code = FATAL.format(randomise="Randomisation(change=lambda model, nominal, noise: None)")
    script = tmp_path / "fatal.py"
    script.write_text("from envs.task import Randomisation\n" + code.replace("lambda", "lambda"))
    answer = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 3, answer
    assert "MuJoCo failed in Hopper-v5, world 3:" in answer.stderr
    assert "survived" not in answer.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"fatal.py"}


def test_pythons_own_calls_of_mujoco_still_raise() -> None:
    """Catches a handler that would end the process for errors that the bindings turn into exceptions."""
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>")
    model.opt.integrator = 99
    with pytest.raises(mujoco.FatalError):
        mujoco.mj_step(model, mujoco.MjData(model))


def test_other_python_threads_run_while_the_worlds_step() -> None:
    engine = make("Humanoid", 256, seed=0)  # a step of a tenth of a second
    move, counted, stop = actions(engine, 1)[0], [0], threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1

    thread = threading.Thread(target=count)
    thread.start()
    before = counted[0]
    engine.step(move)
    during = counted[0] - before
    stop.set()
    thread.join()
    assert during > 1000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory in use from /proc")
def test_memory_does_not_grow() -> None:
    """50,000 steps after a warm-up; a leak of one observation a step would be 3.4 MB."""
    engine = make("HalfCheetah", 50, seed=0)
    moves = actions(engine, 50)
    for move in moves:
        engine.step(move)
    gc.collect()
    before = resident_bytes()
    for _ in range(20):
        for move in moves:
            engine.step(move)
    gc.collect()
    assert resident_bytes() - before < 1_000_000


def heavier(model: Any, nominal: Any, noise: Any) -> None:
    for body in range(1, model.body_mass.shape[0]):
        model.body_mass[body] = nominal.body_mass[body] * (0.5 + noise.uniform[0])
    model.geom_friction[0, 0] = nominal.geom_friction[0, 0] * (0.5 + noise.uniform[1])
    model.gravity[2] = nominal.gravity[2] + 0.1 * noise.normal[0]


def test_worlds_can_hold_models_of_their_own() -> None:
    """Catches a model that is shared, a change that piles up over resets, constants that are not derived anew."""
    engine = make("Hopper", 3, seed=1, randomise=Randomisation(heavier, uniform=2, normal=1))
    nominal = mujoco.MjModel.from_xml_path(engine.task.xml)
    for model in engine.models:
        factor = model.body_mass[1] / nominal.body_mass[1]
        assert 0.5 <= factor < 1.5
        np.testing.assert_allclose(model.body_mass, nominal.body_mass * factor)
        assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())
    assert len({model.body_mass[1] for model in engine.models}) == 3
    masses = set()
    moves = actions(engine, 300)
    for move in moves[:200]:
        engine.step(move)
        masses.add(engine.models[0].body_mass[1])
    assert len(masses) > 3
    state = engine.state_dict()
    expected = [engine.step(move) for move in moves[200:]]
    other = make("Hopper", 3, seed=2, randomise=Randomisation(heavier, uniform=2, normal=1))
    other.load_state_dict(state)
    for move, step in zip(moves[200:], expected, strict=True):
        assert_same(other.step(move), step)
    other.fork(1, [0])
    assert other.models[0].body_mass[1] == other.models[1].body_mass[1]
    with pytest.raises(EnvironmentFault, match="randomised"):
        make("Hopper", 3, seed=1).load_state_dict(state)


def test_models_are_shared_and_untouched_by_default() -> None:
    engine = make("Hopper", 3, seed=1)
    assert all(model is engine.model for model in engine.models)
