"""What a run tells: each number once, also after a crash; nothing about the machine's owner; how long is left."""

from __future__ import annotations

import io
import itertools
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from said import assert_says
from small_runs import assert_same, final_state, lasting_rows, only_run, rows, small_config, train, train_whole
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util.tensor_util import make_ndarray

from dsac.callbacks import evaluator
from dsac.callbacks.logger import Curves
from dsac.callbacks.reward_size import RewardSizeWatch
from dsac.cli import progress
from dsac.cli.progress import ProgressBar
from dsac.memory.kernels import TRANSITION, Rings


class Crash(Exception):
    """The process dies here."""


def crash_at(env_steps: int) -> Any:
    def task(trainer: Any) -> None:
        if trainer.env_steps >= env_steps:
            raise Crash

    return task


def scalars(run: Path, learner: int = 0) -> dict[str, list[tuple[int, float]]]:
    """The curves of a learner as TensorBoard reads them."""
    curves = EventAccumulator(str(run / f"learner-{learner}"))
    curves.Reload()
    return {tag: [(event.step, event.value) for event in curves.Scalars(tag)] for tag in curves.Tags()["scalars"]}


def test_curves_continue_after_a_crash(finished: Path, tmp_path: Path):
    """Catches points drawn twice, points lost, a wall clock that starts anew, a session in another's place."""
    config = small_config(tmp_path / "crashed")
    with pytest.raises(Crash):
        train(config, None, [crash_at(180)])
    run = only_run(tmp_path / "crashed")
    assert int(rows(run)[-1]["env_steps"]) > 96  # what follows the checkpoint is to be cut
    assert train(config, run) == 0

    assert lasting_rows(run) == lasting_rows(finished)
    clock = [float(row["wall_time"]) for row in rows(run)]
    assert clock == sorted(clock)
    found, expected = scalars(run), scalars(finished)
    assert found.keys() == expected.keys()
    for tag, points in found.items():
        steps = [step for step, _ in points]
        assert steps == sorted(set(steps))
        assert steps == [int(row["env_steps"]) for row in rows(run) if row["tag"] == tag]
        if not tag.startswith("rate/"):  # these need a row before them in the same session
            assert steps == [step for step, _ in expected[tag]]
    assert "eval/return" in found
    assert found["train/actor_loss"] == expected["train/actor_loss"]


def test_every_learner_has_its_curves(tmp_path: Path):
    """Catches the numbers of one learner in the folder of another."""
    run = train_whole(small_config(tmp_path, "dsac_t", "learners=2"))
    first, second = scalars(run, 0), scalars(run, 1)
    assert first.keys() == second.keys()
    assert first["train/q"] != second["train/q"]
    alone = train_whole(small_config(tmp_path / "alone", "dsac_t", "seed=1"))
    assert [value for _, value in scalars(alone)["train/q"]] == pytest.approx([value for _, value in second["train/q"]])
    assert {"collect/return", "collect/length", "progress/updates", "reward/reward_survive"} <= first.keys()


