"""Nothing that is not finite gets further than where it arose, and the moment in which it arose can be had again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from said import assert_says
from small_runs import assert_same, final_state, only_run, rows, small_config, small_words, train, train_whole

from dsac import evaluate
from dsac.callbacks import divergence
from dsac.callbacks.divergence import MOST_SNAPSHOTS
from dsac.cli import exit_codes
from dsac.collection import collector
from dsac.config import compose, load
from dsac.errors import NumericalFault
from dsac.evaluation import scoring
from dsac.export.runtimes import Runtime, play
from dsac.memory.kernels import TRANSITION
from dsac.persistence import checkpoint
from dsac.persistence.policies import load_policy
from dsac.runs import hardware, record
from dsac.runs.parts import build
from dsac.schema.run_config import TrainConfig
from dsac.train import main
from dsac.trainer import Trainer
from envs import contract
from envs.contract import EnvironmentFault, NonFiniteAction
from envs.gymnasium import GymnasiumVecEnv

POISON_AT = 130


def once(action: Callable[[Any], None], env_steps: int = POISON_AT) -> Callable[[Any], None]:
    """A task that does something once, when a run has taken so many steps."""

    def task(trainer: Any) -> None:
        if trainer.env_steps == env_steps:
            action(trainer)

    return task


def poisoned(name: str, value: float) -> Callable[[Any], None]:
    """A task that puts a number into the algorithm's state."""

    def action(trainer: Any) -> None:
        with torch.no_grad():
            trainer.algorithm.state_dict()[name].view(-1)[-1] = value

    return once(action)


def assert_finite(run: Path) -> None:
    """Every number of every checkpoint and policy that a run has."""
    folders = [*checkpoint.committed(run / "checkpoints"), *run.glob("learner-*/best"), *run.glob("learner-*/last")]
    assert len(folders) >= 3
    for folder in folders:
        state, _ = checkpoint.read(folder)
        for log in checkpoint.logs(state):
            assert all(np.isfinite(chunk[name]).all() for chunk in log for name in ("obs", "action", "reward"))
        assert "NaN" not in (folder / checkpoint.TREE).read_text()
        for path, value in leaves(state):
            assert np.isfinite(value).all(), path


def leaves(tree: Any, path: str = "") -> list[tuple[str, np.ndarray]]:
    """The numeric arrays of a state."""
    if isinstance(tree, dict | list):
        entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
        return [leaf for key, value in entries for leaf in leaves(value, f"{path}.{key}")]
    return [(path, tree)] if isinstance(tree, np.ndarray) and tree.dtype.kind == "f" else []


POISONS = [
    ("critics.net.output.bias", np.nan), ("critics.net.hidden.0.weight", np.inf), ("actor.output.bias", np.nan),
    ("target_critics.net.output.bias", np.nan), ("target_actor.hidden.1.bias", -np.inf), ("sigma_average", np.nan),
    ("log_alpha", np.inf), ("critic_optimizer.mean_0", np.nan), ("actor_optimizer.square_1", np.inf),
    ("observations.moments.mean", np.nan), ("returns.moments.m2", np.nan), ("returns.running", np.inf),
]  # fmt: skip


FEW = [0, 2, 6, 9]  # a critic, the actor, the temperature, a normaliser
NORMALIZED = ("algo.observation_normalization=true", "algo.return_normalization=true")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What a run comes to in which nothing happens."""
    return final_state(train_whole(small_config(tmp_path_factory.mktemp("whole"), "dsac_t", *NORMALIZED)))


@pytest.mark.parametrize(
    ("name", "value"),
    [pytest.param(*poison, marks=[] if k in FEW else pytest.mark.faults) for k, poison in enumerate(POISONS)],
)
def test_a_number_that_is_not_finite_ends_the_run_and_is_not_saved(
    name: str, value: float, whole: dict[str, np.ndarray], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches a NaN in any part of the learner that is trained on, saved over what was good, or evaluated."""
    config = small_config(tmp_path / "runs", "dsac_t", *NORMALIZED)
    with pytest.raises((NumericalFault, NonFiniteAction)) as fault:
        train(config, None, [poisoned(name, value)])
    assert exit_codes.code_of(fault.value) == exit_codes.NUMERICAL
    run = only_run(tmp_path / "runs")
    assert record.read(run)[-1]["ended"]["exit_code"] == exit_codes.NUMERICAL
    assert_finite(run)
    (moment,) = (run / "snapshots").iterdir()
    assert str(moment) in str(fault.value) + capsys.readouterr().err
    assert main([f"resume={run}"]) == exit_codes.FINISHED
    assert_same(final_state(run), whole)


