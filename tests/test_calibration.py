"""Critics against returns: the right prediction, policy and states, and returns summed as critics do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import ALGORITHMS, OBS_DIM, make_algorithm, make_spec
from made_runs import made_run
from said import assert_says
from small_runs import assert_same, final_state, lasting_rows, only_run, small_config, train, train_whole

import envs
from dsac import compare
from dsac.algorithms.base import Algorithm
from dsac.algorithms.dsac_t import mean_and_sigma
from dsac.collection.worlds import NO_CLOCK, settable_worlds
from dsac.compare import calibration, tables
from dsac.compare.groups import Group, grouped
from dsac.compare.results import read
from dsac.errors import ConfigError
from dsac.evaluation import monte_carlo
from dsac.evaluation.calibration import figures
from dsac.evaluation.critic_predictions import Prediction, predict
from dsac.nn.distributions import tanh_normal
from dsac.schema.run_config import EnvConfig
from envs.contract import Step

SIGMA = {"dsac_t", "dsac_v1", "dsac_x"}
SOFT = {*SIGMA, "sac"}
POLE = "env=InvertedDoublePendulum"
CRITIC_TAGS = ["critic/bias_percent", "critic/sigma_ratio", "critic/sigma_rank_correlation", "critic/coverage"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A calibration of a fraction of a second."""
    for name, value in {"STATES": 4, "SAMPLES": 3}.items():
        monkeypatch.setattr(calibration, name, value)
    for name, value in {"ENVS_AT_ONCE": 9, "FIRST_STEPS": 20, "CUT": 0.2}.items():  # 4 states, 3 at a time
        monkeypatch.setattr(monte_carlo, name, value)


