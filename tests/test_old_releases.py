"""A release continues the runs of the one before it: small runs that it wrote are kept in tests/fixtures."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from small_runs import rows, world_by_world

from dsac import checkpoint, exit_codes
from dsac.replay_kernels import TRANSITION
from dsac.runs import load_policy
from dsac.train import main

FIXTURES = Path(__file__).parent / "fixtures"


@pytest.fixture
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of a run of the release before."""
    return shutil.copytree(FIXTURES / "schema-1" / request.param, tmp_path / "run")


@pytest.mark.parametrize("run", ["dsac_t", "ppo"], indirect=True)
def test_a_run_of_the_release_before_goes_on(run: Path):
    """Catches a change of the format that loses the runs which are under way."""
    assert main([f"resume={run}"]) == exit_codes.FINISHED
    assert rows(run)[-1]["env_steps"] == "256"
    manifest = checkpoint.read(checkpoint.committed(run / "checkpoints")[-1])[1]
    assert (manifest["schema"], manifest["env_steps"]) == (2, 256)
    load_policy(run, "best")


@pytest.mark.parametrize("run", ["dsac_t"], indirect=True)
def test_the_replay_of_the_release_before_is_all_there(run: Path):
    """Catches an upgrade that misplaces frames: every transition of the old rings, world by world, oldest first."""
    folder = checkpoint.committed(run / "checkpoints")[-1]
    old = load_file(folder / "state.safetensors")
    state, _ = checkpoint.read(folder)
    memory = state["trainer"]["memory"]
    found = world_by_world(memory["frames"])
    frames, written = -(-memory["capacity"] // 2) + 1, old["trainer.memory.written"]
    for world in range(2):
        newest = int(written[0, world]) - 1
        slots = [index % frames for index in range(max(0, newest + 1 - frames), newest)]
        for name in ("obs", "action", "reward", "flags"):
            assert np.array_equal(found[f"0.{world}.{name}"], old[f"trainer.memory.{name}"][0, world, slots])
        assert np.array_equal(memory["newest"][0, world], old["trainer.memory.obs"][0, world, newest % frames])
    kept = sum((found[f"0.{world}.flags"] & TRANSITION).sum() for world in range(2))
    assert kept == (old["trainer.memory.flags"] & TRANSITION).sum() > 150