def test_the_update_of_a_snapshot_diverges_again(tmp_path: Path):
    """Catches a moment that lacks what the update depended on, and one of another update."""
    with pytest.raises(NumericalFault, match=r"update 33.*learner 0.*not finite.*snapshots/000000000170-diverged"):
        train(small_config(tmp_path), None, [poisoned("critics.net.output.bias", 1e30)])
    (moment,) = (only_run(tmp_path) / "snapshots").iterdir()
    state, manifest = checkpoint.read(moment)
    assert (manifest["updates"], manifest["seeds"]) == (33, [0])
    trainer = made(small_config(tmp_path))
    tensors = {name: torch.from_numpy(value) for name, value in state["algorithm"].items()}
    trainer.algorithm.load_state_dict(tensors | {"frozen": torch.tensor([False])})
    batch, noise = (
        {name: torch.from_numpy(value) for name, value in state[part].items()} for part in ("batch", "noise")
    )
    kind = type(next(iter(filled(trainer).batches())))
    trainer.algorithm.update(kind(**batch), noise, True)
    assert trainer.algorithm.frozen.all()


def made(config: TrainConfig) -> Trainer:
    """The parts of a run, as the machine decides."""
    return build(hardware.resolve_hardware(config)[0])


def filled(trainer: Trainer) -> Any:
    """The memory of a trainer with enough in it to draw from."""
    while trainer.memory.updates_due < 1:
        trainer.memory.add(trainer.collector.collect(trainer.act, 1))
    return trainer.memory


def test_one_learner_of_two_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a learner that takes its neighbour down with it, and one that is lost without a word."""
    task = poisoned("critics.net.output.bias", 1e30)
    assert train(small_config(tmp_path / "two", "dsac_t", "learners=2"), None, [task]) == exit_codes.FINISHED
    assert_says(capsys.readouterr().err, "learner 1", "not finite", "others go on")
    run, sound = only_run(tmp_path / "two"), train_whole(small_config(tmp_path / "sound", "dsac_t", "learners=2"))
    assert_finite(run)
    expected, found = final_state(sound), final_state(run)
    for name in ("algorithm.actor.output.weight", "algorithm.critics.net.output.bias"):
        assert np.array_equal(found[name][0], expected[name][0])
        assert not np.array_equal(found[name][1], expected[name][1])
    assert len(list((run / "snapshots").iterdir())) == 1


def overturned(worlds: Any) -> Any:
    """Worlds of which the second one fails in every fourth step of its episode."""
    step = worlds.step

    def failing(action: np.ndarray) -> Any:
        if worlds.state_dict()["episode_step"][1] == 3:
            worlds.datas[1].qvel[0] = 1e12
        return step(action)

    worlds.step = failing
    return worlds


def test_a_failed_world_is_left_out_and_its_snapshot_comes_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a reset inside the simulator that is learned from, a snapshot that cannot be repeated since a state or an
    action is missing, actions that are kept for ever, and a flooded disk."""
    monkeypatch.setattr(collector, "RECORDED_STEPS", 6)

    def overturn(trainer: Any) -> None:
        if trainer.warmup_env_steps == 2 and trainer.env_steps == 0:
            overturned(trainer.collector.envs[0])

    config = small_config(tmp_path)
    assert train(config, None, [overturn]) == exit_codes.FINISHED
    run = only_run(tmp_path)
    assert_finite(run)
    snapshots = sorted((run / "snapshots").iterdir())
    assert len(snapshots) == MOST_SNAPSHOTS
    lengths = []
    for snapshot in snapshots:
        state, manifest = checkpoint.read(snapshot)
        assert_says(manifest["reason"], "failed", "left out of the replay")
        worlds = overturned(made(config).collector.envs[0])
        (recording,) = state["recordings"]
        worlds.load_state_dict(recording["state"])
        step = [worlds.step(action) for action in recording["action"]][-1]
        assert np.array_equal(step.invalid, state["block"]["invalid"][-1, 0])
        assert np.array_equal(step.next_obs, state["block"]["next_obs"][-1, 0])
        assert np.array_equal(step.reward, state["block"]["reward"][-1, 0])
        assert step.invalid[1]
        lengths.append(len(recording["action"]))
    assert 1 < max(lengths) <= 6
    final = checkpoint.newest(run / "checkpoints")[0]["trainer"]
    assert MOST_SNAPSHOTS < int(final["collector"]["invalid_steps"][0]) <= (40 + 256) // 2 // 4


