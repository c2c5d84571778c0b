"""The commands from end to end: train, evaluate, stop, resume; what is refused, with which exit code, what is left."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from said import assert_says
from small_runs import (
    assert_same,
    final_state,
    lasting_rows,
    only_run,
    rows,
    small_config,
    small_words,
    stop_at,
    train,
    train_whole,
)  # fmt: skip

from dsac import evaluate
from dsac.algorithms import names
from dsac.callbacks import evaluator
from dsac.cli import exit_codes
from dsac.cli.exit_codes import with_exit_code
from dsac.persistence import atomic, checkpoint
from dsac.persistence.policies import load_policy, read_policy
from dsac.runs.folder import create
from dsac.train import main
from envs.contract import EnvironmentFault

ROOT = Path(__file__).parent.parent
ALGORITHMS = names()


def refused(words: list[str], runs: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on stderr of words that the trainer refuses with exit 2, making no folder."""
    assert main([*words, f"runs={runs}"]) == exit_codes.USAGE
    assert not runs.exists()
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, in a folder with a space and an umlaut."""
    return Path(shutil.copytree(finished, tmp_path / "a run ü"))


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_train_evaluate_stop_resume(
    algo: str, finished_runs: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches an algorithm whose state is not whole: stopped three times, it must equal the run that never stopped.

    Catches also a file that is missing at the end, curves that differ after a resume, and a last line that misleads.
    """
    whole = finished_runs(algo)
    config = small_config(tmp_path / "stopped", algo)
    assert train(config, None, [stop_at(0, 20)]) == exit_codes.RESUMABLE
    run = only_run(tmp_path / "stopped")
    assert f"next: python -m dsac.train resume={run}" in capsys.readouterr().out
    for env_steps in (94, 130):  # 94: the next row of curves comes before the next policy step
        assert train(config, run, [stop_at(env_steps)]) == exit_codes.RESUMABLE
    reached = 160 if algo == "ppo" else 130
    capsys.readouterr()
    assert main([f"resume={run}"]) == exit_codes.FINISHED
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith(f"resumed {run} at {reached} env steps")

    assert_same(final_state(run), final_state(whole))
    assert lasting_rows(run) == lasting_rows(whole)
    for which in ("best", "last"):
        assert_same(*({k: v.numpy() for k, v in load_policy(r, which).state_dict().items()} for r in (run, whole)))
    sessions = json.loads((run / "run.json").read_text())["sessions"]
    assert len(sessions) == 4
    assert sessions[0]["at_env_steps"] == 0
    assert not list(run.rglob(".*"))

    words = [f"run={run}", "episodes=3"]
    assert evaluate.main(words) == exit_codes.FINISHED
    assert "95% interval" in capsys.readouterr().out
    reports = []
    for folder in (run, whole):
        assert evaluate.main([f"run={folder}", "episodes=3", "which=last", "--json"]) == exit_codes.FINISHED
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0]["returns"] == reports[1]["returns"]
    assert (reports[0]["env_steps"], reports[0]["episodes"], reports[0]["env"]) == (256, 3, "InvertedPendulum-v5")


def test_evaluation_does_not_touch_training(tmp_path: Path):
    """Catches an evaluation that draws from training's generators, steps its worlds or moves its statistics."""
    often = train_whole(small_config(tmp_path / "often", "dsac_t", "eval_every_env_steps=10"))
    rarely = train_whole(small_config(tmp_path / "rarely", "dsac_t", "eval_every_env_steps=10000", "eval.episodes=3"))
    assert_same(final_state(often), final_state(rarely))


