"""Remote collectors over a pretended Ray: what is asked of whom, which blocks come back, and what losses do."""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import commanded_cart
import numpy as np
import pytest
import torch
from helpers import make_algorithm, run_updates
from small_runs import only_run, rows, small_config, stop_at, train

from dsac.algorithms import load as load_algorithm
from dsac.algorithms import names
from dsac.cli import exit_codes
from dsac.collection import remote as remote_collector
from dsac.collection.remote import RemoteCollector
from dsac.collection.remote_worker import CollectorHost, acting_state
from dsac.config import compose, load, to_tree
from dsac.errors import ConfigError
from envs.contract import EnvironmentFault


class RayError(Exception): ...


class PretendedRay:
    """Collectors in this process. `fate(host, call)` says what becomes of a request: "answer", "lost" or "silent"."""

    exceptions = SimpleNamespace(RayError=RayError)

    def __init__(self) -> None:
        self.hosts: list[CollectorHost] = []
        self.calls: list[dict[str, Any]] = []
        self.killed: list[Any] = []
        self.fate: Callable[[int, int], str] = lambda host, call: "answer"
        self.last_first = False

    def remote(self, _: type[CollectorHost]) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self.start))

    def start(self, *arguments: Any) -> Any:
        self.hosts.append(host := CollectorHost(*arguments))
        return SimpleNamespace(host=host, collect=SimpleNamespace(remote=lambda *words: self.ask(host, *words)))

    def ask(self, host: CollectorHost, act: str, steps: int, generation: int, version: int, weights: Any) -> int:
        words = {"act": act, "steps": steps, "generation": generation, "version": version}
        call = len(self.calls)
        self.calls.append({"host": host, "weights": weights, "fate": self.fate(host.index, call), **words})
        return call

    def put(self, weights: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: array.copy() for name, array in weights.items()}

    def wait(self, requests: list[int], num_returns: int, timeout: float) -> tuple[list[int], Any]:
        ready = [request for request in requests if self.calls[request]["fate"] != "silent"]
        return (ready[::-1] if self.last_first else ready)[:num_returns], None

    def get(self, request: int, timeout: float) -> Any:
        call = self.calls[request]
        if call["fate"] == "lost":
            raise RayError("its process died")
        block, report = call["host"].collect(
            *(call[key] for key in ("act", "steps", "generation", "version", "weights"))
        )
        for array in block:
            array.setflags(write=False)  # as in shared memory
        return block, report

    def kill(self, handle: Any) -> None:
        self.killed.append(handle.host)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> PretendedRay:
    pretended = PretendedRay()
    monkeypatch.setattr(remote_collector, "connect", lambda *_: (pretended, False))
    return pretended


def remote(algo: str, *words: str, collectors: int = 2) -> tuple[RemoteCollector, Any]:
    """Remote collectors and the algorithm that they follow."""
    config = small_config(Path("unused"), algo, "collect=ray", f"collectors={collectors}", "ray.block_steps=5", *words)
    collector = RemoteCollector(config)
    algorithm = load_algorithm(algo)(collector.spec, config.algo, config.seeds)
    collector.set_algorithm(algorithm)
    return collector, algorithm


@pytest.mark.parametrize("algo", names())
def test_what_is_sent_is_what_acts(algo: str):
    """Catches a tensor that acting reads and that never reaches a remote copy, and optimizers that travel along."""
    original = make_algorithm(algo, (0, 1), observation_normalization=True)
    fresh = copy.deepcopy(original)
    run_updates(original, 4, torch.float32)
    obs = torch.randn(2, 3, original.spec.obs_dim)
    assert original.observations is not None
    original.observations.update(5 * obs[None] + 1)
    noise = torch.randn(2, 3, original.spec.action_dim)
    assert not torch.equal(original.act(obs, noise), fresh.act(obs, noise))
    sent = acting_state(original)
    fresh.load_state_dict(sent, strict=False)
    assert torch.equal(original.act(obs, noise), fresh.act(obs, noise))
    assert torch.equal(original.warmup_act(obs, noise), fresh.warmup_act(obs, noise))
    assert len(sent) < len(original.state_dict()) / 2


@pytest.mark.parametrize("words", [(), commanded_cart.WORDS], ids=["pole", "cart"])
def test_on_policy_blocks_are_those_of_the_same_collectors_here(ray: PretendedRay, words: tuple[str, ...]):
    """Catches worlds that are mixed up, a policy that lags, and an order of parts that depends on who is first."""
    collector, algorithm = remote("ppo", "num_envs=4", "learners=2", *words)
    alone = [CollectorHost(to_tree(collector.config), ".", index, 2, 2) for index in range(2)]
    for turn in range(3):
        ray.last_first = not ray.last_first
        block = collector.collect(algorithm.act, 16)
        weights = {name: tensor.numpy().copy() for name, tensor in acting_state(algorithm).items()}
        parts = [host.collect("act", 16, 0, turn + 1, weights)[0] for host in alone]
        for found, *expected in zip(block, *parts, strict=True):
            assert np.array_equal(found, np.concatenate(expected, axis=2))
        assert block.reward.shape == (16, 2, 4)
        with torch.no_grad():
            algorithm.log_std.add_(0.5)
    assert collector.take_facts()["collect/policy_lag_max"] == 0
    assert [call["version"] for call in ray.calls] == [1, 1, 2, 2, 3, 3]
    assert not np.array_equal(parts[0].obs, parts[1].obs)


