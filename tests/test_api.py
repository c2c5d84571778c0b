"""The library: the same commands from Python."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import only_run, small_words

import dsac
from dsac import evaluate, load_policy, train
from dsac.cli import exit_codes
from dsac.errors import ConfigError
from dsac.trainer import Trainer, every

ROOT = Path(__file__).parent.parent


def small_settings(runs: Path, *more: str) -> dict[str, str]:
    """The keys of a small run of PPO."""
    return dict(word.split("=", 1) for word in small_words(runs, "ppo", *more))


@pytest.mark.parametrize("before", ["", "import dsac.train, dsac.evaluate", "from dsac.train import main"])
def test_the_commands_are_functions_in_any_order_of_imports(before: str):
    """Catches a submodule that takes the place of the function of its name, and an import that is not light."""
    code = f"{before}\nimport dsac, sys\nfrom dsac import train, evaluate\nassert 'torch' not in sys.modules"
    code += "\nassert callable(train) and callable(evaluate) and train is dsac.train and callable(dsac.load_policy)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_train_evaluate_load(tmp_path: Path):
    """Catches a library that gives other numbers, or other objects, than the run folder holds."""
    outcome = train(**small_settings(tmp_path))
    assert outcome.run == only_run(tmp_path)
    assert (outcome.env_steps, outcome.updates, outcome.exit_code) == (256, 32, exit_codes.FINISHED)
    report = evaluate(outcome.run, episodes=3, which="last")
    assert len(report["returns"]) == 3
    assert len(outcome.scores) == 1
    again = train(resume=outcome.run)
    assert again == outcome

    policy = load_policy(outcome.run, which="last")
    obs = np.random.default_rng(0).normal(size=(5, 4))
    action = policy.act(obs)
    assert np.array_equal(action, policy(torch.as_tensor(obs, dtype=torch.float32)).numpy())
    assert action.dtype == np.float32
    assert policy.act(obs[0]).shape == (1,)
    with pytest.raises(ConfigError, match="no best policy of learner 3"):
        load_policy(outcome.run, learner=3)


def test_tasks_of_the_users_own(tmp_path: Path):
    """Catches a task that runs before the evaluation it looks at, sees no score, or cannot stop the run."""
    seen: list[tuple[int, Any]] = []

    def stop_when_scored(trainer: Any) -> None:
        seen.append((trainer.env_steps, list(trainer.scores)))
        if trainer.scores:
            trainer.stop("good enough")

    outcome = train(callbacks=[every(32, stop_when_scored)], **small_settings(tmp_path))
    assert [steps for steps, _ in seen] == [32, 64]
    assert seen[0][1] == []
    assert outcome.scores == tuple(seen[1][1])
    assert (outcome.env_steps, outcome.exit_code) == (64, exit_codes.RESUMABLE)
    assert train(resume=outcome.run).exit_code == exit_codes.FINISHED


def test_values_are_pythons_own(tmp_path: Path):
    """Catches a list, a None or a path that does not arrive as the word for it would."""
    own = {"algo.hidden_sizes": (4, 4), "algo.target_kl": None, "algo.layer_norm": True, "total_env_steps": 32.0}
    outcome = train(**small_settings(tmp_path) | own | {"runs": tmp_path / "own"})
    assert load_policy(outcome.run).description["net"] == {"sizes": [4, 4], "activation": "tanh", "layer_norm": True}


def test_all_problems_are_raised_at_once(tmp_path: Path):
    """Catches an exit in place of an error that a notebook can show, and a folder that is made first."""
    with pytest.raises(ConfigError) as error:
        train(env="Hoper", sed=3, runs=tmp_path / "runs", **{"algo.gamma": 2})
    assert len(error.value.problems) == 3
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ConfigError, match="did you mean episodes"):
        evaluate("x", episode=3)


def test_training_in_a_thread(tmp_path: Path):
    """Catches signal handlers that are set where only the main thread may set them."""
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(train(**small_settings(tmp_path))))
    thread.start()
    thread.join()
    assert outcomes[0].exit_code == exit_codes.FINISHED


def test_a_second_training_at_once_is_refused(tmp_path: Path):
    """Catches two trainings that crash in each other's parser, compiler or signals, in one of two tries."""
    refusals: list[str] = []

    def second(trainer: Trainer) -> None:
        trainer.stop("enough")
        with pytest.raises(ConfigError) as error:
            train(**small_settings(tmp_path / "second"))
        refusals.append(str(error.value))

    thread = threading.Thread(target=lambda: train(callbacks=[second], **small_settings(tmp_path / "first")))
    thread.start()
    thread.join()
    assert len(refusals) == 1
    assert "dsac.sweep" in refusals[0]
    assert not (tmp_path / "second").exists()
    assert train(**small_settings(tmp_path / "second")).exit_code == exit_codes.FINISHED


def test_unknown_names_are_no_part_of_the_package():
    """Catches a lazy import that answers to any name."""
    name = "trian"
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        getattr(dsac, name)
