"""policy.h and the example controller: strict C99 and C++, no heap, and the same robot as in Python."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from export_runs import SMALL, exported, untrained_run
from forged import edit_config

from dsac import export
from dsac.cli import exit_codes
from dsac.export.c_header import quoted
from dsac.export.runtimes import CLibrary
from dsac.schema.plain_text import in_source
from envs.engine import Engine
from envs.tasks import find_task

EXAMPLE = Path(__file__).parent.parent / "examples" / "controller"
MUJOCO = Path(importlib.util.find_spec("mujoco").origin).parent
STRICT = ("-Wall", "-Wextra", "-Werror", "-pedantic")
STRICTER = ("-Wconversion", "-Wshadow", "-Wdouble-promotion", "-Wmissing-prototypes", "-Wundef")
LANGUAGES = {
    "C99": ("cc", "-std=c99"),
    "C17": ("cc", "-std=c17"),
    "C++11": ("c++", "-x", "c++", "-std=c++11"),
    "C++17": ("c++", "-x", "c++", "-std=c++17"),
    "C++20": ("c++", "-x", "c++", "-std=c++20"),
}
STEP = """\
#include "policy.h"
int step(const float *obs, float *actions);
int step(const float *obs, float *actions) { return policy_check() + policy_step(obs, actions); }
"""
PROGRAM = """\
#include <stdio.h>
#include "policy.h"
int main(void)
{
    static float obs[POLICY_OBS_DIM], actions[POLICY_ACTION_DIM];
    printf("%d %d %s\\n", policy_check(), policy_step(obs, actions), policy_action_name(0));
    return 0;
}
"""

pytestmark = pytest.mark.skipif(not shutil.which("cc") or not shutil.which("c++"), reason="no C and C++ compiler")


@pytest.fixture(scope="module")
def cheetah(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported policy of HalfCheetah with a normaliser and layer norm."""
    words = ("algo.layer_norm=true", "algo.activation=gelu")
    return exported(untrained_run(tmp_path_factory.mktemp("runs"), "HalfCheetah", "ppo", *SMALL, *words), format="c")


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_header_is_strict_c_and_c_plus_plus(cheetah: Path, tmp_path: Path, language: str):
    """Catches a warning that someone's build treats as an error, and C that is no C++."""
    (tmp_path / "main.c").write_text(PROGRAM)
    extra = STRICTER if language.startswith("C1") or language == "C99" else STRICTER[:3]
    built = run(*LANGUAGES[language], *STRICT, *extra, f"-I{cheetah}", tmp_path / "main.c", "-lm", "-o", tmp_path / "a")
    assert built.returncode == 0, built.stderr
    assert run(tmp_path / "a").stdout == "0 0 bthigh\n"


def test_no_heap_and_nothing_beyond_math(cheetah: Path, tmp_path: Path):
    """Catches an allocation, or any other call into the system, in what a controller runs."""
    (tmp_path / "step.c").write_text(STEP)
    flags = ("-std=c99", "-O2", "-ffreestanding", "-fno-stack-protector")
    assert run("cc", *flags, f"-I{cheetah}", "-c", tmp_path / "step.c", "-o", tmp_path / "step.o").returncode == 0
    needed = {line.split()[-1] for line in run("nm", "-u", tmp_path / "step.o").stdout.splitlines()}
    assert needed - {"_GLOBAL_OFFSET_TABLE_", "memcpy", "memset"} <= {"erff", "tanhf", "expf", "sqrtf", "fabsf"}
    assert needed & {"erff"}


def test_a_build_that_cannot_tell_nan_is_refused(cheetah: Path, tmp_path: Path):
    """Catches -ffast-math, which removes the checks for NaN without a word."""
    (tmp_path / "main.c").write_text(PROGRAM)
    built = run("cc", "-std=c99", "-ffast-math", f"-I{cheetah}", tmp_path / "main.c", "-lm", "-o", tmp_path / "a")
    assert "compile it without -ffast-math" in built.stderr
    assert built.returncode != 0


