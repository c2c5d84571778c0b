"""Policies as data: the best and the last of every learner, in learner-<i>/best and last."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dsac.errors import CheckpointError, ConfigError
from dsac.nn.policy import Policy, restored
from dsac.persistence import atomic, checkpoint
from dsac.schema.plain_data import misfit
from envs.contract import EnvSpec


def load_policy(run: Path | str, which: str = "best", learner: int = 0) -> Policy:
    """The best or the last deterministic policy of a run: raw observations in, actions in the task's units out.

    Raises ConfigError when there is none, CheckpointError when it is damaged.
    """
    return read_policy(Path(run), which, learner)[0]


def read_policy(run: Path, which: str, learner: int) -> tuple[Policy, dict[str, Any]]:
    """The best or the last policy of a run, and the manifest that says where it comes from.

    Raises ConfigError when there is none, CheckpointError when it is damaged.
    """
    folder = run / f"learner-{learner}" / which
    if not atomic.present(folder):
        raise ConfigError(f"{run} has no {which} policy of learner {learner}")
    state, manifest = checkpoint.read(folder)
    if wrong := misfit({**manifest, "state": state}, {"env_steps": int, "state": {"description": dict}}):
        raise CheckpointError(f"{folder}: {wrong}")
    try:
        return restored(state["description"], state.get("parameters")), manifest
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{folder}: no policy: {error}") from error


def better_there(folder: Path, score: float) -> bool:
    """Whether a better policy stands there, of a session that did not live to save what led to it."""
    try:
        return float(atomic.read_manifest(folder)["score"]["eval/return"]) > score
    except (CheckpointError, KeyError, TypeError, ValueError):
        return False


def task_facts(spec: EnvSpec) -> dict[str, Any]:
    """What a policy's numbers mean: an export is refused where the task has changed since."""
    names = {"obs_names": list(spec.obs_names), "action_names": list(spec.action_names)}
    return {"id": spec.id, **names, "control_period_seconds": spec.dt}


def write_policy(folder: Path, policy: Any, facts: dict[str, Any]) -> None:
    """Write a policy as data: its description and its parameters."""
    checkpoint.write(folder, {"description": policy.description, "parameters": dict(policy.state_dict())}, facts)
