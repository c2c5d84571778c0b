"""run.json: one entry a session (a start or a resume) of a run, what it was made with and how it ended."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dsac.config import to_tree
from dsac.errors import CrashLoop, FileError
from dsac.persistence import atomic
from dsac.schema.files import read_json
from dsac.schema.plain_data import misfit
from dsac.schema.run_config import TrainConfig
from envs.system import processor

SESSION = {"at_step?": (int, None), "versions?": dict, "ended?": {"exit_code?": (int, None)}}
LIBRARIES = ("dsac", "torch", "mujoco", "gymnasium", "numpy", "numba")
GRACEFUL = (0, 75)  # exit codes of a session that ended as it should


def config_hash(config: TrainConfig) -> str:
    """Twelve hex digits that name the settings."""
    return hashlib.sha256(json.dumps(to_tree(config), sort_keys=True).encode()).hexdigest()[:12]


def facts(config: TrainConfig, task: str, torch_threads: int, env_steps: int, step: int | None) -> dict[str, Any]:
    """What a reader needs to repeat a session: versions, revision, config, processor, threads. No host names.

    task: the id of its envs. env_steps, step: where it begins, the warm-up not counted and counted; step None for a
    new run.
    """
    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "task": task,
        "at_env_steps": env_steps,
        "at_step": step,
        "versions": {"python": platform.python_version(), **{name: installed(name) for name in LIBRARIES}},
        "git_revision": revision(),
        "config_hash": config_hash(config),
        "device": config.device,
        "accelerate": config.accelerate,
        "precision": config.precision,
        "architecture": platform.machine(),
        "cpu": processor(),
        "cores": os.cpu_count(),
        "threads": config.threads,
        "torch_threads": torch_threads,
        "policy_lag_blocks": int(config.overlap),
    }


def read(run: Path) -> list[dict[str, Any]]:
    """The sessions of a run, oldest first; none where run.json is missing or damaged, since training can do without."""
    try:
        found = read_json(run / "run.json")
    except FileError:
        return []
    return found["sessions"] if misfit(found, {"sessions": [SESSION]}) is None else []


def begin(run: Path, session: Mapping[str, Any]) -> None:
    """Add the entry of a session that begins."""
    write(run, [*read(run), dict(session)])


def end(run: Path, code: int | None, env_steps: int) -> None:
    """Add to the newest entry how its session ended: exit code None where a defect of the program ended it."""
    *earlier, newest = read(run) or [{}]
    write(run, [*earlier, {**newest, "ended": {"exit_code": code, "env_steps": env_steps}}])


def write(run: Path, sessions: list[dict[str, Any]]) -> None:
    """Replace run.json by one with these sessions."""
    atomic.write_text(run / "run.json", json.dumps({"sessions": sessions}, indent=2))


def refuse_crash_loop(run: Path, step: int, most: int) -> None:
    """Raise CrashLoop if the last `most` resumes all began at this step and none ended with exit code 0 or 75."""
    idle = 0
    for session in reversed(read(run)[1:]):
        if session.get("at_step") != step or session.get("ended", {}).get("exit_code") in GRACEFUL:
            break
        idle += 1
    if idle >= most:
        raise CrashLoop(
            f"{run} was resumed {idle} times at step {step:,} and got no further: see what the last session wrote, "
            f"and {run / 'stacks.log'}; once the cause is removed, resumes_without_progress={idle + 1} goes on"
        )


def inexactness(before: Mapping[str, Any], now: Mapping[str, Any], exact_envs: bool) -> list[str]:
    """Why a resumed run may differ from the run that was never stopped; empty where it is bit for bit the same.

    before, now: the facts of the session before and of this one. exact_envs: whether all environments were restored.
    """
    reasons = [] if exact_envs else ["its environments cannot be saved, new episodes begin"]
    if str(now["device"]).startswith("cuda"):
        reasons.append("a GPU may add in another order")
    versions = before.get("versions", {})
    pairs = {name: (versions.get(name), now["versions"][name]) for name in now["versions"]}
    keys = ("git_revision", "device", "accelerate", "architecture", "cpu", "threads", "torch_threads")
    pairs |= {key: (before[key], now[key]) for key in keys if key in before}
    return reasons + [f"{key} was {old}, is {new}" for key, (old, new) in pairs.items() if old != new]


def installed(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def revision() -> str | None:
    """The git revision of the source tree, with "+" where it was changed since; None outside its repository."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout

    try:
        git("ls-files", "--error-unmatch", "folder.py")  # an installed package may lie inside someone else's repository
        return git("rev-parse", "HEAD").strip() + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