def test_off_policy_blocks_come_whole_from_one_collector_with_a_known_lag(ray: PretendedRay):
    """Catches a block that is returned twice, one that nobody returns, and a lag that is not what it is said to be."""
    collector, algorithm = remote("sac", collectors=3)
    alone = [CollectorHost(to_tree(collector.config), ".", index, 3, 2) for index in range(3)]
    weights = {name: tensor.numpy().copy() for name, tensor in acting_state(algorithm).items()}
    for turn in range(7):
        ray.last_first = not ray.last_first
        block = collector.collect(algorithm.act, 1)
        expected, _ = alone[turn % 3].collect("act", 5, 0, 1, weights)
        for found, wanted in zip(block, expected, strict=True):
            assert np.array_equal(found, wanted)
    assert (
        len(ray.calls) == 7 + 3
    )  # each answer asks for one more: no more is ever on its way than there are collectors
    assert collector.take_facts()["collect/policy_lag"] == pytest.approx(np.mean([0, 1, 2, 3, 3, 3, 3]))
    assert "collect/policy_lag" not in collector.take_facts()


def test_the_learner_waits_for_none_and_drops_what_is_too_old(ray: PretendedRay):
    """Catches a learner that stands still for one slow collector, and a lag without a bound."""
    collector, algorithm = remote("sac", "ray.max_lag=4")
    ray.fate = lambda host, call: "silent" if host == 0 and call == 0 else "answer"
    for _ in range(9):
        collector.collect(algorithm.act, 1)
    assert collector.take_facts()["collect/policy_lag_max"] == 1
    ray.calls[0]["fate"] = "answer"
    collector.collect(algorithm.act, 1)
    facts = collector.take_facts()
    assert facts["collect/env_steps_dropped"] == 5 * 2
    assert facts["collect/policy_lag_max"] == 1
    collector.collect(algorithm.act, 1)
    assert {call["host"].index for call in ray.calls[-3:]} == {0, 1}


@pytest.mark.parametrize(
    ("algo", "field", "collectors"),
    [("dsac_t", "return_normalization", 2), ("dsac_t", "return_normalization", 1), ("ppo", "reward_normalization", 2)],
)
def test_returns_run_on_in_the_worlds_that_earned_them(algo: str, field: str, collectors: int, ray: PretendedRay):
    """Catches returns that run on from one collector's worlds to another's, or from one that is gone."""
    ray.fate = lambda host, call: "lost" if call == 5 else "answer"
    collector, algorithm = remote(algo, "num_envs=4", f"algo.{field}=true", collectors=collectors)
    earned: dict[bytes, float] = {}  # by the observation that a world has come to
    continued = 0
    for _ in range(7):
        block = collector.collect(algorithm.act, 5)
        ended = block.terminated | block.truncated
        algorithm.update_statistics(*map(torch.tensor, (block.obs, block.reward, ended)))
        for world, running in enumerate(algorithm.returns.running[0].tolist()):
            before = earned.get(block.obs[0, 0, world].tobytes(), 0.0)
            continued += before > 0
            for reward, end in zip(block.reward[:, 0, world], ended[:, 0, world], strict=True):
                before = (reward + algorithm.returns.gamma * before) * (not end)
            assert running == pytest.approx(before)
            earned[block.next_obs[-1, 0, world].tobytes()] = before
    assert collector.losses == 1
    assert continued > 7


@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_a_lost_collector_is_counted_and_its_successor_plays_other_episodes(algo: str, ray: PretendedRay):
    """Catches a loss that ends the run or is not counted, and a block that is learned from twice."""
    lost = {3, 6}
    ray.fate = lambda host, call: "lost" if call in lost else "answer"
    collector, algorithm = remote(algo, "num_envs=4")
    blocks = [collector.collect(algorithm.act, 5) for _ in range(6)]
    facts = collector.take_facts()
    assert facts["collect/collectors_lost"] == 2
    assert max(call["generation"] for call in ray.calls) in (1, 2)
    seen = np.concatenate([block.obs.reshape(-1, block.obs.shape[-1]) for block in blocks])
    assert len(np.unique(seen, axis=0)) == len(seen) == 6 * 5 * 4


@pytest.mark.parametrize(("algo", "failing", "under_way"), [("sac", {0, 1}, 2), ("ppo", {1}, 0)])
def test_when_none_is_left_the_run_ends_with_the_last_error(
    algo: str, failing: set[int], under_way: int, ray: PretendedRay
):
    """Catches a run that waits for ever for collectors that cannot be had, and an error that nobody is told."""
    collector, algorithm = remote(algo)
    collector.collect(algorithm.act, 4)
    ray.fate = lambda host, call: "lost" if host in failing else "answer"
    for _ in range(under_way):
        collector.collect(algorithm.act, 4)
    with pytest.raises(EnvironmentFault, match="failed 3 times in a row: its process died"):
        collector.collect(algorithm.act, 4)


