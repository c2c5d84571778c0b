"""Which run is continued, with which settings, by whom, how often; and how near it comes to one that never stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from said import assert_says
from small_runs import assert_same, final_state, small_config, small_words, stop_at, train, train_whole

from dsac.callbacks import training_state
from dsac.cli import exit_codes
from dsac.config import compose, flat_keys, load
from dsac.errors import CrashLoop, Locked
from dsac.persistence import atomic
from dsac.persistence.lock import RunLock
from dsac.runs import hardware, record
from dsac.runs.parts import build
from dsac.runs.record import inexactness, refuse_crash_loop
from dsac.runs.resume import FIXED, FREE, differences
from dsac.train import main


def refused(words: list[str], run: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines that refuse to continue a run with these words; nothing in its folder has changed."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main([f"resume={run}", *words]) == exit_codes.USAGE
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("seed=1", "seed=1: the run has 0, which is fixed"),
        ("learners=2", "learners=2: the run has 1, which is fixed"),
        ("num_envs=4", "algo.num_envs=4: the run has 2, which is fixed"),
        ("env=Hopper", "env=Hopper: the run has InvertedPendulum, which is fixed"),
        ("env.flatten=true", "env.flatten=true: the run has false, which is fixed"),
        ("algo=sac", "algo=sac: the run has dsac_t, which is fixed"),
        ("algo.hidden_sizes=[9,9]", "algo.hidden_sizes=[9, 9]: the run has [8, 8], which is fixed"),
        ("runs=x", "runs=x: the run has "),
        ("algo.gamma=0.9", "algo.gamma=0.9: the run has 0.99; add allow_change=true"),
        ("updates_per_env_step=1", "algo.updates_per_env_step=1: the run has 0.25; add allow_change=true"),
        ("eval.episodes=5", "eval.episodes=5: the run has 2; add allow_change=true"),
        ("sed=1", "unknown key 'sed': did you mean seed?"),
        ("seed", "'seed' is not key=value"),
        ("allow_change=yes", "allow_change=yes must be true or false"),
    ],
)
def test_what_may_not_change_is_refused_beside_every_other_problem(
    word: str, line: str, run: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches a run that goes on as another experiment than its folder says, and problems told one by one."""
    first, second = refused([word, "keep_checkpoints=0"], run, capsys)
    assert first.startswith(f"error: {line}")
    assert_says(second, "error: keep_checkpoints=0", "at least 1")


def test_what_is_the_same_is_no_change(run: Path, finished: Path):
    """Catches a command that may be typed once only: a scheduler types it again."""
    words = ["env=InvertedPendulum-v5", "algo=dsac_t", "seed=0", "algo.gamma=0.99", "algo.replay_capacity=2e2"]
    assert main([f"resume={run}", *words]) == exit_codes.FINISHED
    assert_same(final_state(run), final_state(finished))


def test_a_declared_change_is_made_kept_and_put_down(run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a change that holds for one session, one that must be declared again, and one that leaves no trace."""
    assert main([f"resume={run}", "algo.gamma=0.9", "allow_change=true", "total_env_steps=134"]) == exit_codes.FINISHED
    assert yaml.safe_load((run / "config.yaml").read_text())["algo"]["gamma"] == 0.9
    assert main([f"resume={run}", "total_env_steps=140"]) == exit_codes.FINISHED
    hashes = [session["config_hash"] for session in record.read(run)]
    assert len(hashes) == 3
    assert hashes[0] != hashes[1]
    assert "algo.gamma=0.99: the run has 0.9;" in refused(["algo.gamma=0.99"], run, capsys)[0]


def test_an_edited_config_is_compared_with_the_checkpoint(run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a hand in config.yaml that changes a run without a word."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["algo"]["gamma"], config["seed"] = 0.5, 3
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    found = refused([], run, capsys)
    assert {line.partition(":")[2].partition("=")[0] for line in found} == {" algo.gamma", " seed"}


def test_settings_that_came_later_do_not_matter(run: Path):
    """Catches a run that a newer release cannot continue, for a key that its config.yaml lacks."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["stall_seconds"], config["eval"]["video"], config["algo"]["epsilon_relative"], config["env"]["flatten"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert main([f"resume={run}"]) == exit_codes.FINISHED


def test_every_class_names_settings_that_exist():
    """Catches a class that lists a setting under an old name, which would silently be of another one."""
    known = {key for algo in ("dsac_t", "ppo") for key in flat_keys(compose([f"algo={algo}"]))}
    assert known >= FREE | FIXED
    assert not FREE & FIXED
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}) == {"a.c": (2, 3)}


def test_auto_begins_continues_and_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a restarted job that trains anew beside its own run, takes another's, or repeats a finished one."""
    words = [*small_words(tmp_path), "resume=auto"]
    other = train_whole(small_config(tmp_path, "dsac_t", "seed=1"))
    config = small_config(tmp_path)
    assert train(config, None, [stop_at(130)]) == exit_codes.RESUMABLE
    (run,) = [path.parent for path in tmp_path.glob("*/*/*/config.yaml") if path.parent != other]
    capsys.readouterr()
    assert main([*words, "keep_checkpoints=3"]) == exit_codes.FINISHED
    out = capsys.readouterr().out
    assert out.startswith(f"resume=auto: {run}\nresumed {run} at 130 env steps")
    assert main(words) == exit_codes.FINISHED
    assert f"{run} is finished" in capsys.readouterr().out
    assert main([*words, "algo.gamma=0.9", "total_env_steps=2"]) == exit_codes.FINISHED
    assert_says(capsys.readouterr().out, "resume=auto: no run", "\nrun ")
    assert len(list(tmp_path.glob("*/*/*"))) == 3


