"""Score a policy of a run: python -m dsac.evaluate run=runs/Humanoid/dsac_t/20261121-120000-seed0"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsac.config import ConfigError, plain_value, read
from dsac.fields import at_least, choice

HELP = """\
python -m dsac.evaluate run=<run> [which=best|last] [learner=0] [episodes=20] [seed=1000000] [--json]

Runs the deterministic policy on fresh worlds and prints the mean return with its 95% interval.
"""


@dataclass(frozen=True)
class EvaluateConfig:
    """The words of this command."""

    run: str
    which: str = choice("best", "best", "last")
    learner: int = at_least(0, 0)
    episodes: int = at_least(20, 1)
    seed: int = at_least(1_000_000, 0)


def parse(words: Sequence[str]) -> EvaluateConfig:
    """key=value words -> config. Raises ConfigError."""
    problems = [f"{word!r} is not key=value (see --help)" for word in words if "=" not in word]
    tree = {key: plain_value(value) if key != "run" else value for key, _, value in (w.partition("=") for w in words)}
    values: dict[str, Any] = {} if problems else read(EvaluateConfig, tree, "", problems)
    if problems:
        raise ConfigError(*problems)
    return EvaluateConfig(**values)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    if "--help" in words or "-h" in words:
        print(HELP)
        return 0
    as_json = "--json" in words
    try:
        config = parse([word for word in words if word != "--json"])
        report = evaluate(config)
    except ConfigError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 2
    print(json.dumps(report) if as_json else sentence(report))
    return 0


def evaluate(config: EvaluateConfig) -> dict[str, Any]:
    """Score the policy; a report of plain values. Raises ConfigError when the run or the policy is not there."""
    import envs
    from dsac.checkpoint import CheckpointError
    from dsac.evaluation import score
    from dsac.runs import config_of, load_policy

    run = Path(config.run)
    env_tree = config_of(run)["env"]
    try:
        policy, manifest = load_policy(run, config.which, config.learner)
    except CheckpointError as error:
        raise ConfigError(f"no {config.which} policy of learner {config.learner}: {error}") from error
    env = envs.make(
        env_tree["name"], min(config.episodes, 10), config.seed, env_tree["backend"], env_id=env_tree["id"],
        flatten=env_tree["flatten"], action_units="env", max_episode_steps=env_tree["max_episode_steps"],
    )  # fmt: skip
    try:
        result = score(policy, env, config.episodes, config.seed)
    finally:
        env.close()
    return {
        "run": str(run),
        "which": config.which,
        "learner": config.learner,
        "env": env.spec.id,
        "env_steps": manifest["env_steps"],
        "episodes": config.episodes,
        "seed": config.seed,
        "mean": result.mean,
        "interval_95": [result.low, result.high],
        "std": float(result.returns.std()),
        "length": float(result.lengths.mean()),
        "returns": result.returns.tolist(),
    }


def sentence(report: dict[str, Any]) -> str:
    """The report for people."""
    low, high = report["interval_95"]
    return (
        f"{report['env']}, {report['which']} policy at {report['env_steps']:,} env steps: return {report['mean']:,.1f} "
        f"(95% interval {low:,.1f} to {high:,.1f}, {report['episodes']} episodes, seed {report['seed']}, "
        f"mean length {report['length']:,.0f})"
    )


if __name__ == "__main__":
    raise SystemExit(main())