@pytest.mark.parametrize("part", ["layer_1_weight", "obs_mean", "action_high"])
def test_the_check_at_start_up_notices(cheetah: Path, tmp_path: Path, part: str):
    """Catches a policy_check() that passes a header somebody has edited."""
    text = (cheetah / "policy.h").read_text()
    start = text.index("\n", text.index(f"policy_{part}[")) + 1
    end = text.index("\n", start)
    numbers = re.sub(r"[-\d.e+]+f", "0.75f", text[start:end])
    (tmp_path / "policy.h").write_text(text[:start] + numbers + text[end:])
    assert CLibrary(cheetah / "policy.h", 17, 6).check() == 0
    assert CLibrary(tmp_path / "policy.h", 17, 6).check() > 0


def test_the_last_action_is_kept(tmp_path: Path):
    """Catches a hold that answers zero, or whatever the caller's array holds, where the last action is asked for."""
    run_folder = untrained_run(tmp_path, "HalfCheetah", "sac", *SMALL)
    out = exported(run_folder, format="c", safe_action="last")
    library, obs = CLibrary(out / "policy.h", 17, 6), np.load(out / "parity.npz")["obs"][:3].copy()
    assert library.check() == 0
    broken = np.full((1, 17), np.nan, np.float32)
    assert not library(broken)[0].any()  # before there was one
    actions, reasons = library(np.concatenate([obs[:2], broken, broken, obs[2:], broken]))
    assert reasons.tolist() == [0, 0, 1, 1, 0, 1]
    assert (actions[2:4] == actions[1]).all()
    assert (actions[5] == actions[4]).all()
    assert (actions[4] != actions[1]).all()


def build(policy: Path, folder: Path, *language: str) -> Path:
    """The example controller around a policy.h."""
    library = next(MUJOCO.glob("libmujoco.so*"))
    sources = [EXAMPLE / "controller.c", EXAMPLE / "robot.c"]
    places = (f"-I{policy}", "-isystem", MUJOCO / "include")
    program = folder / "controller"
    linked = ("-x", "none", library, f"-Wl,-rpath,{MUJOCO}", "-lm", "-o", program)
    done = run(*language, *STRICT, "-O3", *places, *sources, *linked)
    assert done.returncode == 0, done.stderr
    return program


def asset(name: str) -> Path:
    return Path(importlib.util.find_spec("gymnasium").origin).parent / "envs" / "mujoco" / "assets" / name


@pytest.mark.parametrize("language", ["C99", "C++17"])  # MuJoCo's own headers want C++17
def test_the_example_drives_the_robot_as_python_does(cheetah: Path, tmp_path: Path, language: str):
    """Catches an observation or a joint in another order, a wrong clock or a wrong scale: after 1,000 steps the robot
    stands where the engine has it, to the last bit."""
    assert_same_way(build(cheetah, tmp_path, *LANGUAGES[language]), cheetah, "HalfCheetah", "half_cheetah.xml")


def test_the_example_drives_a_humanoid(tmp_path: Path):
    """Catches what only 348 observations of six kinds show, contact forces among them."""
    out = exported(untrained_run(tmp_path / "runs", "Humanoid", "dsac_t", *SMALL), format="c")
    assert_same_way(build(out, tmp_path, *LANGUAGES["C99"]), out, "Humanoid", "humanoid.xml")


def assert_same_way(program: Path, out: Path, task: str, model: str) -> None:
    """1,000 steps of the program and of the engine, from the model's own state, end at the same place."""
    done = run(program, asset(model), "realtime=0")
    assert done.returncode == 0, done.stderr
    came = float(re.search(r"1000 steps, 0 held, came (\S+) m", done.stdout)[1])
    assert "policy_step: mean" in done.stdout
    assert "jitter" in done.stdout
    endless = find_task(f"{task}-v5")._replace(terminated=None, max_episode_steps=2000)
    env = Engine(endless, 1, 0, action_units="env")
    library = CLibrary(out / "policy.h", env.spec.obs_dim, env.spec.action_dim)
    obs = env.set_state(0, env.model.qpos0, np.zeros(env.model.nv))[None]
    for _ in range(1000):
        obs = env.step(library(obs)[0]).obs
    assert env.get_state(0)[0][0] == came
    assert came != 0


