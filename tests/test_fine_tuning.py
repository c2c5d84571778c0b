"""init_from: a new run that starts from what another one learned, and from nothing else of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from said import assert_says
from small_runs import final_state, only_run, rows, small_config, small_words, train_whole

from dsac.algorithms import names
from dsac.cli import exit_codes
from dsac.config import compose, load
from dsac.persistence import checkpoint
from dsac.runs.fine_tuning import take_weights, wanted
from dsac.runs.hardware import resolve_hardware
from dsac.runs.parts import build
from dsac.train import main

NORMALIZED = "algo.observation_normalization=true"


def source_run(runs: Path, algo: str, *more: str) -> Path:
    return train_whole(small_config(runs, algo, NORMALIZED, *more))


@pytest.mark.parametrize("algo", names())
def test_weights_and_statistics_are_taken_and_nothing_else(algo: str, tmp_path: Path):
    """Catches a network or a normaliser that starts afresh, an optimizer or a counter that does not."""
    source = source_run(tmp_path, algo)
    trainer = build(resolve_hardware(small_config(tmp_path, algo, NORMALIZED, "seed=7"))[0])
    fresh = {name: value.clone() for name, value in trainer.algorithm.state_dict().items()}
    facts = take_weights(trainer.algorithm, source)
    assert facts == {"run": str(source), "env_steps": 256}
    state, _ = checkpoint.read(checkpoint.committed(source / "checkpoints")[-1])
    saved, taken = state["trainer"]["algorithm"], wanted(trainer.algorithm).keys()
    assert {"actor.output.weight", "observations.moments.count", "observations.mean"} <= taken
    for name, value in trainer.algorithm.state_dict().items():
        assert np.array_equal(value, saved[name] if name in taken else fresh[name]), name
    assert all(value.sum() == 0 for name, value in trainer.algorithm.state_dict().items() if "optimizer.mean_" in name)
    assert (trainer.env_steps, trainer.updates) == (0, 0)


def test_one_learner_starts_all(tmp_path: Path):
    """Catches a broadcast that reaches the first learner only, and statistics that learners come to share."""
    source = source_run(tmp_path, "sac")
    trainer = build(resolve_hardware(small_config(tmp_path, "sac", NORMALIZED, "learners=3"))[0])
    take_weights(trainer.algorithm, source)
    weight, count = trainer.algorithm.actor.output.weight, trainer.algorithm.observations.moments.count
    assert torch.equal(weight[2], weight[0])
    count[1] = 0
    assert count[0] > 0


def test_a_fine_tuned_run_trains_resumes_and_says_where_it_comes_from(tmp_path: Path):
    """Catches a source that is not recorded, and a resume that takes the source's weights again."""
    source = source_run(tmp_path / "source", "ppo")
    words = small_words(tmp_path / "tuned", "ppo", NORMALIZED, f"init_from={source}", "num_envs=4")
    assert main(words) == exit_codes.FINISHED
    run = only_run(tmp_path / "tuned")
    (session,) = json.loads((run / "run.json").read_text())["sessions"]
    assert session["init_from"] == {"run": str(source), "env_steps": 256}
    assert rows(run)[-1]["env_steps"] == "256"
    counts = [final_state(folder)["algorithm.observations.moments.count"] for folder in (source, run)]
    assert counts[1] == counts[0] + 256 + 64  # its own steps and warm-up

    source.rename(tmp_path / "away")
    before = final_state(run)["algorithm.observations.moments.count"]
    assert main([f"resume={run}", "total_env_steps=320"]) == exit_codes.FINISHED
    assert final_state(run)["algorithm.observations.moments.count"] == before + 64


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["algo.hidden_sizes=[8,9]"], [
            "actor.hidden.1.bias has the shape (1, 1, 8) there, (1, 1, 9) here",
            "actor.hidden.1.weight has the shape (1, 8, 8) there, (1, 8, 9) here",
            "actor.output.weight has the shape (1, 8, 2) there, (1, 9, 2) here",
        ]),
        (["env=Hopper"], ["observations.mean has the shape (1, 4) there, (1, 11) here"]),
        (["algo.layer_norm=true"], ["actor.norms.0.bias has the shape none there, (1, 1, 8) here"]),
        (["algo.observation_normalization=false"], ["observations.mean has the shape (1, 4) there, none here"]),
        (["algo.activation=relu", "learners=2"], ["algo.activation is gelu there, relu here"]),
        (["algo=td3"], ["algo is sac there, td3 here"]),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_a_diff(
    words: list[str], lines: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Catches weights that are cut, padded or put to another use in silence, and a folder made before the refusal."""
    source = source_run(tmp_path / "source", "sac")
    capsys.readouterr()
    kept = small_words(tmp_path / "runs", "sac", NORMALIZED, f"init_from={source}")
    chosen = {word.partition("=")[0] for word in words}
    assert main([word for word in kept if word.partition("=")[0] not in chosen] + words) == exit_codes.USAGE
    errors = capsys.readouterr().err.splitlines()
    assert {f"error: init_from={source}: {line}" for line in lines} <= set(errors)
    assert not [line for line in errors if "optimizer" in line]
    assert not (tmp_path / "runs").exists()


def test_other_learner_counts_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches two learners that become three."""
    source = source_run(tmp_path / "source", "ppo", "learners=2")
    words = small_words(tmp_path / "runs", "ppo", NORMALIZED, f"init_from={source}", "learners=3")
    capsys.readouterr()
    assert main(words) == exit_codes.USAGE
    assert_says(capsys.readouterr().err, f"error: init_from={source}: ", "2 learners", "learners=2\n")


def test_a_source_that_is_none_is_named_beside_the_other_problems(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a missing run that is found out only after the worlds are built, or after the other problems."""
    words = small_words(tmp_path / "runs", "sac", f"init_from={tmp_path / 'nowhere'}", "algo.gamma=2")
    assert main(words) == exit_codes.USAGE
    errors = capsys.readouterr().err.splitlines()
    assert_says(errors[0], f"error: init_from={tmp_path / 'nowhere'}: ", "not a run folder", "config.yaml")
    assert errors[1].startswith("error: algo.gamma=2")


def test_resume_and_init_from_together_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a run that is continued with the weights of another."""
    run = source_run(tmp_path, "ppo")
    assert main([f"resume={run}", f"init_from={run}"]) == exit_codes.USAGE
    assert_says(capsys.readouterr().err, f"init_from={run}: ", "null", "fixed")


def test_a_damaged_checkpoint_of_the_source_stays_where_it_is(tmp_path: Path):
    """Catches a reader that moves folders about in a run that may be training."""
    source = source_run(tmp_path, "ppo")
    newest = checkpoint.committed(source / "checkpoints")[-1]
    (newest / "state.json").write_text("{}")
    trainer = build(resolve_hardware(load(compose(small_words(tmp_path, "ppo", NORMALIZED))))[0])
    assert take_weights(trainer.algorithm, source)["env_steps"] < 256
    assert newest.is_dir()
