"""A session opens and closes what a run needs: in order, also when it fails half-way, with parts of the user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_runs import only_run, rows, small_config, small_words, stop_at, train

from dsac.callbacks.evaluator import Evaluator
from dsac.callbacks.logger import Logger
from dsac.callbacks.on_new_best import ExportOnNewBest
from dsac.callbacks.watchdog import Watchdog
from dsac.cli import exit_codes
from dsac.persistence.lock import RunLock
from dsac.persistence.replay_segments import Archive
from dsac.runs import record
from dsac.train import main, start
from envs.engine import Engine

MODULE = """
from dataclasses import dataclass

import torch

from dsac.algorithms.base import Algorithm
from dsac.memory.contract import Memory
from dsac.schema.algorithm_config import AlgorithmConfig
from dsac.nn.initialisation import initialise
from dsac.nn.networks import MLP


@dataclass(frozen=True)
class Config(AlgorithmConfig):
    name: str = "mine"


class NoMemory(Memory):
    def add(self, block, counts=True): ...
    def batches(self): return []
    def state_dict(self): return {}
    def load_state_dict(self, state): ...


class Mine(Algorithm):
    Config = Config

    def __init__(self, spec, config, seeds):
        super().__init__(spec, config, seeds)
        self.actor = MLP((self.learners,), spec.obs_dim, spec.action_dim, config.hidden_sizes, config.activation)
        initialise(self, seeds)

    @torch.no_grad()
    def act(self, obs, noise):
        return torch.tanh(self.actor(obs))

    def memory(self, num_envs, device):
        return NoMemory()

    def update(self, batch, noise, policy_step):
        return {}
"""


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a session closes, in the order in which it does."""
    names: list[str] = []

    def noted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            if name not in names:  # there are environments for training and for scores
                names.append(name)
            return real(*arguments)

        return call

    owners = [(Archive, "segments"), (ExportOnNewBest, "exports"), (Logger, "curves"), (Watchdog, "watchdog")]
    for owner, name in [*owners, (RunLock, "lock"), (Engine, "envs")]:
        monkeypatch.setattr(owner, "close", noted(name, owner.close))
    monkeypatch.setattr(record, "end", noted("run.json", record.end))
    return names


def test_a_session_is_closed_the_other_way_round(tmp_path: Path, closed: list[str]):
    """Catches an end in run.json before the last file is written, and a lock let go while something still writes."""
    assert train(small_config(tmp_path), None, [stop_at(64)]) == exit_codes.RESUMABLE
    assert closed == ["segments", "exports", "curves", "watchdog", "run.json", "lock", "envs"]
    closed.clear()
    assert train(small_config(tmp_path), only_run(tmp_path)) == exit_codes.FINISHED
    assert closed == ["segments", "exports", "curves", "watchdog", "run.json", "envs", "lock"]


def test_what_was_opened_is_closed_where_the_start_fails(
    tmp_path: Path, closed: list[str], monkeypatch: pytest.MonkeyPatch
):
    """Catches a lock, a thread or a watchdog that outlives a failed start, and a start without a trace."""

    def fail(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("dsac.runs.session.ExportOnNewBest", fail)
        assert main(small_words(tmp_path)) == exit_codes.RESOURCES
    run = only_run(tmp_path)
    assert closed == ["curves", "watchdog", "run.json", "lock", "envs"]
    assert record.read(run)[-1]["ended"] == {"exit_code": exit_codes.RESOURCES, "env_steps": 0}
    RunLock(run).close()


def test_a_stop_within_the_last_evaluation_has_one_exit_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a run.json that calls a run finished whose last score is still to be made."""
    real = Evaluator.__call__

    def stopped_at_the_end(self: Evaluator, trainer: Any) -> None:
        if trainer.finished:
            trainer.stop("test")
        real(self, trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluator, "__call__", stopped_at_the_end)
        assert train(small_config(tmp_path), None) == exit_codes.RESUMABLE
    run = only_run(tmp_path)
    assert record.read(run)[-1]["ended"]["exit_code"] == exit_codes.RESUMABLE
    assert train(small_config(tmp_path), run) == exit_codes.FINISHED
    assert [row["env_steps"] for row in rows(run) if row["tag"] == "eval/return"][-1] == "256"
    assert record.read(run)[-1]["ended"]["exit_code"] == exit_codes.FINISHED


def test_an_algorithm_and_a_memory_of_ones_own_need_say_no_more_than_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a run that wants critics, frames, a description or a size of batches of a part that has none."""
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "quiet.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    own = ("algo", "experiment", "algo.horizon", "algo.minibatch_size", "algo.epochs")
    words = [word for word in small_words(tmp_path / "runs", "ppo") if word.partition("=")[0] not in own]
    words = ["algo=my_package.quiet", "experiment=null", *words]
    assert start(words, [stop_at(64)]).exit_code == exit_codes.RESUMABLE
    assert ", nomemory)" in capsys.readouterr().out
    run = only_run(tmp_path / "runs")
    assert main([f"resume={run}", "algo=my_package.quiet"]) == exit_codes.FINISHED
    assert [row["env_steps"] for row in rows(run) if row["tag"] == "eval/return"] == ["64", "128", "192", "256"]