def test_the_example_holds_and_refuses(cheetah: Path, tmp_path: Path):
    """Catches a controller that acts on a broken sensor, runs on another robot, or starts with an edited policy."""
    program = build(cheetah, tmp_path, *LANGUAGES["C99"])
    done = run(program, asset("half_cheetah.xml"), "realtime=0", "steps=20", "fault=7")
    assert "step 7: holding the safe action, qpos[1] is not finite" in done.stdout
    assert "20 steps, 1 held" in done.stdout
    paced = run(program, asset("half_cheetah.xml"), "steps=4")
    assert float(re.search(r"loop: mean (\S+) us", paced.stdout)[1]) > 30_000
    other = run(program, asset("humanoid.xml"), "realtime=0")
    assert other.returncode == 3
    assert run(program, asset("half_cheetah.xml"), "real=0").returncode == 2

    text = (cheetah / "policy.h").read_text()
    (tmp_path / "policy.h").write_text(
        text.replace("policy_action_high[6] = {\n    1.0f", "policy_action_high[6] = {\n    0.5f")
    )
    refused = run(build(tmp_path, tmp_path, *LANGUAGES["C99"]), asset("half_cheetah.xml"))
    assert refused.returncode == 4
    assert "does not compute what torch computed" in refused.stderr


def test_the_makefile_of_the_example(cheetah: Path, tmp_path: Path):
    """Catches a build line in the documents that does not build."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("no make")
    done = run(make, "-C", EXAMPLE, f"POLICY={cheetah}", f"PYTHON={sys.executable}", f"BUILD={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert run(tmp_path / "controller", asset("half_cheetah.xml"), "realtime=0", "steps=10").returncode == 0


CONSTRUCTOR = 'int creat(const char *, int); __attribute__((constructor)) static void f(void) { creat("canary", 420); }'
ENDS_A_COMMENT = f"x*\\\n/ {CONSTRUCTOR} /* x"  # a line that ends in a backslash is joined with the next


def test_the_names_of_folders_are_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a header whose comment ends where the path of the run says so: what follows runs when it is loaded."""
    monkeypatch.chdir(tmp_path)
    run_folder = untrained_run(tmp_path / "runs", "HalfCheetah", "ppo", *SMALL)
    hostile = tmp_path.joinpath(*ENDS_A_COMMENT.split("/", 2))
    shutil.copytree(run_folder, hostile)
    header = (exported(hostile, format="c") / "policy.h").read_text()
    assert not Path("canary").exists()
    assert "creat(" in header
    assert all(" " <= letter <= "~" for letter in header.replace("\n", ""))


def test_a_name_that_is_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches an algorithm's name that leaves the comment of the header and runs during the export."""
    monkeypatch.chdir(tmp_path)
    run_folder = untrained_run(tmp_path / "runs", "HalfCheetah", "ppo", *SMALL)
    edit_config(run_folder, lambda tree: tree["algo"].update(name=ENDS_A_COMMENT))
    assert export.main([f"run={run_folder}", "format=c", "episodes=0", "rows=256"]) == exit_codes.USAGE
    assert not Path("canary").exists()


@pytest.mark.parametrize("text", [ENDS_A_COMMENT, "*??/\n/", "/*/", "a\\", 'a"; int x; "', "\x85\u2028\x1b[2J", "???/"])
def test_text_in_a_header_is_one_harmless_line(text: str):
    """Catches text that ends a comment or a string, or joins its line with the next: a backslash, or a trigraph."""
    line = in_source(text)
    assert line.isascii()
    assert line.isprintable()
    assert not [mark for mark in ("*/", "/*", "\\", "??") if mark in line]
    assert quoted(text)[1:-1].replace('\\"', "").count('"') == 0
