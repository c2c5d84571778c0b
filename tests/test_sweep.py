"""Many runs: what is planned, what counts as the same run, and a loop that loses none to failures, stops and kills."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from said import assert_says
from small_runs import only_run, small_config, small_words, stop_at, train

from dsac import sweep
from dsac.cli import exit_codes, progress
from dsac.persistence.lock import RunLock
from dsac.sweep import command as sweep_command
from dsac.sweep import find_runs, runner, view, worker
from dsac.sweep.plan import Planned


def refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines on stderr of a sweep that is refused with exit 2."""
    assert sweep.main(words) == exit_codes.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    return [line.removeprefix("error: ") for line in captured.err.splitlines()]


def test_all_that_is_wrong_is_said_at_once_and_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a sweep that begins before its last run is known to be good, and a problem repeated for every run."""
    words = ["env=Ant,Humonoid", "algo=dsac_t,ppo,sca", "seeds=3..1", "jobs=0", "seed=4", "resume=x", "loud"]
    lines = refused([*words, "algo.clip_low=2", "eval.episodes=0", f"runs={tmp_path / 'runs'}"], capsys)
    assert lines == [
        "'loud' is not key=value (see --help)",
        "seed=4: name the seeds with seeds=",
        "resume=x: a sweep continues by itself",
        "jobs=0 must be at least 1",
        "seeds=3..1 must be whole numbers and rising ranges: seeds=0..4 or seeds=0,3,7..9",
        "algo=dsac_t: unknown key 'algo.clip_low': did you mean algo.critic_loss?",
        "eval.episodes=0 must be at least 1",
        "algo=ppo: algo.clip_low=2.0 must be at most 1.0",
        "algo=sca: did you mean sac?",
        *(line for line in lines if "Humonoid" in line),
    ]
    assert sum("Humonoid" in line for line in lines) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("text", "seeds"), [("0..4", [0, 1, 2, 3, 4]), ("7", [7]), ("0,3,7..9", [0, 3, 7, 8, 9]), ("1,1..2", [1, 2])]
)
def test_seeds(text: str, seeds: list[int]):
    """Catches a range without its end, and a seed trained twice."""
    assert sweep_command.seeds_of(text, []) == seeds


@pytest.mark.parametrize("text", ["", "a", "-1", "1.5", "3..", "..3", "4..2", "1,,2"])
def test_seeds_that_are_none(text: str):
    """Catches a slip that becomes another set of seeds."""
    problems: list[str] = []
    sweep_command.seeds_of(text, problems)
    assert len(problems) == 1


def test_seeds_that_learners_share_are_refused(capsys: pytest.CaptureFixture[str]):
    """Catches an interval over runs that are the same run."""
    assert refused(["learners=3", "seeds=0,2"], capsys) == [
        "seeds: learner 2 of seed 0 is seed 2 (learners=3): seeds=0,3"
    ]
    assert len(sweep_command.prepare(["learners=3", "seeds=0,3"])[1]) == 2


def test_the_plan_is_every_combination_with_its_share_of_the_cores(tmp_path: Path):
    """Catches a combination that is left out, settings that reach no run, and jobs that each take all cores."""
    words = ["env=Ant,Hopper", "algo=ppo,sac", "seeds=0..2", f"runs={tmp_path}", "algo.gamma=0.9", "jobs=2"]
    _, planned = sweep_command.prepare(words)
    assert [run.title for run in planned[:5]] == [
        "Ant ppo seed 0", "Ant sac seed 0", "Hopper ppo seed 0", "Hopper sac seed 0", "Ant ppo seed 1",
    ]  # fmt: skip
    assert len({find_runs.identity(run.config) for run in planned}) == len(planned) == 12
    share = max(1, len(os.sched_getaffinity(0)) // 2)
    assert {(run.config.algo.gamma, run.config.threads) for run in planned} == {(0.9, share)}
    _, planned = sweep_command.prepare([*words, "threads=3"])
    assert planned[0].config.threads == 3


def copied(run: Path, runs: Path) -> Path:
    """A run's copy below `runs`, in the place that its task, algorithm and start give it."""
    return Path(shutil.copytree(run, runs / run.relative_to(run.parents[2])))


