"""The loop and the collector: what goes into memory, how often the learner learns, when tasks run."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from helpers import Target, make_algorithm, make_spec, make_updater
from said import assert_says

from dsac.collection.collector import Collector
from dsac.evaluation import scoring
from dsac.evaluation.statistics import bootstrap_interval, mean
from dsac.trainer import Trainer, every
from envs import contract
from envs.contract import EnvironmentFault, Step

CPU = torch.device("cpu")


class Scripted:
    """World w counts 100 w, 100 w + 1, ... as its observation; episodes end every `length` steps, by turns each way."""

    exact_state, failure = True, "Test-v0: it broke"

    def __init__(self, num_envs: int, length: int = 3) -> None:
        self.num_envs, self.length = num_envs, length
        self.spec = make_spec(1, 1)._replace(reward_terms=("forward", "cost"))
        self.count = np.zeros(num_envs, np.int64)
        self.clock = 0
        self.actions: list[np.ndarray] = []

    def observe(self) -> np.ndarray:
        return (100 * np.arange(self.num_envs) + self.count).astype(np.float32)[:, None]

    def reset(self, seed: int) -> np.ndarray:
        return self.observe()

    def step(self, action: np.ndarray) -> Step:
        self.actions.append(action.copy())
        self.count += 1
        self.clock += 1
        next_obs, ends = self.observe(), self.clock % self.length == 0
        terminated = np.full(self.num_envs, ends and (self.clock // self.length) % 2 == 0)
        truncated = np.full(self.num_envs, ends and (self.clock // self.length) % 2 == 1)
        if ends:
            self.count[:] = 50
        reward = np.arange(1, self.num_envs + 1, dtype=np.float32)
        terms = np.stack([2 * reward, -reward], 1)
        return Step(next_obs, reward, terminated, truncated, self.observe(), terms, np.zeros_like(terminated))

    def state_dict(self) -> dict[str, Any]:
        return {"count": self.count.copy(), "clock": self.clock}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.count, self.clock = state["count"].copy(), state["clock"]

    def close(self) -> None: ...


def zero(obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(noise)


def test_block_keeps_true_successor_apart_from_acting_observation():
    """Catches next_obs reused as the acting observation across an episode end, and the reverse."""
    collector = Collector([Scripted(2)], [0], CPU)
    block = collector.collect(zero, 5)
    assert block.obs[:, 0, 1, 0].tolist() == [100, 101, 102, 150, 151]
    assert block.next_obs[:, 0, 1, 0].tolist() == [101, 102, 103, 151, 152]
    assert block.truncated[:, 0, 0].tolist() == [False, False, True, False, False]
    assert not block.terminated.any()
    assert collector.collect(zero, 1).obs[0, 0, 1, 0] == 152


def test_blocks_do_not_share_memory():
    """Catches a buffer handed out twice: an earlier block would change under the learner."""
    collector = Collector([Scripted(2)], [0], CPU)
    first = collector.collect(zero, 2)
    kept = first.obs.copy()
    collector.collect(zero, 2)
    assert np.array_equal(first.obs, kept)


def test_episodes_are_counted_with_their_terms():
    """Catches returns that run on across resets and terms that are averaged instead of summed."""
    collector = Collector([Scripted(2)], [0], CPU)
    collector.collect(zero, 7)
    episodes = collector.take_finished(0)
    assert [episode.length for episode in episodes] == [3] * 4
    assert episodes[1].return_ == 6
    assert episodes[1].reward_terms == (12, -6)
    assert collector.take_finished(0) == []


def test_a_failed_world_is_counted_and_its_episode_dropped():
    """Catches an episode cut short by the simulator that enters the returns as if it had been played."""
    env = Scripted(2)
    collector = Collector([env], [0], CPU)
    step = env.step
    env.step = lambda action: step(action)._replace(invalid=np.array([env.clock == 3, False]))
    block = collector.collect(zero, 6)
    assert np.argwhere(block.invalid[:, 0]).tolist() == [[2, 0]]
    assert [episode.return_ for episode in collector.take_finished(0)] == [6, 3, 6]
    assert collector.invalid_steps.tolist() == [1]
    assert_says(collector.failure, "Test-v0", "it broke", "step 3", "learner 0")


def test_learner_k_acts_with_the_noise_of_its_own_seed():
    """Catches noise shared by learners or dependent on how many there are."""

    def echo(obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return noise

    together = Collector([Scripted(2), Scripted(2)], [4, 5], CPU).collect(echo, 3)
    alone = Collector([Scripted(2)], [5], CPU).collect(echo, 3)
    assert np.array_equal(together.action[:, 1], alone.action[:, 0])
    assert not np.array_equal(together.action[:, 1], together.action[:, 0])


def test_collector_state_continues():
    """Catches a running episode, a generator or a world that is lost on resume."""

    def echo(obs: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        return noise

    first, second = Collector([Scripted(2)], [0], CPU), Collector([Scripted(2)], [9], CPU)
    first.collect(echo, 4)
    second.load_state_dict(first.state_dict())
    for a, b in zip(first.collect(echo, 4), second.collect(echo, 4), strict=True):
        assert np.array_equal(a, b)
    assert first.take_finished(0) == second.take_finished(0)


def train(name: str, total: int, tasks: Any = (), **changes: Any) -> Trainer:
    algorithm = make_algorithm(name, spec=make_spec(2, 1), **{"warmup_env_steps": 32, **changes})
    worlds = algorithm.config.num_envs
    collector = Collector([Target(worlds)], [0], CPU)
    memory = algorithm.memory(worlds, CPU)
    trainer = Trainer(algorithm, make_updater(algorithm), collector, memory, list(tasks), total)
    trainer.run()
    return trainer


@pytest.mark.parametrize(("ratio", "worlds", "updates"), [(0.05, 20, 10), (1, 1, 200), (0.05, 1, 10), (0.3, 7, 60)])
def test_update_ratio_is_exact(ratio: float, worlds: int, updates: int):
    """Catches updates owed for the warm-up, and a ratio that is off by rounding."""
    trainer = train("sac", 200, updates_per_env_step=ratio, num_envs=worlds)
    steps = trainer.env_steps
    assert trainer.updates == int(steps * ratio + 1e-9)
    assert trainer.updates == pytest.approx(updates, abs=1)
    assert trainer.warmup_env_steps >= 32


def test_tasks_run_once_a_multiple_and_at_the_end():
    """Catches a cadence that is missed when a block steps over it, a task that runs twice, and a missing last run."""
    calls: list[int] = []
    train("ppo", 100, [every(30, lambda trainer: calls.append(trainer.env_steps))], num_envs=4, horizon=4)
    assert calls == [32, 64, 96, 112]


def test_a_task_can_stop_the_run():
    """Catches a stop that is only seen at the end of the budget."""
    trainer = train("sac", 10_000, [every(40, lambda trainer: trainer.stop("enough"))], num_envs=4)
    assert trainer.env_steps == 40
    assert not trainer.finished


def test_policy_moves_on_every_second_update_only():
    """Catches a delay counted from the wrong end: update 0 moves the policy, update 1 does not."""
    algorithm = make_algorithm("dsac_t", spec=make_spec(2, 1))
    updater = make_updater(algorithm)
    from helpers import make_batch

    moved = []
    for step in range(4):
        before = algorithm.actor.output.weight.detach().clone()
        updater(make_batch(algorithm, step, torch.float32))
        moved.append(not torch.equal(before, algorithm.actor.output.weight))
    assert moved == [True, False, True, False]


def test_learning_rate_schedules_run():
    """Catches a schedule that is accepted and never applied."""
    trainer = train("sac", 400, num_envs=4, learning_rate_schedule="linear")
    rate = trainer.algorithm.actor_optimizer.learning_rate.item()
    assert rate == pytest.approx(1e-4 * (1 - 396 / 400))


def test_normalizers_see_warm_up_and_each_observation_once():
    """Catches statistics that miss the warm-up or count replayed batches."""
    trainer = train("sac", 100, num_envs=4, observation_normalization=True, return_normalization=True)
    steps = trainer.env_steps + trainer.warmup_env_steps
    assert trainer.algorithm.observations.moments.count.tolist() == [steps]
    assert trainer.algorithm.returns.moments.count.tolist() == [steps]


def endless(monkeypatch: pytest.MonkeyPatch, clock: int | None = None) -> Scripted:
    """Worlds whose episodes have no end; 8 steps are many, 20 the most."""
    monkeypatch.setattr(scoring, "LONG_EPISODE", 8)
    monkeypatch.setattr(contract, "MOST_EPISODE_STEPS", 20)
    env = Scripted(2, length=10**9)
    env.spec = env.spec._replace(max_episode_steps=clock)
    return env


def test_an_evaluation_of_an_episode_without_end_is_told_of_and_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches an evaluation that runs for ever in silence, and a score that does not say that it was cut."""
    env, policy = endless(monkeypatch), make_algorithm("sac", spec=make_spec(1, 1)).policy(0)
    asked: list[tuple[int, int]] = []
    result = scoring.score(policy, env, 3, seed=0, should_stop=lambda *at: asked.append(at) is not None)
    assert result.lengths.tolist() == [20] * 3
    assert result.returns.tolist() == [20, 40, 20]
    long, cut = capsys.readouterr().err.splitlines()
    assert "has taken 8 steps" in long
    assert_says(cut, "2 of 2", "step 20")
    assert all("Test-v0" in line and "env.max_episode_steps" in line for line in (long, cut))
    assert (asked[0], asked[-1]) == ((0, 0), (2, 19))


