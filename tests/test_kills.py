"""SIGKILL at random times over a run with saves: what was reported saved is there, and the end is the same."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from small_runs import assert_same, final_state, only_run
from zygote import Zygote

from dsac.errors import CheckpointError
from dsac.persistence import checkpoint

HUMANOID = "env=Humanoid algo=dsac_t experiment=null seed=3 threads=1 device=cpu accelerate=eager"
HUMANOID += " num_envs=2 algo.hidden_sizes=[16,16] updates_per_env_step=0.5 algo.batch_size=16"
HUMANOID += " algo.warmup_env_steps=40 algo.replay_capacity=3000"
HUMANOID += " algo.observation_normalization=true eval.episodes=1 eval_every_env_steps=500 log_every_env_steps=100"
HUMANOID += " checkpoint_every_env_steps=20 resumes_without_progress=100000"
MOST_SAVES = 4
SECONDS = 0.5  # about what a session takes to begin, and to reach its first save
EARLY = 0.15  # the share that may be killed before it has begun: while it reads the checkpoint


def newest_step(run: Path) -> int:
    """The step of the newest checkpoint that can be believed, logs and all; nothing is moved aside."""
    try:
        return int(checkpoint.newest_intact(run / "checkpoints")[1]["step"])
    except CheckpointError:
        return -1


def killed(zygote: Zygote, words: list[str], draw: random.Random) -> tuple[list[str], bool]:
    """What a session said until it was killed, and whether it had begun to train.

    The moment is a random time within a random one of its saves or the steps before it, however fast the machine is.
    """
    told: list[str] = []
    child, saves, interval = zygote.start(words), draw.randrange(MOST_SAVES), SECONDS
    early = draw.random() < EARLY
    if not early:
        told.append(zygote.line_with("run ", "resumed ", "ended", told=told))
        for _ in range(saves):
            began = time.monotonic()
            told.append(zygote.line_with("saved ", "ended", told=told))
            interval = time.monotonic() - began
        assert not told[-1].startswith("ended"), told
    time.sleep(draw.uniform(0, interval))
    os.kill(child, signal.SIGKILL)
    assert zygote.line_with("ended", told=told) == f"ended {-signal.SIGKILL}", told
    return told, not early or any(line.startswith(("run ", "resumed ")) for line in told)


@pytest.mark.parametrize(
    "kills", [2, pytest.param(200, marks=[pytest.mark.faults, pytest.mark.timeout(7200)])], ids="{}-kills".format
)
def test_no_kill_costs_what_was_saved_or_changes_what_is_learned(kills: int, tmp_path: Path):
    """Catches a save that a kill leaves half done, one that was reported too soon, and a resume that is not exact."""
    # With this seed the first two sessions get as far as their third save, however slow the machine is.
    draw, runs, zygote = random.Random(11), tmp_path / "killed", Zygote()
    words, reported, done, resumes, during_saves = [*HUMANOID.split(), f"runs={runs}"], -1, 0, 0, 0
    try:
        while done < kills:
            found = list(runs.glob("*/*/*/run.json"))
            told, began = killed(zygote, [f"resume={found[0].parent}"] if found else words, draw)
            reported = max([reported, *(int(line.split()[1]) for line in told if line.startswith("saved "))])
            if not list(runs.glob("*/*/*/run.json")):
                continue  # killed before there was a run
            run = only_run(runs)
            during_saves += bool([*run.glob("checkpoints/.step-*"), *run.glob("*/.*.partial")])
            assert newest_step(run) >= reported
            done, resumes = done + 1, resumes + (began and bool(found))
        assert newest_step(run) >= 10 * kills
        budget = newest_step(run) + 100
        last = [f"total_env_steps={budget}"]
        assert told_end(zygote, [f"resume={run}", *last]) == "ended 0"
        assert told_end(zygote, [*words[:-1], f"runs={tmp_path / 'whole'}", *last]) == "ended 0"
    finally:
        zygote.close()
    print(f"{kills} kills, {during_saves} during a save, {resumes} resumes that trained, {budget} env steps")
    assert_same(final_state(run), final_state(only_run(tmp_path / "whole")))
    assert not list(run.glob("checkpoints/damaged-*"))


def told_end(zygote: Zygote, words: list[str]) -> str:
    """How a session ends that nobody kills."""
    zygote.start(words)
    told: list[str] = []
    end = zygote.line_with("ended", told=told)
    return end if end == "ended 0" else f"{end}: {told}"