def test_scores_are_those_of_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches training and re-scoring that measure different things."""
    run = train_whole(small_config(tmp_path, "sac", "eval.episodes=12"))
    logged = [float(row["value"]) for row in rows(run) if row["tag"] == "eval/return"]
    best = json.loads((run / "learner-0" / "best" / "manifest.json").read_text())
    assert best["score"]["eval/return"] == max(logged)
    config, _ = small_config(tmp_path), capsys.readouterr()
    from dsac.seeding import derived_seed

    seed = derived_seed(config.seed, "evaluation", best["env_steps"])
    assert evaluate.main([f"run={run}", "episodes=12", f"seed={seed}", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == max(logged)


def test_one_episode_has_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches an interval of width zero, and NaN in JSON or in the curves."""
    run = train_whole(small_config(tmp_path, "sac", "eval.episodes=1"))
    assert {row["tag"] for row in rows(run) if row["tag"].startswith("eval/")} == {
        "eval/return", "eval/return_std", "eval/length"
    }  # fmt: skip
    capsys.readouterr()
    assert evaluate.main([f"run={run}", "episodes=1", "--json"]) == exit_codes.FINISHED
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["interval_95"] is None
    assert evaluate.main([f"run={run}", "episodes=1"]) == exit_codes.FINISHED
    assert "interval" not in capsys.readouterr().out