def test_off_policy_one_that_is_left_carries_on(ray: PretendedRay):
    """Catches a run that ends with its first collector that cannot be had, and one that does not try again."""
    collector, algorithm = remote("sac")
    ray.fate = lambda host, call: "lost" if host == 1 and call < 20 else "answer"
    for _ in range(20):
        collector.collect(algorithm.act, 1)
    assert collector.losses == len(ray.killed) > 3
    assert {call["host"].index for call in ray.calls[-3:]} == {0, 1}


def test_a_silent_collector_is_replaced(ray: PretendedRay, monkeypatch: pytest.MonkeyPatch):
    """Catches a collector that hangs and is waited for without end."""
    collector, algorithm = remote("ppo", "ray.silent_seconds=0.05")
    monkeypatch.setattr(remote_collector, "START_SECONDS", 0.1)
    ray.fate = lambda host, call: "silent" if call in (1, 4) else "answer"  # at the start, and later
    blocks = [collector.collect(algorithm.act, 8) for _ in range(2)]
    assert [host.index for host in ray.killed] == [1, 1]
    assert len({id(host) for host in ray.killed}) == collector.losses == 2
    assert [block.reward.shape for block in blocks] == [(8, 1, 2)] * 2


def test_a_silent_collector_is_replaced_while_others_answer(ray: PretendedRay, monkeypatch: pytest.MonkeyPatch):
    """Catches a collector that hangs unnoticed, since there is always an answer of another one."""
    collector, algorithm = remote("sac", "ray.silent_seconds=0.05")
    monkeypatch.setattr(remote_collector, "START_SECONDS", 0.1)
    ray.fate = lambda host, call: "silent" if call == 1 else "answer"
    collector.collect(algorithm.act, 1)
    time.sleep(0.2)
    for _ in range(3):
        collector.collect(algorithm.act, 1)
    assert [host.index for host in ray.killed] == [1]


def test_a_resumed_run_plays_other_episodes_and_keeps_its_counts(ray: PretendedRay):
    """Catches a resume that begins the very episodes again that were learned from before."""
    collector, algorithm = remote("sac")
    first = [collector.collect(algorithm.act, 1) for _ in range(2)]
    collector.losses = 5
    again, _ = remote("sac")
    again.set_algorithm(algorithm)
    again.load_state_dict(collector.state_dict())
    assert again.take_facts()["collect/collectors_lost"] == 5
    assert again.version == collector.version
    second = [again.collect(algorithm.act, 1) for _ in range(2)]
    starts = np.concatenate([block.obs[0].reshape(-1, 4) for block in first + second])
    assert len(np.unique(starts, axis=0)) == len(starts)


@pytest.mark.parametrize("algo", ["dsac_t", "ppo"])
def test_a_run_with_remote_collectors_trains_stops_and_resumes(algo: str, ray: PretendedRay, tmp_path: Path):
    """Catches a trainer that counts other steps than were taken, or that cannot take read-only arrays."""
    words = ["collect=ray", "collectors=2", "ray.block_steps=8", "algo.observation_normalization=true"]
    config = small_config(tmp_path, algo, *words)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert train(config, None, [stop_at(100)]) == exit_codes.RESUMABLE
        run = only_run(tmp_path)
        assert train(config, run) == exit_codes.FINISHED
    last = {row["tag"]: float(row["value"]) for row in rows(run)}
    assert last["collect/collectors_lost"] == 0
    assert last["collect/policy_lag_max"] == (0 if algo == "ppo" else 2)
    assert rows(run)[-1]["env_steps"] == "256"
    if algo != "ppo":
        assert last["progress/updates"] == 256 * 0.25


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["collectors=2"], "collectors=2 needs collect=ray"),
        (["algo=ppo", "collect=ray", "collectors=3"], "does not divide algo.num_envs=8"),
        (["collect=ray", "overlap=true"], "collects beside learning by itself"),
        (["collect=rey"], "did you mean ray?"),
        (["ray.max_lag=0"], "ray.max_lag=0 must be at least 1"),
    ],
)
def test_what_does_not_fit_together_is_refused(words: list[str], said: str):
    """Catches an option that does nothing, and a block that cannot be dealt out."""
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        load(compose(words))


def test_a_run_of_before_there_were_remote_collectors_still_loads():
    """Catches an old run that can no longer be resumed."""
    tree = to_tree(load(compose(["env=Hopper"])))
    for key in ("collect", "collectors", "ray"):
        del tree[key]
    assert load(tree).collect == "local"


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Catches a core that needs Ray, and an error that leaves the user to guess what to install."""
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'dsac\[ray\]'"):
        train(small_config(tmp_path, "ppo", "collect=ray"), None)
    assert not list(tmp_path.iterdir())
