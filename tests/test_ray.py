"""A real Ray of two CPUs: runs as its tasks, collectors as its actors, and processes that die or hang."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import numpy as np
import pytest
from small_runs import final_state, only_run, rows, small_config, small_words, train

from dsac.cli import exit_codes
from dsac.collection import ray_cluster
from dsac.memory.kernels import TRANSITION
from dsac.sweep import command as sweep_command
from dsac.sweep import ray_launcher
from dsac.sweep.ray_launcher import RayTasks
from dsac.sweep.runner import Sweep

pytest.importorskip("ray", reason="Ray is an extra: pip install 'dsac[ray]'")


CONNECTED = "from dsac.collection.ray_cluster import connect; connect('local', 1); print('here', flush=True); input()"


def test_a_ray_of_ones_own_listens_on_this_machine_alone():
    """Catches ports that anybody in the network can talk to, opened by ray.address=local."""
    command = [sys.executable, "-c", CONNECTED]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        places = listening([process.pid, *descendants(process.pid)])
        process.communicate("\n")
    assert places
    assert all(place.split(":")[0].endswith("0100007F") for place in places), places


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """Two nodes of two cores each, on paper, which everything here joins."""
    with ray_cluster.cluster_here(2, 2) as cluster:
        ray_cluster.connect(cluster.address, 0)
        yield cluster


@pytest.fixture
def cluster(nodes: Any) -> Any:
    """The cluster, once all that the test before had started there is gone."""
    ray = ray_cluster.imported()
    wait_for(lambda: ray.available_resources().get("CPU") == ray.cluster_resources().get("CPU"))
    return nodes


def processes(words: str) -> list[int]:
    """The ids of this process's descendants whose command line holds these words."""
    found = []
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            if words in Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                found.append(pid)
    return found