def test_auto_with_a_wrong_word_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a job whose typo is only found when a run is there to continue."""
    assert main([*small_words(tmp_path / "runs"), "resume=auto", "algo.gama=1"]) == exit_codes.USAGE
    assert "did you mean algo.gamma?" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


HOLD = "import sys, time; from pathlib import Path; from dsac.persistence.lock import RunLock\n"
HOLD += "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"


def test_a_run_has_one_trainer(run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches two processes that write into one run, a holder without a name, a lock that outlives a SIGKILL."""
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        (line,) = refused([], run, capsys)
        assert line.startswith(f"error: {run} is in use: process {holder.pid}, since ")
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    RunLock(run).close()
    assert main([f"resume={run}"]) == exit_codes.FINISHED


def test_the_lock_is_let_go_with_the_session(run: Path):
    """Catches a notebook that cannot continue the run that it has just stopped."""
    first = RunLock(run)
    with pytest.raises(Locked, match=f"process {os.getpid()}"):
        RunLock(run)
    first.close()
    assert train(small_config(run.parent), run) == 0
    RunLock(run).close()


def crash(trainer: Any) -> None:
    """A task that ends the process's work without a save."""
    raise ZeroDivisionError


def test_a_crash_loop_ends(run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a scheduler that restarts a broken run for days, and a guard that a repaired run cannot pass."""
    config = small_config(run.parent)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            train(config, run, [crash])
    with pytest.raises(CrashLoop, match="resumed 3 times at step 170"):
        train(config, run)
    assert main([f"resume={run}"]) == exit_codes.USAGE
    assert "resumes_without_progress=4 goes on" in capsys.readouterr().err
    assert main([f"resume={run}", "resumes_without_progress=4"]) == exit_codes.FINISHED
    ended = [session["ended"] for session in record.read(run)]
    assert [end["exit_code"] for end in ended] == [75, None, None, None, 0]
    assert ended[-1]["env_steps"] == 256


def test_what_is_no_crash_loop(tmp_path: Path):
    """Catches a guard that counts progress, stops in good order, or the start itself."""
    refuse_crash_loop(tmp_path, 5, 1)
    start, bad, stop = (
        {"at_step": 5},
        {"at_step": 5, "ended": {"exit_code": 3}},
        {"at_step": 5, "ended": {"exit_code": 75}},
    )
    for history in ([start], [start, stop, stop], [start, bad, {"at_step": 4}], [start, bad, bad, stop]):
        record.write(tmp_path, history)
        refuse_crash_loop(tmp_path, 5, 1)
    record.write(tmp_path, [start, stop, bad])
    with pytest.raises(CrashLoop):
        refuse_crash_loop(tmp_path, 5, 1)
    (tmp_path / "run.json").write_text("{")
    refuse_crash_loop(tmp_path, 5, 1)


def test_the_level_of_a_resume_is_stated(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a claim of bit-exactness where something is known to differ, and none where it holds."""
    train(small_config(run.parent), run, [stop_at(140)])
    assert "from here on bit for bit" in capsys.readouterr().out
    content = json.loads((run / "run.json").read_text())
    content["sessions"][-1] |= {"threads": 7, "versions": {**content["sessions"][-1]["versions"], "torch": "1.0"}}
    (run / "run.json").write_text(json.dumps(content))
    train(small_config(run.parent), run, [stop_at(150)])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not bit for bit")]
    assert "torch was 1.0, is 2." in line
    assert "threads was 7, is 1" in line
    now = {"device": "cuda:0", "versions": {}}
    assert inexactness({}, now, False) == [
        "its environments cannot be saved, new episodes begin",
        "a GPU may add in another order",
    ]


def test_the_best_policy_of_a_lost_session_stays_until_it_is_beaten(run: Path):
    """Catches a resume that writes a worse policy over a better one, which the checkpoint knows nothing of."""
    from dsac.persistence.policies import better_there

    best = run / "learner-0" / "best"
    score = atomic.read_manifest(best)["score"]["eval/return"]
    assert better_there(best, score - 1)
    assert not better_there(best, score)
    assert not better_there(run / "learner-0" / "nothing", score)


def test_new_episodes_earn_nothing_from_those_before():
    """Catches a return normaliser that goes on with the returns of episodes that a resume could not restore."""
    overrides = (
        "env=gymnasium env.id=Pendulum-v1 algo=sac experiment=null device=cpu accelerate=eager threads=1 "
        "algo.num_envs=2 algo.warmup_env_steps=8 algo.batch_size=8 algo.replay_capacity=100 "
        "algo.return_normalization=true"
    )
    before, resumed = (build(hardware.resolve_hardware(load(compose(overrides.split())))[0]) for _ in range(2))
    before.collect_block(before.algorithm.warmup_act, learning=False)
    assert before.algorithm.returns.running.all()
    arrays = {name: tensor.numpy() for name, tensor in before.algorithm.state_dict().items()}
    training_state.restore(resumed, training_state.state_of(before) | {"algorithm": arrays, "metrics": {}})
    assert not resumed.algorithm.returns.running.any()
    assert resumed.algorithm.returns.largest.equal(before.algorithm.returns.largest)
