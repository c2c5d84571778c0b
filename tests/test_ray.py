"""A real Ray of two CPUs: runs as its tasks, collectors as its actors, and processes that die or hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import final_state, only_run, rows, small_config, small_words, train

from dsac import exit_codes, ray_cluster, sweep
from dsac.sweep_ray import RayTasks
from dsac.sweep_runner import Sweep

pytest.importorskip("ray", reason="Ray is an extra: pip install 'dsac[ray]'")


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    """One Ray for all tests here: what they start joins it."""
    ray, _ = ray_cluster.connect("local", 2, 200_000_000)
    yield
    ray.shutdown()


def processes(words: str) -> list[int]:
    """The ids of processes whose command line holds these words, that are not this one, and have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            line = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if words in line and path.name != str(os.getpid()):
            found.append(int(path.name))
    return found


def wait_for(condition: Callable[[], Any], tries: int = 2400) -> Any:
    """What a condition says once it holds, asked every 50 ms."""
    for _ in range(tries):
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise TimeoutError


def test_a_run_whose_collectors_die_and_hang_is_whole(tmp_path: Path):
    """Catches a loss that is not counted, a run that waits for ever, and steps that are lost or doubled."""
    words = ["collect=ray", "ray.block_steps=8", "ray.silent_seconds=10", "total_env_steps=4000"]
    config = small_config(tmp_path, "sac", *words, "algo.replay_capacity=10_000", "updates_per_env_step=0.05")
    hit: list[int] = []

    def strike(trainer: Any) -> None:
        if trainer.env_steps >= 800 * (len(hit) + 1) and len(hit) < 2:
            (collector,) = set(processes("ray::CollectorHost")) - set(hit)
            os.kill(collector, [signal.SIGKILL, signal.SIGSTOP][len(hit)])
            hit.append(collector)

    assert train(config, None, [strike]) == exit_codes.FINISHED
    run = only_run(tmp_path)
    last = {row["tag"]: float(row["value"]) for row in rows(run)}
    assert last["collect/collectors_lost"] == len(hit) == 2
    assert last["collect/env_steps_dropped"] == 0
    state = final_state(run)
    taken = int(state["env_steps"]) + int(state["warmup_env_steps"])
    assert (state["memory.flags"] & 1).sum() == taken
    assert int(state["updater.count"]) == int(0.05 * state["env_steps"])
    wait_for(lambda: not set(hit) & set(processes("ray::")))


def family(parent: int) -> set[int]:
    """A process and all that descend from it."""
    lists = [path.read_text() for path in Path(f"/proc/{parent}/task").glob("*/children")]
    return {parent}.union(*(family(int(child)) for child in " ".join(lists).split()))


def test_killing_the_learner_leaves_nothing(tmp_path: Path):
    """Catches collectors and servers of Ray that outlive the run they belong to."""
    words = small_words(tmp_path, "ppo", "collect=ray", "collectors=2", "total_env_steps=1e9", "accelerate=eager")
    learner = subprocess.Popen([sys.executable, "-m", "dsac.train", *words], stderr=subprocess.PIPE, text=True)
    assert learner.stderr is not None
    wait_for(lambda: "env steps/s" in learner.stderr.readline())
    started = family(learner.pid)
    assert len(started & set(processes("ray::CollectorHost"))) == 2
    learner.kill()
    learner.communicate()
    wait_for(lambda: not [pid for pid in started if Path(f"/proc/{pid}").exists()], tries=200)


def test_runs_are_tasks_that_continue_where_they_were_killed(tmp_path: Path):
    """Catches a run that Ray begins anew, that is lost with its process, and results that lie elsewhere."""
    words = small_words(tmp_path, "ppo", "seeds=0", "backend=ray", "total_env_steps=12000", "eval_every_env_steps=4000")
    words = [word for word in words if not word.startswith("threads=")]
    config, planned = sweep.prepare([*words, "checkpoint_every_env_steps=2000"])
    assert planned[0].config.threads == config.ray.cpus == 1
    work = Sweep(planned, RayTasks("local", 1, 0.0, None))
    assert work.launcher.slots() == 2
    killed: list[int] = []

    def strike(runs: Any, _: int) -> None:
        if not killed and runs[0].env_steps >= 4000:
            killed.extend(processes("dsac.sweep_worker"))
            os.kill(killed[0], signal.SIGKILL)

    work.carry_out(strike)
    assert len(killed) == 1
    assert sweep.exit_code(work.runs) == exit_codes.FINISHED
    run = only_run(tmp_path)
    log = (planned[0].folder / "log.txt").read_text()
    assert f"resumed {run} at " in log
    assert rows(run)[-1]["env_steps"] == "12000"


def test_a_cancelled_task_saves(tmp_path: Path):
    """Catches a stop that Ray turns into a loss of everything since the last checkpoint."""
    words = [word for word in small_words(tmp_path, "ppo", "total_env_steps=1e9") if not word.startswith("threads=")]
    work = Sweep(sweep.prepare([*words, "seeds=0", "backend=ray"])[1], RayTasks("local", 1, 0.0, None))

    def stop(runs: Any, _: int) -> None:
        if not work.stops and runs[0].env_steps > 0:
            os.kill(os.getpid(), signal.SIGINT)

    work.carry_out(stop)
    assert work.runs[0].state == "stopped"
    assert work.runs[0].found.env_steps > 0
    assert sweep.exit_code(work.runs) == exit_codes.RESUMABLE


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "ray://127.0.0.1:10001"])
def test_an_address_without_a_cluster_is_named(address: str, tmp_path: Path):
    """Catches a traceback, or a wait of minutes, for a cluster that is not there."""
    words = small_words(tmp_path, "ppo", "collect=ray", f"ray.address={address}")
    done = subprocess.run([sys.executable, "-m", "dsac.train", *words], capture_output=True, text=True, check=False)
    assert done.returncode == exit_codes.USAGE
    assert f"error: ray.address={address}: " in done.stderr
    assert not list(tmp_path.iterdir())