def test_no_host_name_and_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches TensorBoard's own file name, which carries the host's, and a run.json that copies the environment."""
    monkeypatch.setattr(socket, "gethostname", lambda: "the-host")
    monkeypatch.setenv("SECRET", "hunter2")
    run = train_whole(small_config(tmp_path))
    for path in run.rglob("*"):
        assert "the-host" not in path.name
        assert not path.is_file() or not any(word in path.read_bytes() for word in (b"the-host", b"hunter2"))
    facts = json.loads((run / "run.json").read_text())["sessions"][0]
    assert {"versions", "git_revision", "config_hash", "threads", "cpu", "device", "started"} <= facts.keys()
    assert not set(os.environ) & set(facts)


def test_table_that_lost_its_end_is_continued(tmp_path: Path):
    """Catches a resume that fills a shortened table with zero bytes, or fails on one that is gone."""
    config = small_config(tmp_path)
    with pytest.raises(Crash):
        train(config, None, [crash_at(120)])
    run = only_run(tmp_path)
    (run / "learner-0" / "metrics.csv").unlink()
    assert train(config, run) == 0
    assert b"\0" not in (run / "learner-0" / "metrics.csv").read_bytes()
    assert rows(run)[-1]["env_steps"] == "256"


def fake_trainer(env_steps: int, warmup: int = 0, total: int = 1000) -> Any:
    return SimpleNamespace(
        env_steps=env_steps, warmup_env_steps=warmup, updates=env_steps // 2, total_env_steps=total,
        finished=env_steps >= total, algorithm=SimpleNamespace(warmup_env_steps=100),
    )  # fmt: skip


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_says_how_fast_and_how_long(terminal: bool, monkeypatch: pytest.MonkeyPatch):
    """Catches rates over the wrong time, an ETA that counts the fast warm-up, and a log flooded with lines."""
    clock = itertools.count(0.0, 1.0)
    screen = io.StringIO()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=terminal, width=200))
    with ProgressBar("Humanoid dsac_t") as bar:
        if terminal:
            assert "Humanoid dsac_t · starting" in bar.progress.tasks[0].description
        for warmup in range(20, 101, 20):
            bar.show(fake_trainer(0, warmup), None)
        for env_steps in range(0, 201, 10):  # ten env steps a second
            bar.show(fake_trainer(env_steps, 100), 12345.6)
        if terminal:
            facts = bar.progress.tasks[0].fields["facts"]
            assert_says(facts, "200/1,000 env steps", "10 env steps/s", "5 updates/s", "0:01:20 left", "12,345.6")
            bar.show(fake_trainer(1010, 100), None)  # the last block may pass the budget
            assert "0:00:00 left" in bar.progress.tasks[0].fields["facts"]
    if not terminal:
        assert screen.getvalue().splitlines() == [
            "Humanoid dsac_t · warm-up  20/100 env steps",
            "Humanoid dsac_t  50/1,000 env steps  10 env steps/s  5 updates/s  0:01:35 left  last evaluation 12,345.6",
            "Humanoid dsac_t  150/1,000 env steps  10 env steps/s  5 updates/s  0:01:25 left  last evaluation 12,345.6",
        ]


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_moves_while_policies_are_scored(terminal: bool, monkeypatch: pytest.MonkeyPatch):
    """Catches a bar that stands still for as long as an evaluation takes, and one that stays on it afterwards."""
    clock = itertools.count(0.0, 1.0)
    screen = io.StringIO()
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=terminal, width=200))
    with ProgressBar("Humanoid dsac_t") as bar:
        for step in range(1, 2001, 100):
            bar.show_evaluation(3, 10, step)
        shown = bar.progress.tasks[0]
        if terminal:
            assert (shown.description, shown.completed, shown.total) == ("Humanoid dsac_t · evaluation", 3, 10)
            assert shown.fields["facts"] == "3/10 episodes  step 1,901"
        bar.show(fake_trainer(1000, 100), None)
        assert not terminal or shown.description == "Humanoid dsac_t"
    if not terminal:
        assert screen.getvalue().splitlines()[:2] == [
            "Humanoid dsac_t · evaluation  3/10 episodes  step 1",
            "Humanoid dsac_t · evaluation  3/10 episodes  step 1,001",
        ]


def test_an_error_leaves_no_bar_behind(monkeypatch: pytest.MonkeyPatch):
    """Catches a half-drawn bar above the line that says what was wrong."""
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=80))
    with pytest.raises(Crash), ProgressBar("Humanoid dsac_t"):
        raise Crash
    assert screen.getvalue().rstrip().endswith("\x1b[2K")


def tensors(run: Path, learner: int = 0) -> EventAccumulator:
    curves = EventAccumulator(str(run / f"learner-{learner}"), size_guidance={"tensors": 0})
    return curves.Reload()


def test_tensorboard_knows_the_settings_of_each_learner(tmp_path: Path):
    """Catches a table of hyperparameters without the seed, with the wrong learner's, or with paths of this machine."""
    run = train_whole(small_config(tmp_path, "sac", "learners=2", "seed=5", "algo.gamma=0.97"))
    for learner in (0, 1):
        curves = tensors(run, learner)
        content = curves.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        given = metadata.parse_session_start_info_plugin_data(content).hparams
        assert given["seed"].number_value == 5 + learner
        assert given["algo.gamma"].number_value == 0.97
        assert given["algo.name"].string_value == "sac"
        assert given["algo.hidden_sizes"].string_value == "[8, 8]"
        assert given["env.id"].string_value == "null"
        assert "runs" not in given
        (config,) = curves.Tensors("config")
        assert "      gamma: 0.97" in config.tensor_proto.string_val[0].decode()
        (made,) = curves.Tensors("made with")
        assert "mujoco" in made.tensor_proto.string_val[0].decode()