def rows(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Observations and normal noise for one learner."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(1, count, size, generator=generator) for size in (OBS_DIM, 3))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_predictions_are_in_the_units_of_the_task(name: str):
    """Catches a prediction that follows the scale of the rewards, the larger of two critics, a sigma of its own."""
    obs, action = rows(6)
    plain, scaled = (make_algorithm(name, reward_scale=scale, return_normalization=False) for scale in (1.0, 4.0))
    one, other = (predict(algorithm, obs, action.clamp(-1, 1)) for algorithm in (plain, scaled))
    factor = 4.0
    assert one.mean == pytest.approx(factor * other.mean.numpy(), rel=1e-5)
    assert (one.sigma is not None) == (name in SIGMA)
    if name in SIGMA:
        assert one.sigma == pytest.approx(factor * other.sigma.numpy(), rel=1e-5)
    if name == "dsac_t":
        mean, sigma = mean_and_sigma(plain.critics(obs, action.clamp(-1, 1)))
        smaller = mean.argmin(1, keepdim=True)
        assert torch.equal(one.mean, mean.gather(1, smaller).squeeze(1))
        assert torch.equal(one.sigma, sigma.gather(1, smaller).squeeze(1))


def test_a_normaliser_of_returns_is_undone():
    """Catches a value of PPO or DSAC-T in units of the returns' deviation."""
    for name, changes in (("ppo", {}), ("sac", {"return_normalization": True})):
        algorithm = make_algorithm(name, **changes)
        obs, action = rows(5)
        before = predict(algorithm, obs, action)
        algorithm.returns.moments.count += 10
        algorithm.returns.moments.m2 += 10 * 49.0  # a deviation of 7
        algorithm.returns.largest += 1  # something was seen
        assert predict(algorithm, obs, action).mean == pytest.approx(7 * before.mean.numpy(), rel=1e-5)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_the_policy_is_the_one_that_acts(name: str):
    """Catches exploration noise counted as the policy's, and a spread that is not the policy's own."""
    algorithm = make_algorithm(name, initial_temperature=0.5)
    obs, noise = rows(6)
    action, soft = algorithm.sample_action(obs, noise)
    still = torch.zeros_like(noise)
    assert torch.equal(action, algorithm.act(obs, noise if algorithm.random_policy else still))
    assert algorithm.random_policy == (name in SOFT or name == "ppo")
    assert (soft is not None) == (name in SOFT)
    if soft is not None:
        mean, log_std = algorithm.actor(obs).chunk(2, -1)
        _, log_prob = tanh_normal(mean, log_std.clamp(-20, 0.5), noise)
        assert soft == pytest.approx(-0.5 * log_prob.detach().numpy(), rel=1e-5)


class Countdown:
    """Worlds that pay 1 and the action a step and end after so many steps; what a saved state restores is that."""

    def __init__(self, left: list[int]) -> None:
        self.spec, self.num_envs, self.left = make_spec(OBS_DIM, 3), len(left), np.array(left)

    def observe(self) -> np.ndarray:
        return np.zeros((self.num_envs, OBS_DIM), np.float32)

    def step(self, action: np.ndarray) -> Step:
        self.left = self.left - 1
        ended, none = self.left == 0, np.zeros(self.num_envs, bool)
        reward = (1 + action[:, 0]).astype(np.float32)
        return Step(self.observe(), reward, ended, none, self.observe(), np.zeros((self.num_envs, 0)), none)


@pytest.mark.parametrize("name", ["ddpg", "sac", "ppo"])
@pytest.mark.parametrize("n_step", [1, 3])
def test_returns_are_summed_as_critics_do(name: str, n_step: int, monkeypatch: pytest.MonkeyPatch):
    """Catches rewards after the end, an entropy of the first action, one forgotten discount, V judged by one action."""
    algorithm = make_algorithm(name, gamma=0.5, n_step=n_step)
    monkeypatch.setattr(monte_carlo, "noise", lambda *_: torch.zeros(1, 3, 3))
    drawn, soft = algorithm.sample_action(torch.zeros(1, 3, OBS_DIM), torch.zeros(1, 3, 3))
    usual, bonus = float(drawn[0, 0, 0]), 0.0 if soft is None else float(soft[0, 0])
    first = np.full((3, 3), 0.25, np.float32)
    found = monte_carlo.played_on(algorithm, n_step, Countdown([1, 2, 99]), first, 4, None)
    start = usual if name == "ppo" else 0.25

    def expected(steps: int) -> float:
        rewards = [1 + start, *[1 + usual] * (steps - 1)]
        entropy = [0.0, *[bonus if time % n_step == 0 else 0.0 for time in range(1, steps)]]
        return sum(
            0.5**time * (reward + extra) for time, (reward, extra) in enumerate(zip(rewards, entropy, strict=True))
        )

    assert found == pytest.approx([expected(1), expected(2), expected(4)], rel=1e-5)


def test_branches_start_in_the_visited_states(small: None):
    """Catches copies that start elsewhere, in one another's state, or on a clock that ends them."""
    algorithm = make_algorithm("sac", spec=envs.make("InvertedPendulum", 1, 0).spec)
    worlds = envs.make("InvertedPendulum", 4, 0)
    obs, action, states = monte_carlo.visited(algorithm, worlds, torch.Generator().manual_seed(0), lambda step: False)
    assert len({tuple(row) for row in obs}) == 4
    chosen = np.repeat(np.arange(4), 3)
    branches = envs.make("InvertedPendulum", 12, 5, max_episode_steps=NO_CLOCK)
    branches.load_state_dict({key: monte_carlo.rows(value, chosen) for key, value in states.items()})
    assert np.array_equal(branches.observe(), obs[chosen])
    after = branches.step(action[chosen]).next_obs.reshape(4, 3, -1)
    assert np.array_equal(after[:, :1], after[:, 1:2])
    assert not np.array_equal(after[0], after[1])
    balanced = envs.make("InvertedPendulum", 1, 0, max_episode_steps=5)
    states = {key: monte_carlo.rows(value, [0]) for key, value in balanced.state_dict().items()}
    free = envs.make("InvertedPendulum", 1, 0, max_episode_steps=NO_CLOCK)
    free.load_state_dict(states)
    assert not any(free.step(np.zeros((1, 1), np.float32)).truncated[0] for _ in range(6))


@pytest.mark.parametrize("name", ["dsac_t", "ddpg", "ppo"])
def test_every_kind_of_algorithm_is_measured(name: str, small: None, tmp_path: Path):
    """Catches an algorithm whose critics cannot be asked, the second learner measured by the first, a lost result."""
    run = train_whole(small_config(tmp_path, name, "learners=2", "algo.gamma=0.9", POLE))
    found = [calibration.calibrate(run, learner, {}) for learner in (0, 1)]
    for one in found:
        assert one["env_steps"] == 256
        assert one["horizon"] == 16
        keys = {"mean", "return_mean", "return_deviation"} | ({"sigma", "covered"} if name in SIGMA else set())
        assert {key for key, value in one.items() if isinstance(value, list)} == keys
        assert all(len(one[key]) == 4 and np.isfinite(one[key]).all() for key in keys)
        spread = np.array(one["return_deviation"])
        assert spread.any() == (name != "ddpg")  # a deterministic policy on a deterministic robot
    assert found[0]["mean"] != found[1]["mean"]


def test_a_learner_is_measured_as_its_seed_alone_would_be(small: None, tmp_path: Path):
    """Catches the parameters, the states or the noise of another learner."""
    words = ["algo.gamma=0.9", POLE]
    run = train_whole(small_config(tmp_path, "dsac_t", "learners=2", *words))
    alone = train_whole(small_config(tmp_path / "alone", "dsac_t", "seed=1", *words))
    found, other = calibration.calibrate(run, 1, {}), calibration.calibrate(alone, 0, {})
    assert other["mean"] == pytest.approx(found["mean"], rel=1e-3)
    assert other["return_mean"] == pytest.approx(found["return_mean"], rel=1e-2)


def test_a_measurement_is_kept_until_there_is_a_newer_checkpoint(small: None, tmp_path: Path, monkeypatch):
    """Catches a measurement that is made again each time, or one of an older checkpoint shown for the newest."""
    config = small_config(tmp_path, "ddpg", "algo.gamma=0.9", POLE)
    run = train_whole(config)
    report = compare(run, out=tmp_path / "out", curves=False, calibration=True)
    (row,) = report["critics"]
    assert row["sigma"] is None
    assert row["bias"]["value"] != 0
    path = run / "learner-0" / "calibration.json"
    first = json.loads(path.read_text())
    with monkeypatch.context() as patch:
        patch.setattr(monte_carlo, "measure", lambda *_: pytest.fail("measured again"))
        compare(run, out=tmp_path / "out", curves=False, calibration=True)
    train(dataclasses.replace(config, total_env_steps=320), run)
    compare(run, out=tmp_path / "out", curves=False, calibration=True)
    assert json.loads(path.read_text())["env_steps"] == 320 != first["env_steps"]
    assert compare(run, out=tmp_path / "out", curves=False)["critics"]  # kept, and shown without being asked


def test_what_cannot_be_measured_is_named(small: None, tmp_path: Path):
    """Catches a comparison lost for one run: a Gymnasium id, a discount that never ends, no checkpoint."""
    words = ["env=gymnasium", "env.id=Pendulum-v1", "env.backend=gymnasium"]
    train_whole(small_config(tmp_path / "a", "ddpg", *words))
    train_whole(small_config(tmp_path / "b", "ddpg", POLE, "algo.gamma=1.0"))
    report = compare([tmp_path / "a", tmp_path / "b"], out=tmp_path / "out", curves=False, calibration=True)
    said = "\n".join(report["remarks"])
    assert_says(said, "Gymnasium", "cannot be set to a state")
    assert_says(said, "gamma=1.0", "5,000 env steps")
    assert report["critics"] == []


def test_coverage_counts_single_returns(monkeypatch: pytest.MonkeyPatch):
    """Catches a coverage of the mean return, of one sigma, or of the deviation that was measured."""
    algorithm = make_algorithm("dsac_t", spec=envs.make("InvertedPendulum", 1, 0).spec)
    draws = np.random.default_rng(0)

    def returns(_algorithm: Any, _n_step: int, branches: Any, *_: Any) -> np.ndarray:
        return 5 + 2 * draws.standard_normal(branches.num_envs)

    said = {"factor": 1.0}

    def prediction(_algorithm: Any, obs: torch.Tensor, _action: torch.Tensor) -> Prediction:
        return Prediction(torch.full(obs.shape[:2], 5.0), torch.full(obs.shape[:2], 2.0 * said["factor"]))

    monkeypatch.setattr(monte_carlo, "played_on", returns)
    monkeypatch.setattr(monte_carlo, "predict", prediction)
    monkeypatch.setattr(monte_carlo, "FIRST_STEPS", 3)
    make = settable_worlds(EnvConfig("InvertedPendulum"), 1)
    for factor, share in ((1.0, 0.954), (0.5, 0.683)):
        said["factor"] = factor
        found = figures(monte_carlo.measure(algorithm, 1, make, 4, 250, 4, 0))
        assert found.coverage == pytest.approx(share, abs=0.04)
        assert found.ratio == pytest.approx(factor, rel=0.08)
        assert found.bias_percent == pytest.approx(0, abs=4)


ASKED = ["eval.calibration=true", "eval.calibration_states=3", "eval.calibration_returns=4"]
TRAINED = ["learners=2", "algo.gamma=0.9", POLE, "eval.episodes=2"]


@pytest.mark.parametrize("name", ["dsac_x", "ddpg", "ppo"])
def test_training_is_the_same_with_its_calibration_and_without(name: str, small: None, tmp_path: Path):
    """Catches a draw from the training's generators, a learner measured in place, a tag without a sigma behind it."""
    plain = train_whole(small_config(tmp_path / "plain", name, *TRAINED))
    watched = train_whole(small_config(tmp_path / "watched", name, *TRAINED, *ASKED))
    assert_same(final_state(watched), final_state(plain))
    for learner in (0, 1):
        rows = lasting_rows(watched, learner)
        assert [row for row in rows if row[2] not in CRITIC_TAGS] == lasting_rows(plain, learner)
        found = {tag: {row[0] for row in rows if row[2] == tag} for tag in CRITIC_TAGS}
        assert found["critic/bias_percent"] == {"64", "128", "192", "256"}
        for tag in CRITIC_TAGS[1:]:
            assert bool(found[tag]) == (name == "dsac_x"), tag


def test_the_figures_of_a_training_stand_in_tables_and_page(tmp_path: Path):
    """Catches figures that only TensorBoard shows, an older evaluation's, and those of SAC shown as zeros."""
    with_sigma, without = made_run(tmp_path, "dsac_x"), made_run(tmp_path, "sac")
    for run, tags in ((with_sigma, CRITIC_TAGS), (without, CRITIC_TAGS[:1])):
        with (run / "learner-0" / "metrics.csv").open("a") as file:
            file.writelines(
                f"{step},9,1.0,{tag},{value}\n" for step, value in ((2000, 7.0), (3000, 0.5)) for tag in tags
            )
    found, _ = read([tmp_path])
    assert {run.settings["algo.name"]: len(run.critics) for run in found} == {"dsac_x": 4, "sac": 1}
    compare(tmp_path, out=tmp_path / "out", curves=False, commit=tmp_path / "kept")
    table = (tmp_path / "out" / "tables.md").read_text().partition("Critics in training")[2]
    assert [line.split("|")[3:7] for line in table.splitlines() if "Hopper" in line] == [
        [" +0% ", " 0.50 ", " 0.50 ", " 50% "],
        [" +0% ", " - ", " - ", " - "],
    ]
    kept, _ = read([tmp_path / "kept"])
    assert [run.critics for run in kept] == [run.critics for run in found]


def test_a_stop_within_a_calibration_repeats_the_evaluation(small: None, tmp_path: Path, monkeypatch):
    """Catches an evaluation that is recorded without its calibration, or twice, where a stop comes in between."""
    config = small_config(tmp_path / "whole", "dsac_x", *TRAINED, *ASKED)
    whole = train_whole(config)
    config = dataclasses.replace(config, runs=str(tmp_path / "stopped"))
    play = monte_carlo.played_on

    def stopped(algorithm: Any, *given: Any) -> Any:
        trainers[0].stop("test")
        return play(algorithm, *given)

    trainers: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(monte_carlo, "played_on", stopped)
        assert train(config, None, [trainers.append]) == 75
    run = only_run(tmp_path / "stopped")
    assert not any(row[2].startswith("eval/") for row in lasting_rows(run))
    assert train(config, run) == 0
    assert sorted(lasting_rows(run)) == sorted(lasting_rows(whole))


def test_a_run_that_cannot_be_calibrated_is_refused_at_its_start(tmp_path: Path):
    """Catches hours of training before it shows that there is nothing to measure."""
    gymnasium = ["env=gymnasium", "env.id=Pendulum-v1", "env.backend=gymnasium"]
    for words, reason in ((gymnasium, "Gymnasium"), ([POLE, "algo.gamma=1.0"], "gamma=1.0")):
        config = small_config(tmp_path, "ddpg", *words, "eval.calibration=true")
        with pytest.raises(ConfigError) as refused:
            train(config, None)
        assert_says(str(refused.value), reason, "eval.calibration=false")
    assert not list(tmp_path.rglob("metrics.csv"))


def group_of(root: Path, *found: dict[str, Any]) -> Group:
    for seed, _ in enumerate(found):
        made_run(root, seed=seed)
    (group,), _ = grouped(read([root])[0])
    runs = [dataclasses.replace(run, calibration=one) for run, one in zip(group.runs, found, strict=True)]
    return dataclasses.replace(group, runs=tuple(runs))


def test_the_summary_says_bias_and_confidence(tmp_path: Path):
    """Catches a sign turned round, a ratio upside down, places that are not ranks."""
    one = {"mean": [2.0, 4.0], "return_mean": [1.0, 1.0], "sigma": [1.0, 2.0], "return_deviation": [2.0, 4.0]}
    two = {"mean": [0.0, 2.0], "return_mean": [1.0, 1.0], "sigma": [4.0, 2.0], "return_deviation": [2.0, 4.0]}
    one |= {"samples": 16, "covered": [0.5, 1.0]}  # two is of an older version, which did not count what is covered
    two |= {"samples": 64}
    found = calibration.summarise(group_of(tmp_path, one, two))
    assert found.bias.value == pytest.approx((2.0 + 0.0) / 2)
    assert found.size == 1
    assert found.ratio.value == pytest.approx((0.5 + 1.0) / 2)
    assert found.rank == pytest.approx((1 - 1) / 2)
    assert found.spread == pytest.approx(10**0.5)
    assert found.coverage == pytest.approx(0.75)
    assert found.samples == 16
    table = tables.critics([found])
    assert dict(zip(table.columns, table.rows[0], strict=True))["coverage"] == "75%"
    nothing = calibration.summarise(group_of(tmp_path / "none", None))
    assert nothing is None


def test_an_algorithm_without_critics_is_refused():
    """Catches an attribute error for an algorithm of one's own that says nothing of its critics."""
    algorithm = make_algorithm("sac")
    algorithm.critic_network = lambda: Algorithm.critic_network(algorithm)
    with pytest.raises(ValueError, match="has no critics"):
        predict(algorithm, *rows(2))
