"""Tasks from outside the package: one that works, many that are wrong, and a cache that notices every edit."""

from __future__ import annotations

import importlib
import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import mujoco
import numpy as np
import pytest
from said import assert_says

import envs
from envs.contract import EnvironmentFault, UnsuitableEnvironment
from envs.engine import Engine
from envs.native.compile_cache import callback, fingerprint
from envs.native.physics import PHYSICS_ARRAYS
from envs.native.worlds import SIGNATURES
from envs.task_checks import functions_of, lint
from envs.tasks import MODULES, find_task

ROOT = Path(__file__).parents[1]
CRANE = {"xml": str(ROOT / "examples" / "crane" / "crane.xml"), "task": "examples.crane.task"}
_numbers = itertools.count()

SLIDER = """
<mujoco>
  <worldbody>
    <body name="block"><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.1"/><site name="top"/></body>
  </worldbody>
  <actuator><motor name="push" joint="slide" ctrlrange="-2 2" ctrllimited="true"/></actuator>
  <sensor><jointpos joint="slide" name="place"/></sensor>
</mujoco>
"""
TASK = """
import math
from envs.task import Task, entry_names, helper, write_row
{imports}
WEIGHT = 1.0

def reset(physics, state, noise):
    physics.qpos[0] = noise.uniform[0]

def observe(physics, state, noise, observation):
    write_row(physics.qvel, 0, observation, write_row(physics.qpos, 0, observation, 0))

def reward(physics, state, terms):
    terms[0] = WEIGHT
    return {reward}

TASK = Task(
    id="Slider-v0", xml=None, frame_skip=2, max_episode_steps=10, reward_terms=("reward_still",),
    observation_names=lambda model: entry_names(model, "qpos") + entry_names(model, "qvel"),
    reset=reset, observe=observe, reward=reward, uniform=1,
    actuators=("push",), bodies=("block",), sites=("top",), sensors=("place",),
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "robot.xml").write_text(SLIDER)
    return tmp_path


def write(folder: Path, text: str, imports: str = "", reward: str = "terms[0] + physics.dt") -> str:
    name = f"own_task_{next(_numbers)}"
    (folder / f"{name}.py").write_text(text.replace("{imports}", imports).replace("{reward}", reward))
    importlib.invalidate_caches()
    return name


def build(folder: Path, task: str) -> Engine:
    engine = envs.make("custom", 2, 0, xml=str(folder / "robot.xml"), task=task)
    assert isinstance(engine, Engine)
    return engine


def first_reward(folder: Path, task: str) -> float:
    return float(build(folder, task).step(np.zeros((2, 1), dtype=np.float32)).reward[0])


def reimported(name: str) -> ModuleType:
    del sys.modules[name]
    importlib.invalidate_caches()
    return importlib.import_module(name)


def test_the_crane_of_the_examples_works() -> None:
    engine = envs.make("custom", 3, 0, **CRANE)
    assert engine.spec.id == "Crane-v0"
    assert (engine.spec.obs_dim, engine.spec.action_names) == (9, ("trolley", "hoist"))
    generator, ends = np.random.default_rng(0), 0
    for _ in range(500):
        step = engine.step(generator.uniform(-1, 1, (3, 2)).astype(np.float32))
        assert not step.invalid.any()
        np.testing.assert_allclose(step.reward, step.reward_terms.sum(axis=1), rtol=1e-5, atol=1e-6)
        ends += int((step.terminated | step.truncated).sum())
    assert ends


def test_a_reward_that_is_not_finite_is_told_from_a_state_that_mujoco_threw_away(folder: Path) -> None:
    """Catches a task's own mistake being put down to the simulation."""
    engine = build(folder, write(folder, TASK, reward="math.nan if physics.qpos[0] > -5.0 else 0.0"))
    assert engine.step(np.zeros((2, 1), dtype=np.float32)).invalid.all()
    assert_says(engine.failure, "Slider-v0", "world 0", "not finite")


def test_the_crane_carries_another_load_in_each_world_where_asked() -> None:
    """Catches a randomisation that envs.make drops, one that is on by default, and one that drifts over resets."""
    plain = envs.make("custom", 3, 0, **CRANE)
    engine = envs.make("custom", 3, 0, **CRANE, randomise=True)
    nominal = plain.model.body("load").mass[0]
    assert {plain.simulator(world)[0].body("load").mass[0] for world in range(3)} == {nominal}
    loads = set()
    for seed in range(20):
        engine.reset(seed)
        loads |= {engine.simulator(world)[0].body("load").mass[0] for world in range(3)}
    assert len(loads) == 60
    assert nominal / 2 < min(loads) < 0.6 * nominal < 1.4 * nominal < max(loads) < 1.5 * nominal
    with pytest.raises(UnsuitableEnvironment, match="names no randomisation"):
        envs.make("Hopper", 1, 0, randomise=True)