def test_an_evaluation_waits_for_the_clock_of_its_task(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches an episode that is cut before the end that its task has named."""
    env, policy = endless(monkeypatch, clock=25), make_algorithm("sac", spec=make_spec(1, 1)).policy(0)
    env.length = 25
    assert scoring.score(policy, env, 2, seed=0).lengths.tolist() == [25, 25]
    assert capsys.readouterr().err == ""


def test_an_evaluation_tells_of_worlds_that_failed(capsys: pytest.CaptureFixture[str]):
    """Catches a return of what was left of an episode, or of nothing at all, that passes for a score."""
    env, policy = Scripted(2, length=5), make_algorithm("sac", spec=make_spec(1, 1)).policy(0)
    step = env.step

    def fail(clock: int, worlds: list[bool]) -> None:
        def failing(action: np.ndarray) -> Step:
            taken, failed = step(action), np.array(worlds) & (env.clock >= clock)
            return taken._replace(invalid=failed, truncated=taken.truncated | failed)

        env.step = failing

    fail(3, [True, False])
    assert scoring.score(policy, env, 2, seed=0).lengths.tolist() == [3, 5]
    (line,) = capsys.readouterr().err.splitlines()
    assert_says(line, "warning: Test-v0: it broke", "step 3", "evaluation")
    fail(0, [True, True])
    with pytest.raises(EnvironmentFault, match=r"Test-v0: it broke.*first step.*repair"):
        scoring.score(policy, env, 4, seed=0)


def test_evaluation_counts_every_episode_once():
    """Catches the bias towards short episodes, rewards after an episode's end, and noise in the policy."""
    policy = make_algorithm("sac", spec=make_spec(1, 1)).policy(0)
    result = scoring.score(policy, Scripted(4, length=5), 6, seed=0)
    assert result.lengths.tolist() == [5] * 6
    assert result.returns.tolist() == [5, 10, 15, 20, 5, 10]
    low, high = bootstrap_interval(mean, [result.returns])
    assert result.facts() == {"mean": 65 / 6, "interval_95": [low, high]}