def test_an_action_that_is_not_finite_reaches_no_world(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a simulator that is fed NaN, and a snapshot without the actions that did not get through."""

    def act(trainer: Any) -> None:
        inner = trainer.act
        trainer.act = lambda obs, noise: inner(obs, noise) * float("nan")

    with pytest.raises(NonFiniteAction, match=r"world 0.* nan.*first metric"):
        train(small_config(tmp_path), None, [once(act)])
    (moment,) = (only_run(tmp_path) / "snapshots").iterdir()
    state, manifest = checkpoint.read(moment)
    assert manifest["reason"] in capsys.readouterr().err or str(moment)
    assert np.isnan(state["block"]["action"]).all()
    worlds = made(small_config(tmp_path)).collector.envs[0]
    (recording,) = state["recordings"]
    worlds.load_state_dict(recording["state"])
    *before, last = recording["action"]
    steps = [worlds.step(action) for action in before]
    assert np.array_equal(steps[-1].obs, state["block"]["obs"][-1, 0])
    with pytest.raises(NonFiniteAction):
        worlds.step(last)


def words_for(world: str, runs: Path, algo: str = "sac", *more: str) -> list[str]:
    """The words of a small run in one of faulty_worlds."""
    words = [word for word in small_words(runs, algo, *more) if not word.startswith("env=")]
    return [*words, "env=gymnasium", f"env.id=faulty_worlds:{world}-v0"]


def invalid_steps(run: Path) -> list[float]:
    """Their count as the curves show it."""
    return [float(row["value"]) for row in rows(run) if row["tag"] == "collect/invalid_steps"]


@pytest.mark.parametrize("algo", ["sac", "ppo"])
@pytest.mark.parametrize(
    ("world", "where"),
    [
        ("ResetsToNaN", "reset failed in world [01] .*obs\\[2\\] is nan"),
        ("NoFlag", "step on action .* failed in world [01] .*terminated is None .*True or False is right"),
        ("Exits", "step on action .* failed in world [01] .*SystemExit: 0"),
    ],
)
def test_a_fault_of_a_world_ends_the_run_with_its_line(
    world: str, where: str, algo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches a world that ends the process as if it were finished, and a policy that is blamed for a NaN of reset."""
    assert main(words_for(world, tmp_path, algo)) == exit_codes.ENVIRONMENT
    errors = capsys.readouterr().err
    assert re.search(f"^error: (faulty_worlds:)?{world}-v0: {where}.*; repair the environment", errors, re.MULTILINE)
    assert "diverged" not in errors
    assert record.read(only_run(tmp_path))[-1]["ended"]["exit_code"] == exit_codes.ENVIRONMENT


@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_a_reward_that_is_not_finite_is_told_of_once_and_counted(
    algo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches steps that vanish from what is learned without a word, and a warning for each of them."""
    assert main(words_for("OneNaN", tmp_path, algo)) == exit_codes.FINISHED
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "collect/invalid_steps" in line]
    assert_says(line, "warning: faulty_worlds:OneNaN-v0: ", "reward of world 0", "nan", "step 10")
    counts = invalid_steps(only_run(tmp_path))
    assert counts == sorted(counts)
    assert counts[-1] == 2


@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_a_reward_that_is_never_finite_is_a_fault(algo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a traceback of the replay, a learner that diverges on nothing, and a run that learned nothing at all."""
    assert main(words_for("NeverFinite", tmp_path, algo)) == exit_codes.ENVIRONMENT
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"error: all \d+ env steps of learner 0 were invalid.*reward of world 0 is nan at step 1 ", error)
    assert "repair the environment" in error


@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_worlds_that_stay_broken_end_the_run(
    algo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a run that goes on for ever on what it learned before every world broke."""
    words = words_for("FiniteAtFirst", tmp_path / "patient", algo, "eval_every_env_steps=512", "total_env_steps=512")
    assert main(words) == exit_codes.FINISHED
    assert invalid_steps(only_run(tmp_path / "patient"))[-1] > 0
    monkeypatch.setattr(divergence, "MOST_INVALID_STEPS", 48)
    words = words_for("FiniteAtFirst", tmp_path / "run", algo, "eval_every_env_steps=256")
    assert main(words) == exit_codes.ENVIRONMENT
    assert re.search(
        r"error: the last \d\d steps of every world of learner 0 were invalid, .*at step 1 ", capsys.readouterr().err
    )


def test_a_task_without_an_end_is_trained_on_and_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches an evaluation that never comes back, and one that warns each time anew."""
    monkeypatch.setattr(scoring, "LONG_EPISODE", 20)
    monkeypatch.setattr(contract, "MOST_EPISODE_STEPS", 50)
    assert main(words_for("Endless", tmp_path)) == exit_codes.FINISHED
    lines = [line for line in capsys.readouterr().err.splitlines() if "max_episode_steps" in line]
    assert ["taken 20 steps" in line for line in lines] == [True, False]
    assert_says(lines[1], "2 of 2", "step 50")
    run = only_run(tmp_path)
    assert {row["value"] for row in rows(run) if row["tag"] == "eval/length"} == {"50.0"}
    assert main(words_for("Endless", tmp_path / "clock", "sac", "env.max_episode_steps=30")) == exit_codes.FINISHED
    assert "max_episode_steps" not in capsys.readouterr().err
    assert evaluate.main([f"run={run}", "episodes=1", "env.id=faulty_worlds:Endless-v0"]) == exit_codes.FINISHED
    assert_says(capsys.readouterr().err, "1 of 1", "step 50")


@pytest.mark.parametrize("fault", ["reset", "flag", "exit"])
def test_scoring_again_and_the_closed_loop_of_an_export_see_the_same_faults(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a world that is checked while it trains and not while its policy is scored."""
    run = train_whole(load(compose(words_for("Well", tmp_path))))
    monkeypatch.setitem(gymnasium.registry["Well-v0"].kwargs, "fault", fault)
    assert evaluate.main([f"run={run}", "env.id=faulty_worlds:Well-v0"]) == exit_codes.ENVIRONMENT
    assert "error: faulty_worlds:Well-v0: " in capsys.readouterr().err
    runtime = Runtime("none", lambda obs: np.zeros((len(obs), 1), np.float32), 0.0, 0.0)

    def closed_loop() -> None:
        play(runtime, GymnasiumVecEnv("faulty_worlds:Well-v0", 1, 0, action_units="env"), 1, 0)

    with pytest.raises(EnvironmentFault, match="failed in world 0"):
        closed_loop()


@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_worlds_that_talk_nonsense_leave_no_trace_of_it(algo: str, tmp_path: Path):
    """Catches NaN and Inf of an environment in replay, normaliser or checkpoint, and successors that were reset."""
    assert main(words_for("Nonsense", tmp_path, algo, "algo.observation_normalization=true")) == exit_codes.FINISHED
    run = only_run(tmp_path)
    assert_finite(run)
    load_policy(run)
    state = checkpoint.newest(run / "checkpoints")[0]["trainer"]
    failed = int(state["collector"]["invalid_steps"][0])
    assert 15 < failed < 120
    if algo == "ppo":
        return
    for chunk in state["memory"]["frames"]:
        held = np.flatnonzero(chunk["flags"][:-1] & TRANSITION)
        inside = held[np.isin(held + 1, np.cumsum(chunk["stop"] - chunk["start"]).ravel(), invert=True)]
        successor, before = chunk["obs"][inside + 1], chunk["obs"][inside]
        assert np.array_equal(successor[:, 1], before[:, 1])  # the same episode
        assert np.array_equal(successor[:, 2], before[:, 2] + 1)  # the next time
