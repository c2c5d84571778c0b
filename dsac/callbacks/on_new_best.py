"""export.on_new_best=true: each new best policy becomes an ONNX file with its contract, while the training goes on."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dsac.config import to_tree
from dsac.errors import CheckpointError
from dsac.persistence.atomic import read_manifest
from dsac.schema.files import read_json
from dsac.schema.importing import modules_named
from dsac.schema.plain_text import warn
from dsac.schema.run_config import TrainConfig
from dsac.schema.safe_action import safe_action, safe_action_warning
from dsac.trainer import Trainer
from envs.contract import EnvSpec

CHILD = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the trainer is in the background of a script
os.nice(19)
from dsac.export import main
sys.exit(main(sys.argv[1:]))
"""
NEEDED = ("onnx", "onnxruntime")
SECONDS_TO_FINISH, SECONDS_TO_STOP = 300, 5


def check_settings(config: TrainConfig, spec: EnvSpec) -> None:
    """Raise ConfigError for a safe action that the task's actuators cannot do; warn where a robot's own is missing."""
    if config.export.on_new_best:
        safe_action(config.export.safe_action, spec)
        if line := safe_action_warning(config.export.safe_action, config.env.name, "export.safe_action"):
            warn(line)


class ExportOnNewBest:
    """A callback that keeps learner-<i>/export-best at the best policy, in child processes of the lowest priority.

    What is owed is read from the folders: a best policy whose export is of other env steps. So a run that was stopped
    catches up when it is resumed, and there is no state to save.
    """

    def __init__(self, run: Path, config: TrainConfig) -> None:
        self.run, self.learners, self.safe_action = run, config.learners, config.export.safe_action
        self.named = modules_named(to_tree(config), uses=("env",))
        self.children: dict[int, subprocess.Popen[str]] = {}
        self.tried: dict[int, int] = {}
        self.wanted = config.export.on_new_best and all(importlib.util.find_spec(name) for name in NEEDED)
        if config.export.on_new_best and not self.wanted:
            warn("export.on_new_best=true needs the extra: pip install -e '.[export]'")

    def __call__(self, trainer: Trainer | None = None) -> None:
        """Start a child for each learner that is owed an export and has none at work."""
        for learner in range(self.learners if self.wanted else 0):
            if self.at_work(learner):
                continue
            best = self.best(learner)
            if best is not None and best not in (self.exported(learner), self.tried.get(learner)):
                self.tried[learner] = best  # one that fails is not tried again
                self.children[learner] = self.start(learner)

    def close(self, finished: bool) -> None:
        """Wait for what is owed where the run has finished; else stop the children, which leave no file behind."""
        try:
            if finished:
                self()
            if finished and self.children:
                print("exporting the best policies that are new", file=sys.stderr, flush=True)
            deadline = time.monotonic() + SECONDS_TO_FINISH
            while finished and self.children and time.monotonic() < deadline:
                time.sleep(0.05)
                self()
        finally:
            for child in self.children.values():
                stop(child)
            self.children.clear()

    def at_work(self, learner: int) -> bool:
        """Whether a learner's child still runs; why one failed is said once."""
        child = self.children.get(learner)
        if child is None or child.poll() is None:
            return child is not None
        said = child.communicate()[1]
        if child.returncode != 0:
            reason = " ".join(line for line in said.splitlines() if line.startswith("error:")) or said[-500:]
            warn(f"no export of learner {learner}'s best policy: {reason}")
        del self.children[learner]
        return False

    def best(self, learner: int) -> int | None:
        """The env steps of the best policy."""
        try:
            return int(read_manifest(self.run / f"learner-{learner}" / "best")["env_steps"])
        except (CheckpointError, KeyError):
            return None

    def exported(self, learner: int) -> int | None:
        """The env steps of the policy that stands exported."""
        try:
            table = read_json(self.run / f"learner-{learner}" / "export-best" / "policy.json")
            return int(table["env_steps"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def start(self, learner: int) -> subprocess.Popen[str]:
        """A child in a session of its own, so that a Ctrl-C on the terminal is the trainer's alone."""
        overrides = [f"run={self.run}", f"learner={learner}", "format=onnx", "episodes=0", "--json"]
        overrides += [f"{key}={value}" for key, value in self.named.items()]
        if self.safe_action is not None:
            overrides.append(f"safe_action={self.safe_action}")
        return subprocess.Popen(
            [sys.executable, "-c", CHILD, *overrides],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def stop(child: subprocess.Popen[str]) -> None:
    """Interrupt a child, and kill it where it does not end."""
    child.send_signal(signal.SIGINT)
    try:
        child.communicate(timeout=SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