def descendants(parent: int) -> list[int]:
    """The processes that descend from one and have not ended."""
    lists = []
    for path in Path(f"/proc/{parent}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            lists.append(path.read_text())
    children = [int(child) for child in " ".join(lists).split()]
    return children + [pid for child in children for pid in descendants(child)]


def listening(pids: list[int]) -> set[str]:
    """The addresses at which these processes wait for others, as the kernel writes them."""
    sockets = set()
    for path in (path for pid in pids for path in Path(f"/proc/{pid}/fd").iterdir()):
        with contextlib.suppress(OSError):
            sockets.add(str(path.readlink()))
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {words[1] for words in lines if words[3] == "0A" and f"socket:[{words[9]}]" in sockets}


def begun(pid: int) -> str | None:
    """When a process began, which tells it from a later one of that number; None where there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def wait_for(condition: Callable[[], Any], tries: int = 2400) -> Any:
    """What a condition says once it holds, asked every 50 ms."""
    for _ in range(tries):
        if answer := condition():
            return answer
        time.sleep(0.05)
    raise TimeoutError


def taken(run: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every transition that the replay of a finished run holds: obs, action, next_obs."""
    state = final_state(run)
    parts: list[tuple[np.ndarray, ...]] = []
    for path in state:
        if path.startswith("memory.frames.") and path.endswith(".flags"):
            obs, action = (state[path.replace("flags", name)] for name in ("obs", "action"))
            newest = state["memory.newest"][tuple(map(int, path.split(".")[2:4]))]
            held = np.flatnonzero(state[path] & TRANSITION)
            parts.append((obs[held], action[held], np.concatenate([obs, newest[None]])[held + 1]))
    obs, action, next_obs = (np.concatenate(field) for field in zip(*parts, strict=True))
    return obs, action, next_obs


def follows(obs: np.ndarray, action: np.ndarray) -> np.ndarray:
    """What the simulator makes of states of InvertedPendulum, which are its observations."""
    model = mujoco.MjModel.from_xml_path(
        str(Path(gymnasium.__file__).parent / "envs/mujoco/assets/inverted_pendulum.xml")
    )
    data = mujoco.MjData(model)
    found = np.empty_like(obs)
    for row, (state, control) in enumerate(zip(obs, action, strict=True)):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.ctrl[:] = state[:2], state[2:], 3 * control
        mujoco.mj_step(model, data, 2)
        found[row] = [*data.qpos, *data.qvel]
    return found


def living(killed: list[int]) -> list[int]:
    """The collectors that nobody has killed yet."""
    return sorted(set(processes("ray::CollectorHost")) - set(killed))


@pytest.mark.parametrize(
    "kills", [2, pytest.param(20, marks=[pytest.mark.faults, pytest.mark.timeout(1200)])], ids="{}-kills".format
)
@pytest.mark.usefixtures("cluster")
def test_no_kill_of_a_collector_costs_or_tears_a_transition(kills: int, tmp_path: Path):
    """Catches a loss that is not counted, steps that are lost or doubled, and rows of two blocks in one transition."""
    words = ["collect=ray", "collectors=4", "ray.block_steps=8", "total_env_steps=1e9", "updates_per_env_step=0.05"]
    words += ["accelerate=eager", "algo.replay_capacity=200_000", "log_every_env_steps=400"]
    config = small_config(tmp_path, "sac", *words)
    draw, killed, at = random.Random(2), [], [0]

    def strike(trainer: Any) -> None:
        if len(killed) < kills and trainer.env_steps > at[0] and (there := living(killed)):
            killed.append(draw.choice(there))
            os.kill(killed[-1], signal.SIGKILL)
            at[0] = trainer.env_steps + draw.randrange(2_000)
        if trainer.collector.losses >= kills:
            trainer.total_env_steps = trainer.env_steps + 400
            trainer.callbacks.remove(strike)

    assert train(config, None, [strike]) == exit_codes.FINISHED
    run = only_run(tmp_path)
    assert float([row for row in rows(run) if row["tag"] == "collect/collectors_lost"][-1]["value"]) == kills
    state, (obs, action, next_obs) = final_state(run), taken(run)
    expected = int(state["env_steps"]) + int(state["warmup_env_steps"])
    print(f"{kills} kills, {expected} env steps, {int(state['updater.count'])} updates")
    assert len(obs) == len(np.unique(np.concatenate([obs, action], axis=1), axis=0)) == expected
    assert int(state["updater.count"]) == int(state["env_steps"]) // 20
    np.testing.assert_allclose(next_obs, follows(obs, action), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("cluster")
def test_a_collector_that_hangs_is_replaced(tmp_path: Path):
    """Catches a run that waits for ever, and a process that stays."""
    words = ["collect=ray", "ray.block_steps=8", "ray.silent_seconds=5", "total_env_steps=1600"]
    hit: list[int] = []

    def strike(trainer: Any) -> None:
        if trainer.env_steps >= 800 and not hit:
            hit.extend(processes("ray::CollectorHost"))
            os.kill(hit[0], signal.SIGSTOP)

    assert train(small_config(tmp_path, "sac", *words), None, [strike]) == exit_codes.FINISHED
    last = {row["tag"]: float(row["value"]) for row in rows(only_run(tmp_path))}
    assert last["collect/collectors_lost"] == len(hit) == 1
    wait_for(lambda: not set(hit) & set(processes("ray::")))


@pytest.fixture
def learner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A training with two collectors on a Ray of its own, in a process group of its own, as a shell starts it."""
    words = small_words(tmp_path, "ppo", "collect=ray", "collectors=2", "total_env_steps=1e9", "accelerate=eager")
    command = [sys.executable, "-m", "dsac.train", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, process_group=0) as process:
        assert process.stderr is not None
        wait_for(lambda: "env steps/s" in process.stderr.readline())
        yield process
        process.kill()


def test_killing_the_learner_leaves_nothing(learner: subprocess.Popen[str]):
    """Catches collectors and servers of Ray that outlive the run they belong to."""
    started = {pid: begun(pid) for pid in (learner.pid, *descendants(learner.pid))}
    assert len(started.keys() & set(processes("ray::CollectorHost"))) == 2
    learner.kill()
    learner.wait()
    wait_for(lambda: not [pid for pid in started if begun(pid) == started[pid]], tries=200)  # ten seconds


@pytest.mark.parametrize(
    "number", [pytest.param(signal.SIGINT, marks=pytest.mark.faults), signal.SIGTERM], ids=lambda number: number.name
)
def test_a_signal_to_the_whole_group_saves(number: signal.Signals, learner: subprocess.Popen[str], tmp_path: Path):
    """Catches a Ctrl-C, or a scheduler's SIGTERM, that ends Ray before the run is saved."""
    os.killpg(learner.pid, number)
    assert learner.wait(60) == exit_codes.RESUMABLE
    assert int(final_state(only_run(tmp_path))["env_steps"]) > 0


@pytest.mark.usefixtures("cluster")
def test_runs_are_tasks_that_continue_where_they_were_killed(tmp_path: Path):
    """Catches a run that Ray begins anew, that is lost with its process, and results that lie elsewhere."""
    words = small_words(tmp_path, "ppo", "seeds=0", "backend=ray", "total_env_steps=6400", "eval_every_env_steps=2000")
    words = [word for word in words if not word.startswith("threads=")]
    config, planned = sweep_command.prepare([*words, "checkpoint_every_env_steps=1000"])
    assert planned[0].config.threads == config.ray.cpus == 1
    work = Sweep(planned, RayTasks("local", 1, 0.0, None))
    assert work.launcher.slots() == 4
    killed: list[int] = []

    def strike(runs: Any, _: int) -> None:
        if not killed and runs[0].env_steps >= 2000:
            killed.extend(processes("dsac.sweep.worker"))
            os.kill(killed[0], signal.SIGKILL)

    work.carry_out(strike)
    assert len(killed) == 1
    assert sweep_command.exit_code(work.runs) == exit_codes.FINISHED
    run = only_run(tmp_path)
    log = (planned[0].folder / "log.txt").read_text()
    assert f"resumed {run} at " in log
    assert rows(run)[-1]["env_steps"] == "6400"


@pytest.mark.usefixtures("cluster")
def test_a_cancelled_task_saves(tmp_path: Path):
    """Catches a stop that Ray turns into a loss of everything since the last checkpoint."""
    words = [word for word in small_words(tmp_path, "ppo", "total_env_steps=1e9") if not word.startswith("threads=")]
    work = Sweep(sweep_command.prepare([*words, "seeds=0", "backend=ray"])[1], RayTasks("local", 1, 0.0, None))

    def stop(runs: Any, _: int) -> None:
        if not work.stops and runs[0].env_steps > 0:
            os.kill(os.getpid(), signal.SIGINT)

    work.carry_out(stop)
    assert work.runs[0].state == "stopped"
    assert work.runs[0].found.env_steps > 0
    assert sweep_command.exit_code(work.runs) == exit_codes.RESUMABLE


def test_a_stop_is_heard_in_the_background_of_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a run that trains on: Ray cancels with SIGINT, which what a script begins in its background ignores."""
    saves = (
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "open(sys.argv[1], 'w').close()\ntime.sleep(9)"
    )
    ready = tmp_path / "ready"
    monkeypatch.setattr(ray_launcher, "worker_command", lambda *_: [sys.executable, "-c", saves, str(ready)])

    def interrupted(_: float, sleep: Callable[[float], None] = time.sleep) -> None:
        sleep(0.1)
        if ready.exists():
            ready.unlink()
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(ray_launcher.time, "sleep", interrupted)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert ray_launcher.supervise([], str(tmp_path), str(tmp_path), "") == 75
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("address", ["nowhere", "ray://127.0.0.1:10001", "127.0.0.1:ray"])
def test_what_is_no_address_is_refused(address: str):
    """Catches an address that Ray would look for, or take for another protocol."""
    with pytest.raises(ValueError, match="host:port"):
        ray_cluster.refuse_silent(address)


def test_an_address_without_a_cluster_is_named(tmp_path: Path):
    """Catches a traceback, or a wait of minutes, for a cluster that is not there."""
    address = "127.0.0.1:1"
    words = small_words(tmp_path, "ppo", "collect=ray", f"ray.address={address}")
    done = subprocess.run([sys.executable, "-m", "dsac.train", *words], capture_output=True, text=True, check=False)
    assert done.returncode == exit_codes.USAGE
    assert f"error: ray.address={address}: " in done.stderr
    assert not list(tmp_path.iterdir())