def test_a_task_sees_what_the_bindings_see(folder: Path) -> None:
    """Each array of Physics in turn, against the array of that name: catches a shifted address or shape."""
    lines = "\n".join(
        f"    entry = copy_all(physics.{name}, observation, entry)"
        if name
        in (
            "xpos",
            "xquat",
            "xipos",
            "subtree_com",
            "cinert",
            "cvel",
            "cfrc_ext",
            "xfrc_applied",
            "site_xpos",
            "geom_xpos",
            "mocap_pos",
        )
        else f"    entry = write_row(physics.{name}, 0, observation, entry)"
        for name in PHYSICS_ARRAYS
    )
    text = f"""
import mujoco
from envs.task import Task, helper, write_row
@helper
def copy_all(values, target, start):
    for index in range(values.shape[0]):
        start = write_row(values[index], 0, target, start)
    return start
def reset(physics, state, noise):
    for index in range(physics.qvel.shape[0]):
        physics.qvel[index] = noise.uniform[index]
def observe(physics, state, noise, observation):
    entry = 0
{lines}
    observation[entry] = physics.bodies[0]
    observation[entry + 1] = physics.dt
    observation[entry + 2] = physics.timestep
def reward(physics, state, terms):
    return 0.0
TASK = Task(id="All-v0", xml=None, frame_skip=3, max_episode_steps=9, reward_terms=(), reset=reset, observe=observe,
    reward=reward, uniform=3, bodies=("load",), contact_forces=True,
    observation_names=lambda model: [str(index) for index in range({{count}})])
"""
    model = mujoco.MjModel.from_xml_path(CRANE["xml"])
    data = mujoco.MjData(model)
    count = sum(getattr(model if name == "body_mass" else data, name).size for name in PHYSICS_ARRAYS) + 3
    engine = envs.make("custom", 2, 0, xml=CRANE["xml"], task=write(folder, text.replace("{count}", str(count))))
    engine.step(np.full((2, 2), 0.5, dtype=np.float32))
    step = engine.step(np.full((2, 2), 0.5, dtype=np.float32))
    for world, (model, data) in enumerate(zip(engine.models, engine.datas, strict=True)):
        values = [np.ravel(getattr(model if name == "body_mass" else data, name)) for name in PHYSICS_ARRAYS]
        expected = np.concatenate([*values, [model.body("load").id, 0.015, 0.005]]).astype(np.float32)
        np.testing.assert_array_equal(step.next_obs[world], expected)