def test_the_same_run_is_known_by_its_settings(finished_runs: Callable[[str], Path], tmp_path: Path):
    """Catches a run that is trained again for its place, its name or its machine, or taken for another's."""
    config = small_config(tmp_path, "ppo")
    assert find_runs.find(config) == find_runs.Found()
    run = copied(finished_runs("ppo"), tmp_path)
    moved = run.rename(run.parent.parent / "elsewhere with spaces")
    shutil.copytree(moved.parent, tmp_path / "a" / "b")
    shutil.rmtree(moved)
    moved = tmp_path / "a" / "b" / moved.name
    machine = dataclasses.replace(config, threads=2, device="cpu", keep_checkpoints=9, checkpoint_every_env_steps=7)
    for same in (config, machine):
        found = find_runs.find(same)
        assert (found.run, found.env_steps, found.finished) == (moved, 256, True)
    assert len(found.scores) == 1
    others: list[dict[str, Any]] = [
        {"seed": 1}, {"total_env_steps": 512}, {"eval_every_env_steps": 65}, {"learners": 2},
        {"algo": dataclasses.replace(config.algo, gamma=0.98)},
    ]  # fmt: skip
    for other in others:
        assert find_runs.find(dataclasses.replace(config, **other)).run is None


def test_of_several_folders_the_farthest_counts(tmp_path: Path):
    """Catches a sweep that goes on with the wrong half, or that takes a run without its last evaluation for done."""
    config = small_config(tmp_path, "ppo")
    for env_steps in (100, 200):
        assert train(config, None, [stop_at(env_steps)]) == exit_codes.RESUMABLE
    found = find_runs.find(config)
    assert (found.env_steps, found.finished) == (224, False)
    assert train(config, None) == exit_codes.FINISHED
    found = find_runs.find(config)
    assert (found.env_steps, found.finished) == (256, True)
    assert found.run is not None
    metrics = found.run / "learner-0" / "metrics.csv"
    metrics.write_text("".join(line for line in metrics.open() if not line.startswith("256,") or "eval/" not in line))
    assert not find_runs.find(config).finished


def test_a_strange_config_is_not_loaded(finished_runs: Callable[[str], Path], tmp_path: Path):
    """Catches a run folder of someone else that has its module imported."""
    config = small_config(tmp_path, "ppo")
    run = copied(finished_runs("ppo"), tmp_path)
    strange = shutil.copytree(run, run.with_name("strange"))
    shutil.rmtree(run)
    (tmp_path / "canary.py").write_text("raise SystemExit('imported')")
    tree = yaml.safe_load((strange / "config.yaml").read_text())
    for section in ({"algo": tree["algo"] | {"name": "canary"}}, {"env": tree["env"] | {"task": "canary"}}, {"env": 3}):
        (strange / "config.yaml").write_text(yaml.safe_dump(tree | section))
        assert find_runs.find(config).run is None
    (strange / "config.yaml").write_text("[")
    assert find_runs.find(config).run is None


class Scripted:
    """A launcher of runs that end when told to, with the exit codes they were given."""

    def __init__(self, codes: dict[str, int]) -> None:
        self.codes, self.started, self.ended, self.most = codes, [], set(), 0
        self.stopped: list[str] = []

    def slots(self) -> int:
        return 2

    def start(self, run: Planned) -> Any:
        launcher, title = self, run.title
        self.started.append(title)
        self.most = max(self.most, len(self.started) - len(self.ended))
        run.folder.mkdir(parents=True, exist_ok=True)
        with (run.folder / "log.txt").open("a") as log:
            log.write("Traceback\nerror: the arm fell off\nlast line\n")

        class Handle:
            asked = 0

            def poll(self) -> int | None:
                self.asked += 1
                if self.asked < 2:
                    return None
                launcher.ended.add(title)
                return launcher.codes.get(title, 0)

            def stop(self) -> None:
                launcher.stopped.append(title)
                launcher.codes[title] = exit_codes.RESUMABLE

        return Handle()

    def close(self) -> None: ...


def scripted(tmp_path: Path, codes: dict[str, int], show: Callable[..., None] = lambda *_: None) -> Any:
    """A sweep of PPO and SAC with three seeds, two at a time, over scripted runs, carried out."""
    words = ["env=InvertedPendulum", "algo=ppo,sac", "seeds=0..2", f"runs={tmp_path}"]
    work = runner.Sweep(sweep_command.prepare(words)[1], Scripted(codes))
    work.carry_out(show)
    return work


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runner, "POLL_SECONDS", 0.01)


