"""Score a policy of a run: python -m dsac.evaluate run=runs/Humanoid/dsac_t/20261121-120000-seed0

From Python: dsac.evaluate("runs/Humanoid/dsac_t/20261121-120000-seed0").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from dsac.cli.callable_module import make_callable
from dsac.cli.exit_codes import FINISHED, entered
from dsac.config import refuse_shadowed_envs
from dsac.errors import CheckpointError, ConfigError
from dsac.runs.saved_config import saved, saved_env
from dsac.schema.files import refuse_linked_folders
from dsac.schema.importing import OF_ENV
from dsac.schema.overrides import key_values, split_off
from dsac.schema.ranges import at_least, choice
from dsac.schema.validate import as_word, plain_value, read

HELP = """\
python -m dsac.evaluate run=<run> [which=best|last] [learner=0] [episodes=20] [seed=1000000] [--json]
                         [video=true] [viewer=true] [falls=true] [push=0.5] [push_every=100]

Runs the deterministic policy on fresh worlds and prints the mean return with its 95% interval.
video=true also films an episode into <run>/learner-<i>/<which>.mp4; viewer=true shows episodes in MuJoCo's viewer.
falls=true plays as many episodes again, with pushes of `push` m/s every `push_every` actions on average, and prints how
often the robot falls and how well the run's critics tell a fall 100 steps before (docs/risk.md).
A run that imports a module of your own wants it named again: env.task=<module>,
env.id=<module>:<name> or env.wrappers=[<module>:<class>].
"""


@dataclass(frozen=True)
class EvaluateConfig:
    """The words of this command."""

    run: str
    which: str = choice("best", "best", "last")
    learner: int = at_least(0, 0)
    episodes: int = at_least(20, 1)
    seed: int = at_least(1_000_000, 0)
    video: bool = False
    viewer: bool = False
    falls: bool = False
    push: float = at_least(0.5, 0.0)
    push_every: float = at_least(100.0, 1.0)


ONLY_WITH_FALLS = ("push", "push_every")


def evaluate(run: Path | str, **settings: Any) -> dict[str, Any]:
    """Score a policy with the keys of the command line: evaluate(run, which="last", episodes=100).

    Returns what --json prints. Raises ConfigError with all that is wrong.
    """
    refuse_shadowed_envs()
    return start([as_word(key, value) for key, value in {"run": run, **settings}.items()])


def parse(words: Sequence[str]) -> EvaluateConfig:
    """key=value words -> config. Raises ConfigError."""
    problems: list[str] = []
    pairs = key_values(words, problems, one_run=False, known=[item.name for item in fields(EvaluateConfig)])
    tree = {key: plain_value(value) if key != "run" else value for key, value in pairs}
    values = read(EvaluateConfig, tree, "", problems)
    if not values.get("falls"):
        problems += [f"{key}={tree[key]} needs falls=true beside it" for key in ONLY_WITH_FALLS if key in tree]
    if problems:
        raise ConfigError(*problems)
    return EvaluateConfig(**values)


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return entered(words, HELP, show)


def show(words: Sequence[str]) -> int:
    """Score and print."""
    report = start([word for word in words if word != "--json"])
    print(json.dumps(report) if "--json" in words else sentence(report))
    return FINISHED


def start(words: Sequence[str]) -> dict[str, Any]:
    """Check the words, score; a report of plain values."""
    named, others = split_off(words, *OF_ENV, "algo")
    config = parse(others)
    return score_policy(config, named)


def score_policy(config: EvaluateConfig, named: Mapping[str, str]) -> dict[str, Any]:
    """The report. `named` are the modules that may be imported, see saved_config.saved.

    Raises ConfigError when the run or the policy is not there, CheckpointError when the policy is damaged.
    """
    run = Path(config.run)
    env_config = saved_env(saved(run, named, uses=("env",)), named)

    from dsac.evaluation import film

    if config.video:
        refuse_linked_folders(run)
        film.choose_renderer()
    from dsac.cli.progress import ProgressBar
    from dsac.collection.worlds import make_worlds
    from dsac.evaluation.scoring import score, worlds
    from dsac.persistence.policies import read_policy
    from dsac.runs.folder import env_name

    def show(played: int, step: int) -> bool:
        bar.show_evaluation(played, config.episodes, step)
        return False

    policy, manifest = read_policy(run, config.which, config.learner)
    env = make_worlds(env_config, worlds(config.episodes), config.seed, "env")
    if (len(policy.obs_mean), len(policy.action_low)) != (env.spec.obs_dim, env.spec.action_dim):
        raise CheckpointError(f"{run}: its {config.which} policy is not one of {env.spec.id}: the sizes differ")
    if config.video or config.viewer:
        env.simulator(0)  # refuses a task that cannot be drawn before it is scored
    path = run / f"learner-{config.learner}" / f"{config.which}.mp4"
    try:
        told = {"falls": falls_of(config, named, policy, manifest["env_steps"])} if config.falls else {}
        with ProgressBar(f"{env_name(env_config)} {config.which} policy", transient=True) as bar:
            result = score(policy, env, config.episodes, config.seed, show)
        if config.video:
            film.write_mp4(path, film.frames(policy, env, config.seed))
        if config.viewer:
            film.watch(policy, env, config.seed)
    finally:
        env.close()
    return {
        "film": str(path) if config.video else None,
        "run": str(run),
        "which": config.which,
        "learner": config.learner,
        "env": env.spec.id,
        "env_steps": manifest["env_steps"],
        "episodes": config.episodes,
        "seed": config.seed,
        **result.facts(),
        "std": float(result.returns.std()),
        "length": float(result.lengths.mean()),
        "returns": result.returns.tolist(),
        **told,
    }


def falls_of(config: EvaluateConfig, named: Mapping[str, str], policy: Any, env_steps: int) -> dict[str, Any]:
    """What falls=true adds to the report: dsac.evaluation.falls.report, and the pushes.

    Raises ConfigError where the critics of the policy are not saved, UnsuitableEnvironment where nothing can be pushed.
    """
    from dsac.cli.progress import ProgressBar
    from dsac.collection.worlds import make_worlds
    from dsac.config import load
    from dsac.evaluation import falls
    from dsac.evaluation.pushes import Pushes
    from dsac.runs.saved_critics import critics_of

    run = Path(config.run)
    settings = load(saved(run, named))
    algorithm = critics_of(run, settings, config.which, config.learner, env_steps)
    env = make_worlds(settings.env, min(config.episodes, falls.MOST_ENVS), config.seed, "env")
    try:
        pushes = Pushes(env, config.push, config.push_every, config.seed)
        with ProgressBar(f"{env.spec.id} with pushes", transient=True) as bar:
            found = falls.play(
                policy, algorithm, env, pushes, config.episodes, config.seed,
                lambda played, step: bar.show_evaluation(played, config.episodes, step),
            )  # fmt: skip
    finally:
        env.close()
    return {"push": config.push, "push_every": config.push_every, "pushes": pushes.count, **falls.report(found)}


def sentence(report: dict[str, Any]) -> str:
    """The report for people."""
    episodes = "1 episode"
    if report["interval_95"]:
        low, high = report["interval_95"]
        episodes = f"95% interval {low:,.1f} to {high:,.1f}, {report['episodes']} episodes"
    return (
        f"{report['env']}, {report['which']} policy at {report['env_steps']:,} env steps: return {report['mean']:,.1f} "
        f"({episodes}, seed {report['seed']}, mean length {report['length']:,.0f})"
        + (f"\nfilm: {report['film']}" if report["film"] else "")
        + (f"\n{falls_sentence(report['falls'])}" if "falls" in report else "")
    )


def falls_sentence(found: dict[str, Any]) -> str:
    """What falls=true adds, for people."""
    lines = [
        f"with pushes of {found['push']:g} m/s every {found['push_every']:g} actions: {found['falls']} falls in "
        f"{found['episodes']} episodes, {found['falls_per_1000_steps']:.2f} per 1,000 steps; "
        f"mean return {found['mean']:,.1f}",
        f"a fall within {found['ahead']} steps, told by the critics: AUROC (95% interval); steps told, 5% false alarms",
    ]
    for name, signal in found["signals"].items():
        if signal["auroc"] is None:
            lines.append(f"  {name:14} no fall, or nothing else: no AUROC")
            continue
        low, high = signal["interval_95"] or (float("nan"),) * 2
        interval = "too few falls for an interval" if signal["interval_95"] is None else f"{low:.3f} to {high:.3f}"
        lines.append(
            f"  {name:14} {signal['auroc']:.3f} ({interval}); {signal['told']:.0%} above {signal['bound']:.4g}"
        )
    return "\n".join(lines)


make_callable(__name__, evaluate)

if __name__ == "__main__":
    raise SystemExit(main())