def test_an_edited_reward_is_seen_whatever_the_clock_of_the_file_says(folder: Path) -> None:
    """Catches a stale cache: the edit keeps the file's size and time, which is all that numba looks at."""
    name = write(folder, TASK)
    assert first_reward(folder, name) == pytest.approx(1.004)
    path = folder / f"{name}.py"
    before = path.stat()
    path.write_text(path.read_text().replace("WEIGHT = 1.0", "WEIGHT = 2.0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    sys.dont_write_bytecode, kept = True, sys.dont_write_bytecode
    for stale in (folder / "__pycache__").glob("*"):
        stale.unlink()
    reimported(name)
    sys.dont_write_bytecode = kept
    assert first_reward(folder, name) == pytest.approx(2.004)


def test_an_edited_helper_of_another_file_is_seen(folder: Path) -> None:
    """Catches code of an imported helper, and an imported constant, that live on in the cache of the task's file."""
    helper = folder / f"own_helper_{next(_numbers)}.py"
    helper.write_text("from envs.task import helper\nBONUS = 1.0\n@helper\ndef bonus():\n    return BONUS\n")
    name = write(folder, TASK, f"from {helper.stem} import bonus, BONUS", "bonus() + 10.0 * BONUS")
    assert first_reward(folder, name) == 11.0
    helper.write_text(helper.read_text().replace("BONUS = 1.0", "BONUS = 5.0  # edited"))
    reimported(helper.stem)
    reimported(name)
    assert first_reward(folder, name) == 55.0


def test_an_unchanged_task_is_not_compiled_again(folder: Path) -> None:
    name = write(folder, TASK)
    task = find_task(name)
    build(folder, name)
    again = reimported(name).TASK
    assert fingerprint(again.reward) == fingerprint(task.reward)
    assert callback(again.reward, SIGNATURES["reward"]).cache_hits == 1


COLD_START = """
import os, sys
import envs.engine
from envs.native.compile_cache import callback
os.environ["NUMBA_CACHE_DIR"] = sys.argv[1]
import numpy as np
engine = envs.make("Hopper", 2, 0)
for _ in range(20):
    step = engine.step(np.full((2, 3), 0.3, dtype=np.float32))
hits = callback(engine.task.reward, envs.native.worlds.SIGNATURES["reward"]).cache_hits
print(step.obs.tobytes().hex(), hits)
"""


def test_cold_starts_at_the_same_time_do_not_harm_the_cache(tmp_path: Path) -> None:
    command = [sys.executable, "-c", COLD_START, str(tmp_path / "cache")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    together = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    answers = [process.communicate()[0].split() for process in together]
    after = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    assert len({answer[0] for answer in [*answers, after]}) == 1
    assert after[1] == "1"


WRONG = {
    "index beyond the observation": (
        "    write_row(physics.qvel",
        "    observation[2] = 0.0\n    write_row(physics.qvel",
        "observation[2] = 0.0",
        "IndexError",
    ),
    "an entry that is not written": (
        "    write_row(physics.qvel, 0, observation, write_row(physics.qpos, 0, observation, 0))",
        "    observation[1] = physics.qpos[0]",
        "def observe",
        r"leaves 1 of the 2 entries of observation unwritten.*qpos\[0\]",
    ),
    "too little noise": ("uniform[0]", "uniform[1]", "uniform[1]", "IndexError"),
    "an unknown quantity": ("physics.qpos[0] = ", "physics.qposs[0] = ", "physics.qposs[0]", "qposs"),
    "a type that cannot be compiled": (
        "    terms[0] = WEIGHT",
        "    terms[0] = (1.0, 2.0)[int(uniform_index(physics))]\n    terms[0] = physics",
        "terms[0] = physics",
        "TypeError|ValueError",
    ),
    "an actuator that is not there": (
        'actuators=("push",)',
        'actuators=("pusch",)',
        'actuators=("pusch",)',
        "no actuator named 'pusch'; did you mean 'push'",
    ),
    "a body that is not there": (
        'bodies=("block",)',
        'bodies=("wheel",)',
        'bodies=("wheel",)',
        "no body named 'wheel'",
    ),
    "a slice": ("    terms[0] = WEIGHT", "    terms[:] = WEIGHT", "terms[:] = WEIGHT", "a slice"),
    "a library call": (
        "    terms[0] = WEIGHT",
        "    terms[0] = WEIGHT\n    physics.qpos.sum()",
        "qpos.sum()",
        r"sum\(\)",
    ),
    "a while loop": (
        "    terms[0] = WEIGHT",
        "    while False:\n        terms[0] = WEIGHT",
        "while False",
        "a while loop",
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_mistake_in_a_task_names_its_line(folder: Path, mistake: str) -> None:
    """Catches stray writes into memory, pages of a compiler's output, and messages without a place."""
    right, wrong, line, message = WRONG[mistake]
    assert right in TASK
    name = write(folder, TASK.replace(right, wrong).replace("uniform_index(physics)", "0"))
    path = folder / f"{name}.py"
    number = 1 + [line in text for text in path.read_text().splitlines()].index(True)
    with pytest.raises(EnvironmentFault, match=message) as refused:
        build(folder, name)
    assert f"{path}:{number}" in str(refused.value)
    assert len(str(refused.value)) < 1000


def test_an_error_of_the_compiler_names_its_line(folder: Path) -> None:
    """A type that changes with the branch passes as plain Python and only fails in the compiler."""
    text = TASK.replace(
        "    terms[0] = WEIGHT", "    value = physics.qpos if physics.dt > 2.0 else 1.0\n    terms[0] = WEIGHT"
    )
    name = write(folder, text, reward="terms[0] if physics.dt < 2.0 else value[0]")
    with pytest.raises(EnvironmentFault, match="reward cannot be compiled") as refused:
        build(folder, name)
    lines = (folder / f"{name}.py").read_text().splitlines()
    numbers = [number for number, line in enumerate(lines, 1) if "value" in line or line.startswith("def reward")]
    assert any(f"{name}.py:{number}:" in str(refused.value) for number in numbers)


OLD = """
from envs.task import Task, entry_names

def reset(physics, uniform, normal):
    physics.qpos[0] = uniform[0]

def observe(physics, observation):
    observation[0] = physics.qpos[0]

def remember(physics, memory):
    memory[0] = physics.qpos[0]

def reward(physics, memory, terms):
    return physics.qpos[0] - memory[0]

TASK = Task(
    id="Slider-v0", xml=None, frame_skip=2, max_episode_steps=10, observation_names=lambda model: ["q"],
    reward_terms=(), reset=reset, observe=observe, reward=reward, uniform=1, remember=remember, memory=1,
)
"""
MENDED_FIELDS = OLD.replace("remember=remember, memory=1", 'command=remember, state=("x (m)",)')


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OLD, ("Task has no remember", "command=", "(physics, state, noise)")),
        (OLD.replace("remember=remember, ", ""), ("Task has no memory", "state=(")),
        (OLD.replace("remember=remember, memory", "unifrom"), ("Task has no unifrom", "did you mean uniform?")),
        (
            MENDED_FIELDS,
            (
                *("write def reset(physics, state, noise)", "write def remember(physics, state, noise)"),
                *("write def observe(physics, state, noise, observation)", "write def reward(physics, state, terms)"),
                *("memory is now state", "normal is now noise.normal", "uniform is now noise.uniform"),
            ),
        ),
    ],
)
def test_a_task_file_of_the_first_form_is_told_in_a_line_how_to_mend_it(
    folder: Path, text: str, said: tuple[str, ...]
) -> None:
    """Catches a traceback, and an old reset, whose three arguments would be taken for those of today."""
    name = write(folder, text)
    with pytest.raises(EnvironmentFault) as refused:
        build(folder, name)
    assert_says(str(refused.value), f"{name}.py:", *said)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('privileged_names=("a (m)",)', ("privileged_names", "no privileged")),
        ('actions=(Action("speed (m/s)", -1.0, 1.0),)', ("actions", "no actuate")),
        ('actuate=idle, actions=(Action("speed (m/s)", 1.0, -1.0),)', ("limits", "speed (m/s)", "1 to -1")),
        ("actuate=idle", ("leaves 1 of the 1 entries of physics.ctrl", "push")),
        ("command=beyond", ("IndexError", "state of 0", "noise.uniform of 0")),
    ],
)
def test_what_is_missing_in_a_task_is_named(folder: Path, change: str, said: tuple[str, ...]) -> None:
    """Catches controls that nobody writes, names without a function, and a state that is written and not named."""
    functions = (
        "from envs.task import Action\n"
        "def idle(physics, state, action, noise):\n    pass\n"
        "def beyond(physics, state, noise):\n    state[0] = 1.0\n"
    )
    name = write(folder, TASK.replace("uniform=1,", f"uniform=1, {change},"), imports=functions)
    with pytest.raises(EnvironmentFault) as refused:
        build(folder, name)
    assert_says(str(refused.value), *said)


def test_models_that_cannot_be_used_are_refused(folder: Path) -> None:
    name = write(folder, TASK)
    with pytest.raises(EnvironmentFault, match=r"env\.xml"):
        envs.make("custom", 1, 0, task=name)
    with pytest.raises(EnvironmentFault, match="cannot read"):
        envs.make("custom", 1, 0, task=name, xml=str(folder / "nowhere.xml"))
    (folder / "free.xml").write_text(SLIDER.replace('ctrlrange="-2 2" ctrllimited="true"', ""))
    with pytest.raises(UnsuitableEnvironment, match=r"no ctrlrange to the actuators \['push'\]"):
        envs.make("custom", 1, 0, task=name, xml=str(folder / "free.xml"))
    with pytest.raises(EnvironmentFault, match="PYTHONPATH"):
        envs.make("custom", 1, 0, task="no_such_package.task", xml="robot.xml")
    with pytest.raises(UnsuitableEnvironment, match=r"env\.task="):
        envs.make("custom", 1, 0, xml="robot.xml")


@pytest.mark.parametrize("name", [*MODULES, "examples.crane.task"])
def test_tasks_keep_to_the_scalar_subset(name: str) -> None:
    assert lint(functions_of(find_task(name)).values()) == []
