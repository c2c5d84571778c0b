"""States under right hashes that are none: refused with a line and exit 5, never taken for a run at its beginning."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forged import edit_manifest, forge_state
from small_runs import small_words

from dsac import evaluate
from dsac.cli import exit_codes
from dsac.errors import CheckpointError
from dsac.persistence import checkpoint
from dsac.persistence.policies import load_policy
from dsac.train import main


def without(*path: str) -> Callable[[Any], Any]:
    """A change that takes a part out of a state."""

    def change(state: Any) -> Any:
        part = state
        for key in path[:-1]:
            part = part[key]
        del part[path[-1]]
        return state

    return change


def instead(value: Any, *path: str) -> Callable[[Any], Any]:
    """A change that puts a value in a part's place."""

    def change(state: Any) -> Any:
        part = state
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        return state

    return change


ARRAY = np.zeros(3, np.float32)
STATES = {
    "empty": lambda state: {},
    "list": lambda state: [],
    "null": lambda state: None,
    "empty trainer": instead({}, "trainer"),
    "no trainer": without("trainer"),
    "no logger": without("logger"),
    "empty logger": instead({}, "logger"),
    "no evaluator": without("evaluator"),
    "no algorithm": without("trainer", "algorithm"),
    "empty algorithm": instead({}, "trainer", "algorithm"),
    "algorithm of numbers": instead({"actor.output.bias": 5}, "trainer", "algorithm"),
    "empty memory": instead({}, "trainer", "memory"),
    "empty collector": instead({}, "trainer", "collector"),
    "no worlds": instead([], "trainer", "collector", "envs"),
    "steps in words": instead("many", "trainer", "env_steps"),
    "count in words": instead("many", "trainer", "updater", "count"),
    "generators that are none": instead(["x"], "trainer", "updater", "generators"),
    "weights of another shape": instead(ARRAY, "trainer", "algorithm", "actor.output.bias"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_state_that_lacks_parts_is_not_resumed(name: str, run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches `if state:`, by which an empty state began anew in the folder of a run and was called resumed."""
    for folder in checkpoint.committed(run / "checkpoints"):
        forge_state(folder, STATES[name])
    rows = (run / "learner-0" / "metrics.csv").read_bytes()
    assert main([f"resume={run}"]) == exit_codes.STORAGE
    captured = capsys.readouterr()
    assert "resumed" not in captured.out
    assert len([line for line in captured.err.splitlines() if line.startswith("error: ")]) == 1
    assert (run / "learner-0" / "metrics.csv").read_bytes() == rows


def test_an_older_state_that_is_whole_is_taken(run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches a run that is given up for one bad checkpoint among several."""
    old, new = checkpoint.committed(run / "checkpoints")
    forge_state(new, STATES["empty"])
    assert main([f"resume={run}"]) == exit_codes.FINISHED
    captured = capsys.readouterr()
    assert f"at {int(old.name.removeprefix('step-')) - 40} env steps" in captured.out
    assert "trainer is missing" in captured.err


def test_a_manifest_that_lacks_facts_is_refused(run: Path):
    """Catches a traceback where a manifest does not say of which step it is."""
    for key in ("env_steps", "step"):
        copy = shutil.copytree(run, run.with_name(key))
        for folder in checkpoint.committed(copy / "checkpoints"):
            edit_manifest(folder, lambda manifest, key=key: manifest.pop(key))
        assert main([f"resume={copy}"]) == exit_codes.STORAGE


@pytest.mark.parametrize("name", ["empty", "list", "no algorithm", "algorithm of numbers"])
def test_no_run_starts_from_weights_that_are_none(name: str, run: Path):
    """Catches init_from with a traceback, or with weights that were never there."""
    for folder in checkpoint.committed(run / "checkpoints"):
        forge_state(folder, STATES[name])
    words = small_words(run.parent / "new", "dsac_t", "total_env_steps=2", f"init_from={run}")
    code = main(words)
    assert code in (exit_codes.STORAGE, exit_codes.USAGE)
    assert not list((run.parent / "new").rglob("config.yaml"))


def integers(state: Any) -> Any:
    state["parameters"] = {name: value.astype(np.int64) for name, value in state["parameters"].items()}
    return state


def one_weight(dtype: str, shape: tuple[int, ...] | None = None) -> Callable[[Any], Any]:
    def change(state: Any) -> Any:
        old = state["parameters"]["net.output.bias"]
        state["parameters"]["net.output.bias"] = np.zeros(shape or old.shape, dtype)
        return state

    return change


POLICIES = {
    "integers": integers,
    "double": one_weight("float64"),
    "one integer": one_weight("int32"),
    "shape": one_weight("float32", (1, 9)),
    "transposed": lambda state: instead(
        np.ascontiguousarray(state["parameters"]["net.output.weight"].T), "parameters", "net.output.weight"
    )(state),
    "missing": without("parameters", "net.output.bias"),
    "unknown": instead(ARRAY, "parameters", "more"),
    "no array": instead(5, "parameters", "net.output.bias"),
    "empty": lambda state: {},
    "list": lambda state: [],
    "no description": without("description"),
    "huge": instead(10**9, "description", "obs_dim"),
    "beyond all": instead(10**30, "description", "obs_dim"),
    "deep": instead([8] * 100_000, "description", "net", "sizes"),
    "words": instead("many", "description", "obs_dim"),
    "activation": instead("__import__", "description", "net", "activation"),
    "head": instead("sigmoid", "description", "head"),
    "clip": instead("far", "description", "obs_clip"),
    "more": instead(1, "description", "more"),
    "outputs": instead(1, "description", "outputs"),
}


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_of_another_form_is_refused(name: str, run: Path, capsys: pytest.CaptureFixture[str]):
    """Catches weights that are cast or broadcast in silence, and a traceback or gigabytes for a wrong description."""
    forge_state(run / "learner-0" / "last", POLICIES[name])
    assert evaluate.main([f"run={run}", "which=last", "episodes=1"]) == exit_codes.STORAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert str(run / "learner-0" / "last") in line
    with pytest.raises(CheckpointError):
        load_policy(run, "last")
