"""Run folders with curves that a test makes up: as a run leaves them, but for checkpoints and policies."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from dsac.config import compose, load, to_tree
from dsac.persistence import atomic

EVERY = 1000


@functools.cache
def composed(env: str, algo: str, words: tuple[str, ...]) -> dict[str, Any]:
    """A checked config as a tree; composing it takes longer than all the rest."""
    cadences = [f"eval_every_env_steps={EVERY}", f"checkpoint_every_env_steps={EVERY}", f"log_every_env_steps={EVERY}"]
    return to_tree(load(compose([f"env={env}", f"algo={algo}", "experiment=paper", *cadences, *words])))


def made_run(
    root: Path,
    algo: str = "dsac_t",
    returns: Sequence[float] | Sequence[Sequence[float]] = (0.0, 50.0, 100.0),
    *words: str,
    env: str = "Hopper",
    seed: int = 0,
    mujoco: str = "3.17.0",
    seconds: float = 10.0,
) -> Path:
    """A finished run with an evaluation every 1,000 env steps and `seconds`; one list of returns a learner."""
    curves = [returns] if not isinstance(returns[0], Sequence) else returns
    budget = EVERY * len(curves[0])
    given = {"seed": seed, "learners": len(curves)}
    if not any(word.startswith("total_env_steps=") for word in words):
        given["total_env_steps"] = budget
    tree = {**composed(env, algo, words), **given}
    stem = root / env / algo / f"20260101-{len(list(root.rglob('config.yaml'))):06d}-seed{seed}"
    stem.mkdir(parents=True)
    (stem / "config.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    versions = {"python": "3.11.7", "dsac": "0.1.0", "torch": "2.13.0", "mujoco": mujoco, "gymnasium": "1.4.0"}
    session = {"versions": versions, "git_revision": "0" * 40, "device": "cpu", "cpu": "CPU", "cores": 2, "threads": 1}
    (stem / "run.json").write_text(json.dumps({"sessions": [session]}))
    for learner, curve in enumerate(curves):
        folder = stem / f"learner-{learner}"
        folder.mkdir()
        rows = ["env_steps,updates,wall_time,tag,value"]
        for index, value in enumerate(curve, 1):
            start = f"{EVERY * index},{50 * index},{seconds * index:.2f}"
            rows += [f"{start},train/q,1.0", f"{start},rate/env_steps_per_second,100.0", f"{start},eval/return,{value}"]
        (folder / "metrics.csv").write_text("\n".join(rows) + "\n")
    return stem


def end_with(run: Path, exit_code: int | None, env_steps: int) -> Path:
    """Put down how the newest session of a run ended."""
    path = run / "run.json"
    sessions = json.loads(path.read_text())["sessions"]
    sessions[-1]["ended"] = {"exit_code": exit_code, "env_steps": env_steps}
    path.write_text(json.dumps({"sessions": sessions}))
    return run


def made_seeds(root: Path, algo: str, ends: Sequence[float], *words: str, **given: Any) -> None:
    """A run for each final return, with seeds from 0 on."""
    for seed, end in enumerate(ends):
        made_run(root, algo, (0.0, end / 2, end), *words, seed=seed, **given)


def many_runs(root: Path, words: Sequence[str], settings: int, seeds: int, log_rows: int = 500) -> list[str]:
    """Finished PPO runs of settings that differ in their learning rate, with long logs; the words of their sweep.

    As a run leaves them, with a checkpoint's manifest; written from one text, so that thousands take seconds.
    """
    tree = {**composed("Hopper", "ppo", tuple(words)), "total_env_steps": EVERY * 20, "threads": 1}
    session = {
        "versions": {"python": "3.11.7", "dsac": "0.1.0", "torch": "2.13.0", "mujoco": "3.17.0", "gymnasium": "1.4.0"},
        "git_revision": "0" * 40, "device": "cpu", "cpu": "CPU", "cores": 2, "threads": 1,
    }  # fmt: skip
    tags = [f"train/number_{index}" for index in range(20)] + ["rate/env_steps_per_second", "rate/updates_per_second"]
    log = ["env_steps,updates,wall_time,tag,value"]
    for row in range(1, log_rows + 1):
        steps = EVERY * 20 * row // log_rows
        log += [f"{steps},{steps},{row}.00,{tag},123.456789" for tag in tags]
    body = "\n".join(log) + "\n"
    rates = [1e-4 * (1 + index) for index in range(settings)]
    for index, rate in enumerate(rates):
        for seed in range(seeds):
            run = root / "Hopper" / "ppo" / f"20260101-{index:06d}-seed{seed}"
            (run / "learner-0").mkdir(parents=True)
            own = {**tree, "seed": seed, "algo": {**tree["algo"], "learning_rate": rate}}
            (run / "config.yaml").write_text(yaml.dump(own, Dumper=yaml.CSafeDumper, sort_keys=False))
            (run / "run.json").write_text(json.dumps({"sessions": [session]}))
            evaluations = [f"{EVERY * n},{EVERY * n},{n}.00,eval/return,{seed + n}.0" for n in range(1, 21)]
            (run / "learner-0" / "metrics.csv").write_text(body + "\n".join(evaluations) + "\n")
            step = run / "checkpoints" / f"step-{EVERY * 20:012d}"
            step.mkdir(parents=True)
            manifest = {"schema": atomic.SCHEMA, "env_steps": EVERY * 20, "files": {}}
            (step / atomic.MANIFEST).write_bytes(atomic.rendered(manifest))
    given = {
        "env": "Hopper",
        "algo": "ppo",
        "experiment": "paper",
        "total_env_steps": EVERY * 20,
        "runs": root,
        "jobs": 1,
    }
    cadences = {f"{name}_every_env_steps": EVERY for name in ("eval", "checkpoint", "log")}
    return [f"{key}={value}" for key, value in {**given, **cadences, "seeds": f"0..{seeds - 1}"}.items()]