def test_a_failing_run_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a sweep that ends with its first failure, starts all at once, or hides what went wrong."""
    one, other = "InvertedPendulum ppo seed 1", "InvertedPendulum sac seed 1"
    work = scripted(tmp_path, {one: exit_codes.ENVIRONMENT, other: -signal.SIGKILL})
    assert (len(work.launcher.started), work.launcher.most) == (6, 2)
    assert sweep_command.print_summary(work.runs, ["seeds=0..2"]) == exit_codes.ENVIRONMENT
    out = capsys.readouterr().out.splitlines()
    assert_says(out[0], f"failed: {one} (exit 3)", "the arm fell off", f"{tmp_path}/.sweep/")
    assert_says(out[1], f"failed: {other} (exit 137)", "SIGKILL")
    assert_says(out[2], "4 of 6", "2 failed")
    assert out[3].startswith("next: python -m dsac.sweep seeds=0..2 ")
    assert [sweep_command.facts(run)["exit_code"] for run in work.runs] == [0, 0, 3, 137, 0, 0]


def test_a_stop_reaches_what_runs_and_starts_no_more(tmp_path: Path):
    """Catches a Ctrl-C after which the queue goes on, and a run that is told twice."""

    def interrupt(*_: Any) -> None:
        if not interrupt.done:
            interrupt.done = True
            os.kill(os.getpid(), signal.SIGINT)

    interrupt.done = False
    before = signal.getsignal(signal.SIGINT)
    work = scripted(tmp_path, {}, interrupt)
    assert (
        sorted(work.launcher.stopped) == sorted(work.launcher.started) == [run.planned.title for run in work.runs[:2]]
    )
    assert [run.state for run in work.runs] == ["stopped"] * 2 + ["waiting"] * 4
    assert sweep_command.exit_code(work.runs) == exit_codes.RESUMABLE
    assert signal.getsignal(signal.SIGINT) == before


def test_a_run_that_another_process_trains_is_waited_for(tmp_path: Path):
    """Catches a second process in a run that an earlier sweep left behind."""
    words = ["env=InvertedPendulum", "algo=ppo", "seeds=0,1", f"runs={tmp_path}"]
    _, planned = sweep_command.prepare(words)
    seen = []
    planned[0].folder.mkdir(parents=True)
    with closing(RunLock(planned[0].folder)):
        work = runner.Sweep(planned, Scripted({}))
        for _ in range(5):
            for run in work.runs:
                work.attend(run, 2)
            seen.append(work.runs[0].state)
    assert seen == ["training elsewhere"] * 5
    assert work.launcher.started == ["InvertedPendulum ppo seed 1"]
    work.carry_out(lambda *_: None)
    assert work.launcher.started == ["InvertedPendulum ppo seed 1", "InvertedPendulum ppo seed 0"]


def test_the_worker_finds_continues_and_begins(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a run that is begun twice, a finished one that is trained again, and two processes in one run."""
    words = small_words(tmp_path / "runs", "ppo")
    config = small_config(tmp_path / "runs", "ppo")
    folder = tmp_path / "runs" / ".sweep" / "x"
    folder.mkdir(parents=True)
    with closing(RunLock(folder)):
        assert worker.work(folder, words) == exit_codes.RESUMABLE
    assert f"process {os.getpid()}, since " in capsys.readouterr().err
    assert train(config, None, [stop_at(100)]) == exit_codes.RESUMABLE
    run = only_run(tmp_path / "runs")
    capsys.readouterr()
    assert worker.work(folder, [*words, "device=cpu"]) == exit_codes.FINISHED
    assert capsys.readouterr().out.startswith(f"resumed {run} at 128 env steps")
    assert worker.work(folder, words) == exit_codes.FINISHED
    assert capsys.readouterr().out == ""
    assert find_runs.read_status(folder)["env_steps"] == 256
    shutil.rmtree(run)
    assert worker.work(folder, words) == exit_codes.FINISHED
    assert find_runs.find(config).finished