def histogram(run: Path, tag: str, learner: int = 0) -> dict[int, np.ndarray]:
    """The buckets (left, right, count) of a histogram by env steps."""
    return {event.step: make_ndarray(event.tensor_proto) for event in tensors(run, learner).Tensors(tag)}


def test_histograms_show_what_the_critics_say_of_the_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a histogram that changes training, counts frames that are no transitions, or is of another learner."""
    with monkeypatch.context() as patch:
        patch.setattr(evaluator.Histograms, "__call__", lambda *_: None)
        plain = train_whole(small_config(tmp_path / "plain", "dsac_t", "learners=2"))
    seen = []
    drawn = evaluator.random_transitions

    def watched(rings: Rings, learner: int, env_steps: int) -> Any:
        held = np.nonzero(rings.flags[learner] & TRANSITION)
        obs, action = drawn(rings, learner, env_steps)
        rows = np.concatenate([rings.obs[learner][held], rings.action[learner][held]], 1)
        chosen = np.concatenate([obs, action], 1)
        seen.append({tuple(row) for row in chosen} <= {tuple(row) for row in rows})
        return obs, action

    monkeypatch.setattr(evaluator, "random_transitions", watched)
    run = train_whole(small_config(tmp_path / "shown", "dsac_t", "learners=2"))
    assert_same(final_state(run), final_state(plain))
    assert lasting_rows(run) == lasting_rows(plain)
    assert all(seen)
    assert len(seen) == 2 * 4
    for learner in (0, 1):
        for tag, scalar in (("critic/q", "train/q"), ("critic/sigma", "train/sigma")):
            shown = histogram(run, tag, learner)
            assert list(shown) == [64, 128, 192, 256]
            buckets = shown[256]
            assert buckets[:, 2].sum() == evaluator.HISTOGRAM_ROWS
            latest = float([row["value"] for row in rows(run, learner) if row["tag"] == scalar][-1])
            mean = (buckets[:, :2].mean(1) * buckets[:, 2]).sum() / buckets[:, 2].sum()
            assert mean == pytest.approx(latest, abs=0.5)
    assert not np.array_equal(histogram(run, "critic/q", 0)[256], histogram(run, "critic/q", 1)[256])


@pytest.mark.parametrize(("name", "expected"), [("td3", {"critic/q"}), ("ppo", set())])
def test_algorithms_without_a_sigma_or_a_replay_show_what_they_have(
    name: str, expected: set[str], finished_runs: Callable[[str], Path]
):
    """Catches a run that fails for want of a histogram."""
    run = finished_runs(name)
    assert {tag for tag in tensors(run).Tags()["tensors"] if tag.startswith("critic/")} == expected


def test_a_critic_that_diverged_leaves_the_run_alive(tmp_path: Path):
    """Catches a histogram of what is not finite that ends a run."""
    curves = Curves(tmp_path)
    trainer = SimpleNamespace(env_steps=7)
    curves.write_histograms({"critic/q": np.array([np.nan, np.inf]), "critic/sigma": np.array([1.0, np.nan])}, trainer)
    curves.close()
    found = EventAccumulator(str(tmp_path)).Reload()
    assert make_ndarray(found.Tensors("critic/sigma")[0].tensor_proto)[:, 2].sum() == 1
    assert make_ndarray(found.Tensors("critic/q")[0].tensor_proto).sum() == 0


def test_a_jump_in_the_size_of_returns_is_told(capsys: pytest.CaptureFixture):
    """Catches a divisor of rewards that jumps in silence, and one that is told of while a few episodes decide it."""
    watch, sizes = RewardSizeWatch(), [1.0, 5.0, 5.1, 12.0, 12.5]
    for number, size in enumerate(sizes):
        algorithm = SimpleNamespace(reward_size=lambda size=size: torch.tensor([size]))
        watch(SimpleNamespace(algorithm=algorithm, warmup_env_steps=45_000, env_steps=2_000 * number))
    (line,) = capsys.readouterr().err.splitlines()
    assert "5.1 to 12" in line
    assert "6,000" in line


def test_the_size_of_returns_is_a_curve(tmp_path: Path):
    """Catches a divisor of rewards that nobody can look up."""
    run = train_whole(small_config(tmp_path, "sac", "algo.return_normalization=true"))
    sizes = [float(row["value"]) for row in rows(run) if row["tag"] == "train/reward_size"]
    assert len(sizes) > 3
    assert min(sizes) > 0