def test_a_larger_budget_continues_and_is_kept(copied: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a budget that is forgotten at the next resume, and a finished run that is damaged or trained again."""
    run = copied
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    start = time.process_time()
    assert main([f"resume={run}"]) == exit_codes.FINISHED
    assert time.process_time() - start < 3
    assert f"{run} is finished: 256 env steps" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before

    config = small_config(run.parent, "dsac_t", "total_env_steps=320")
    assert train(config, run, [stop_at(290)]) == exit_codes.RESUMABLE
    assert main([f"resume={run}"]) == exit_codes.FINISHED
    assert rows(run)[-1]["env_steps"] == "320"
    assert main([f"resume={run}", "total_env_steps=3_5_2", "keep_checkpoints=1", "device=cpu"]) == exit_codes.FINISHED
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step-000000000392"]


def test_damaged_checkpoint_is_passed_over(copied: Path, finished: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a resume that dies of one bad file, or that takes it for good."""
    newest = checkpoint.committed(copied / "checkpoints")[-1]
    content = bytearray((newest / "state.safetensors").read_bytes())
    content[-1] ^= 1
    (newest / "state.safetensors").write_bytes(content)
    assert main([f"resume={copied}"]) == exit_codes.FINISHED
    captured = capsys.readouterr()
    assert captured.out.startswith(f"resumed {copied} at 192 env steps")
    assert f"{newest / 'state.safetensors'}: differs" in captured.err
    assert_same(final_state(copied), final_state(finished))
    assert rows(copied)[-1]["env_steps"] == "256"


def test_runs_that_cannot_continue_say_why(copied: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a traceback, or a fresh start in silence."""
    assert main([f"resume={tmp_path / 'nowhere'}"]) == exit_codes.USAGE
    assert "is not a run folder" in capsys.readouterr().err
    assert evaluate.main([f"run={tmp_path / 'nowhere'}"]) == exit_codes.USAGE
    assert "is not a run folder" in capsys.readouterr().err

    config = yaml.safe_load((copied / "config.yaml").read_text())
    config["total_env_steps"], config["algo"]["hidden_sizes"] = 1000, [9, 9]
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    before = (copied / "learner-0" / "metrics.csv").read_bytes()
    assert main([f"resume={copied}"]) == exit_codes.USAGE
    assert_says(capsys.readouterr().err, "algo.hidden_sizes=[9, 9]", "[8, 8]", "fixed")
    assert (copied / "learner-0" / "metrics.csv").read_bytes() == before

    shutil.rmtree(copied / "checkpoints")
    assert main([f"resume={copied}"]) == exit_codes.STORAGE
    assert "no checkpoint there" in capsys.readouterr().err

    (copied / "learner-0" / "best" / "state.json").write_text("{}")
    shutil.rmtree(copied / "learner-0" / "last")
    assert evaluate.main([f"run={copied}"]) == exit_codes.STORAGE
    assert "differs from its manifest" in capsys.readouterr().err
    assert evaluate.main([f"run={copied}", "which=last"]) == exit_codes.USAGE
    assert "no last policy of learner 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "run is missing"),
        (["run=x", "episode=3"], "did you mean episodes?"),
        (["run=x", "which=beste"], "did you mean best?"),
        (["run=x", "episodes=0"], "episodes=0 must be at least 1"),
        (["x"], "'x' is not key=value"),
    ],
)
def test_evaluate_refuses(words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    """Catches a word of the second command that is ignored."""
    assert evaluate.main(words) == exit_codes.USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["env=Humonoid"], "nearest: Humanoid"),
        (["env=gymnasium"], "env.id="),
        (["env=gymnasium", "env.id=CartPole-v1"], "action space is Discrete(2)"),
        (["env=InvertedPendulum", "algo=dsac_tt"], "did you mean dsac_t?"),
        (["env=InvertedPendulum", "total_env_step=5"], "did you mean total_env_steps?"),
        (["env=InvertedPendulum", "seed=1.5"], "seed=1.5 must be a whole number"),
        (["env=InvertedPendulum", "algo.replay_capacity=1e5", "algo.gamma=2"], "algo.gamma=2.0 must be at most 1.0"),
        pytest.param(
            ["env=InvertedPendulum", "device=cuda"], "use device=cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="asks what a machine without CUDA is told"),
        ),
    ],
)  # fmt: skip
def test_bad_input_makes_no_folder(words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a run folder that exists before the config is known to be good."""
    (line,) = [line for line in refused(words, tmp_path / "runs", capsys) if not line.startswith("warning: ")]
    assert line.startswith("error: ")
    assert said in line


def test_bad_input_is_refused_within_seconds(tmp_path: Path):
    """Catches a check that comes after the worlds and the replay are built, and a wrong exit code of the process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run_trainer("env=gymnasium", "env.id=Pendulun-v1", "algo.gamma=2", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == exit_codes.USAGE
    assert [line.partition("=")[0] for line in done.stderr.splitlines()] == ["error: algo.gamma", "error: env.id"]
    assert list(tmp_path.iterdir()) == []
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 5


def run_trainer(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The trainer as a process of its own."""
    command = [sys.executable, "-m", "dsac.train", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("name", ["envs/__init__.py", "envs.py"])
def test_another_package_called_envs_is_named(name: str, tmp_path: Path):
    """Catches a user's ./envs that is imported in place of ours and fails in some far-off line."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("print('imported')")
    done = run_trainer("env=InvertedPendulum", cwd=tmp_path)
    assert done.returncode == exit_codes.USAGE
    assert done.stderr.startswith(f"error: {tmp_path / name} hides the package envs")
    assert "imported" not in done.stdout


def test_any_gymnasium_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches an id that does not reach the worlds, or that ends up in the path of the run with its colon."""
    words = [w for w in small_words(tmp_path, "sac") if not w.startswith("env=")]
    env = ["env=gymnasium", "env.id=gymnasium.envs.classic_control:Pendulum-v1", "env.max_episode_steps=5"]
    assert main([*words, *env]) == exit_codes.FINISHED
    run = only_run(tmp_path)
    assert run.parent.relative_to(tmp_path) == Path("Pendulum-v1/sac")
    last = capsys.readouterr().out.splitlines()[-1]
    assert f"python -m dsac.evaluate run={run} env.id=gymnasium.envs.classic_control:Pendulum-v1 " in last
    assert evaluate.main([f"run={run}", "episodes=2"]) == exit_codes.USAGE
    assert "name it again, env.id=gymnasium.envs.classic_control:Pendulum-v1" in capsys.readouterr().err
    assert evaluate.main([f"run={run}", "episodes=2", env[1]]) == exit_codes.FINISHED
    assert main([f"resume={run}", "total_env_steps=260"]) == exit_codes.USAGE
    assert main([f"resume={run}", "total_env_steps=260", env[1]]) == exit_codes.FINISHED
    assert "mean length 5" in capsys.readouterr().out


def test_an_algorithm_of_the_users_own_trains_and_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_runs: Callable[[str], Path]
):
    """Catches a user's algorithm that trains but cannot be continued."""
    source = (ROOT / "dsac" / "algorithms" / "ddpg.py").read_text().replace('"ddpg"', '"mine"')
    (tmp_path / "their_package").mkdir()
    (tmp_path / "their_package" / "mine.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    config = small_config(tmp_path / "runs", "their_package.mine")
    assert train(config, None, [stop_at(100)]) == exit_codes.RESUMABLE
    run = only_run(tmp_path / "runs")
    assert main([f"resume={run}"]) == exit_codes.USAGE
    assert main([f"resume={run}", "algo=their_package.mine"]) == exit_codes.FINISHED
    assert evaluate.main([f"run={run}", "episodes=2"]) == exit_codes.FINISHED
    assert_same(final_state(run), final_state(finished_runs("ddpg")))


def test_starts_in_one_second_have_folders_of_their_own(tmp_path: Path):
    """Catches two runs that write into one folder."""
    configs = [small_config(tmp_path, "ppo", "total_env_steps=32") for _ in range(3)]
    assert [train(config, None) for config in configs] == [0, 0, 0]
    assert len(list(tmp_path.glob("*/*/*/config.yaml"))) == 3


def test_eight_starts_at_once_have_folders_of_their_own(tmp_path: Path):
    """Catches a name that is looked for first and taken later."""
    config = small_config(tmp_path / "runs" / "not yet there")
    with ThreadPoolExecutor(8) as pool:
        folders = [job.result() for job in [pool.submit(create, config) for _ in range(8)]]
    assert len(set(folders)) == 8
    assert all(folder.is_dir() for folder in folders)


def test_a_stop_during_evaluation_discards_it_and_the_resumed_run_makes_it(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a stop that waits for thousands of episodes, half an evaluation in the curves, and one that is lost."""
    original, count = evaluator.score, 0

    def interrupted(policy: Any, env: Any, episodes: int, *others: Any) -> Any:
        nonlocal count
        count += 1
        if count in (2, 5):  # in mid-run, and the last one of all
            os.kill(os.getpid(), signal.SIGTERM)
            return original(policy, env, 10**9, *others)
        return original(policy, env, episodes, *others)

    monkeypatch.setattr(evaluator, "score", interrupted)
    config = small_config(tmp_path / "stopped")
    before = signal.getsignal(signal.SIGTERM)
    assert train(config, None) == exit_codes.RESUMABLE
    run = only_run(tmp_path / "stopped")
    assert rows(run)[-1]["env_steps"] == "128"
    assert "eval/return" not in [row["tag"] for row in rows(run) if row["env_steps"] == "128"]
    assert train(config, run) == exit_codes.RESUMABLE
    assert_says(capsys.readouterr().out, "SIGTERM", "saved", "256 env steps")
    assert train(config, run) == exit_codes.FINISHED
    assert sorted(lasting_rows(run)) == sorted(lasting_rows(finished))
    assert_same(final_state(run), final_state(finished))
    assert signal.getsignal(signal.SIGTERM) == before
    assert train(config, run) == exit_codes.FINISHED
    assert "is finished: 256 env steps" in capsys.readouterr().out


def test_a_stop_before_the_first_step_saves(tmp_path: Path):
    """Catches a run of no steps that cannot be saved or continued."""
    config = small_config(tmp_path)
    assert train(config, None, [stop_at(0)]) == exit_codes.RESUMABLE
    run = only_run(tmp_path)
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    assert names == ["step-000000000000", "step-000000000002"]
    assert train(config, run, [stop_at(0)]) == exit_codes.RESUMABLE


def start_and_signal(
    words: list[str], number: signal.Signals, cwd: Path, seconds: float
) -> tuple[int, str, str, float]:
    """Start the trainer, signal it once it has trained for a moment; exit code, stdout, stderr, seconds to stop."""
    command = [sys.executable, "-m", "dsac.train", *words]
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        while "env steps" not in process.stderr.readline():
            assert process.poll() is None
        time.sleep(seconds)
        signalled = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
    return process.returncode, out, err, time.monotonic() - signalled


def test_signals_save_and_stop(tmp_path: Path):
    """Catches a Ctrl-C or SIGTERM that loses the run, ends it with a traceback or another exit code, or takes long."""
    words = small_words(tmp_path / "runs", "sac", "total_env_steps=1e9", "algo.warmup_env_steps=1e6")
    words += ["algo.replay_capacity=1e6", "updates_per_env_step=1"]
    code, out, err, seconds = start_and_signal(words, signal.SIGINT, tmp_path, 0.2)
    assert (code, "Traceback" in err) == (exit_codes.RESUMABLE, False)
    assert seconds < 20  # less than what a stop is given before it is cut short, on a machine at work
    assert_says(out, "SIGINT", "saved", "0 env steps")
    run = only_run(tmp_path / "runs")
    code, out, err, _ = start_and_signal([f"resume={run}"], signal.SIGTERM, tmp_path, 0.2)
    assert (code, "Traceback" in err) == (exit_codes.RESUMABLE, False)
    assert out.startswith(f"resumed {run} at 0 env steps")
    steps = [manifest["step"] for manifest in map(atomic.read_manifest, checkpoint.committed(run / "checkpoints"))]
    assert len(steps) == 2
    assert steps[1] > steps[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (EnvironmentFault("the arm fell off"), exit_codes.ENVIRONMENT),
        (OSError(28, "No space left on device"), exit_codes.STORAGE),
        (MemoryError("the replay is too large"), exit_codes.RESOURCES),
        (MemoryError(), exit_codes.RESOURCES),
        (OSError(12, "Cannot allocate memory"), exit_codes.RESOURCES),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), exit_codes.RESOURCES),
        (RuntimeError("can't start new thread"), exit_codes.RESOURCES),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            exit_codes.RESOURCES,
        ),
        (torch.OutOfMemoryError("CUDA out of memory"), exit_codes.RESOURCES),
        (KeyboardInterrupt(), exit_codes.INTERRUPTED),
    ],
)
def test_each_failure_has_its_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]):
    """Catches a script around the trainer that cannot tell a full disk from a typo."""

    def fails() -> int:
        raise error

    assert with_exit_code(fails) == code
    assert capsys.readouterr().err.startswith("error: ")


def test_a_limit_of_memory_is_one_line(tmp_path: Path):
    """Catches a traceback out of the handler of errors, whose own imports find no room either."""

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))

    command = [sys.executable, "-m", "dsac.train", *small_words(tmp_path / "runs")]
    done = subprocess.run(command, preexec_fn=limited, capture_output=True, text=True, check=False)
    assert done.returncode == exit_codes.RESOURCES
    (line,) = done.stderr.splitlines()
    assert all(word in line for word in ("error: out of memory", "ulimit -v"))


def test_a_defect_keeps_its_traceback():
    """Catches a mistake in the program that is reported as one of the user's."""
    with pytest.raises(ZeroDivisionError):
        with_exit_code(lambda: 1 // 0)


def test_replay_beyond_memory_is_refused_before_a_folder_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a run that is killed for its memory after hours."""
    words = small_words(tmp_path / "runs", "sac", "algo.replay_capacity=1e12")
    assert main(words) == exit_codes.RESOURCES
    assert "a capacity of" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_run_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a traceback where a path was wrong."""
    (tmp_path / "file").write_text("")
    assert main(small_words(tmp_path / "file", "ppo")) == exit_codes.STORAGE
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_help_shows_an_algorithms_settings(capsys: pytest.CaptureFixture[str]):
    """Catches a help that leaves the settings to be guessed."""
    assert main(["algo=ppo", "--help"]) == 0
    out = capsys.readouterr().out
    assert "gae_lambda" in out
    assert "eval_every_env_steps" in out
    assert all(name in out for name in ALGORITHMS)


def test_policy_is_what_the_run_learned(finished: Path):
    """Catches a last policy that lags behind the checkpoint."""
    policy, manifest = read_policy(finished, "last", 0)
    state, newest = checkpoint.read(checkpoint.committed(finished / "checkpoints")[-1])
    saved = state["trainer"]["algorithm"]["actor.output.weight"][0]
    assert np.array_equal(policy.net.output.weight.numpy(), saved)
    assert manifest["env_steps"] == newest["env_steps"] == 256