def test_lines_for_people(tmp_path: Path):
    """Catches rates that are missing, a time left that forgets the queue, and a table that outgrows the screen."""
    work = scripted(tmp_path, {"InvertedPendulum sac seed 0": exit_codes.STORAGE})
    training, failed, waiting = work.runs[:3]
    training.state, waiting.state = "training", "waiting"
    total = training.planned.config.total_env_steps
    training.status = {
        "env_steps": total - 1000, "env_steps_per_second": 100.0, "updates_per_second": 5.0, "scores": [3.0, 4.0],
    }  # fmt: skip
    numbers = (f"{total - 1000:,}/{total:,}", "100%", "env steps/s 100", "updates/s 5", "left 0:00:10", "3.5")
    assert_says(view.plain_line(training), "InvertedPendulum ppo seed 0", *numbers)
    clock = progress.clock((1000 + total) / 100 / 2)
    assert_says(view.summary(work.runs, 2), "1 training", "1 failed", "3 finished", "1 waiting of 6", f"{clock} left")
    assert view.event(failed).endswith("(exit 5): error: the arm fell off")
    assert view.table(work.runs, "", 7).row_count == 3


@pytest.fixture
def start_sweep() -> Iterator[Callable[[list[str]], subprocess.Popen[str]]]:
    """Starts the command as a process of its own, which ends with the test."""
    started: list[subprocess.Popen[str]] = []

    def start(words: list[str]) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "dsac.sweep", *words]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def wait_for(condition: Callable[[], Any]) -> None:
    """Return once a condition holds, within ten minutes."""
    for _ in range(12_000):
        if condition():
            return
        time.sleep(0.05)
    raise TimeoutError


def at_work(runs: Path, parent: int | str = "") -> list[str]:
    """The command lines of processes that train below `runs`, of one sweep or of all."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        lines += [line] if f"dsac.sweep.worker {parent}" in line and str(runs) in line else []
    return lines


def sessions(run: Path) -> int:
    return len(json.loads((run / "run.json").read_text())["sessions"])


@pytest.mark.timeout(1200)  # five processes at once: seconds where nothing else runs
def test_a_killed_sweep_finishes_only_what_is_missing(
    tmp_path: Path, start_sweep: Callable[..., Any], capsys: pytest.CaptureFixture[str]
):
    """Three runs, two at a time: killed with SIGKILL, begun again, stopped with SIGTERM, finished by the same command.

    Catches a run that is trained twice, lost or begun anew, an orphan that trains on, and a stop that is no stop.
    """
    runs, total = tmp_path / "runs", 12_000  # some seconds a run, for a kill to find one halfway
    words = [*small_words(runs, "ppo"), "seeds=0..2", f"total_env_steps={total}", "eval_every_env_steps=3000"]
    words += ["checkpoint_every_env_steps=1500"]
    words = [word for word in words if not word.startswith("threads=")]

    def env_steps() -> list[int]:
        return [find_runs.read_status(path.parent).get("env_steps", 0) for path in runs.glob(".sweep/*/status.json")]

    killed = start_sweep(words)
    wait_for(lambda: max(env_steps(), default=0) >= total and any(0 < steps < 0.75 * total for steps in env_steps()))
    killed.kill()
    killed.communicate()
    again = start_sweep(words)
    wait_for(lambda: not at_work(runs, killed.pid))
    folders = [path.parent for path in runs.glob("*/*/*/config.yaml")]
    reached = {run: find_runs.last_evaluation(run / "learner-0" / "metrics.csv")[0] for run in folders}
    assert min(reached.values()) < total <= max(reached.values())
    wait_for(lambda: at_work(runs, again.pid))
    again.send_signal(signal.SIGTERM)
    out, _ = again.communicate(timeout=600)
    assert again.returncode == exit_codes.RESUMABLE, out
    assert "next: python -m dsac.sweep algo=ppo" in out
    assert not at_work(runs)

    assert sweep.main(words) == exit_codes.FINISHED
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == f"next: python -m dsac.compare runs={runs / 'InvertedPendulum'}"
    folders = [path.parent for path in runs.glob("*/*/*/config.yaml")]
    assert len(folders) == len(list((runs / "InvertedPendulum").glob("*/*"))) == 3
    assert min(find_runs.last_evaluation(run / "learner-0" / "metrics.csv")[0] for run in folders) >= total
    assert all(sessions(run) == 1 for run, env_steps in reached.items() if env_steps >= total)
    assert any(sessions(run) > 1 for run, env_steps in reached.items() if env_steps < total)
    assert not at_work(runs)
