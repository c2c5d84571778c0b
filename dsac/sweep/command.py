"""Many runs, on this machine or on a Ray cluster: python -m dsac.sweep env=Humanoid,Ant algo=dsac_t,ppo seeds=0..4"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from dsac.cli.exit_codes import FINISHED, RESUMABLE, entered
from dsac.schema.overrides import key_values
from dsac.schema.plain_text import on_screen, warn
from dsac.schema.ranges import at_least, choice
from dsac.schema.validate import command, plain_value, read
from envs.system import available_cores

if TYPE_CHECKING:
    from dsac.sweep.plan import Planned
    from dsac.sweep.runner import Launcher, Run

AXES = ("experiment", "env", "algo")
JOBS = 2
HELP = """\
python -m dsac.sweep [env=A,B] [algo=X,Y] [experiment=P,Q] [seeds=0..4] [jobs=2] [key=value ...] [--json]
                     [backend=ray [ray.address=auto] [ray.cpus=1] [ray.gpus=0]]

Trains every combination, `jobs` runs at a time, in ordinary run folders. Typed again, the same command skips what is
finished and continues what is not, also after the sweep itself was killed. Ctrl-C saves every run and stops.

seeds   whole numbers and ranges: 0..4 or 0,3,7..9
jobs    runs at a time; each takes its share of the cores as threads, unless threads= says otherwise
backend processes of this machine, or ray: tasks with so many cpus and gpus on a cluster whose nodes share this folder;
        ray.address is local, auto or host:port, and jobs as many as there is room for
others  any of python -m dsac.train, for every run
exit    0 finished, 2 usage, 75 stopped and resumable, otherwise the code of the first run that failed

  python -m dsac.sweep env=Humanoid,Ant algo=dsac_t,ppo seeds=0..4
  python -m dsac.sweep env=HalfCheetah experiment=conf/experiment/mine.yaml seeds=0,1,2 jobs=4 total_env_steps=2e6
"""


@dataclass(frozen=True)
class RayTasksConfig:
    """Where Ray is, and what it sets aside for each run."""

    address: str = "local"
    cpus: int = at_least(1, 1)
    gpus: float = at_least(0.0, 0)


@dataclass(frozen=True)
class SweepConfig:
    """The settings of this command that no single run has. jobs: None for 2 processes, or all that Ray has room for."""

    seeds: str = "0"
    backend: str = choice("processes", "processes", "ray")
    jobs: int | None = at_least(None, 1)
    ray: RayTasksConfig = field(default_factory=RayTasksConfig)

    @property
    def threads(self) -> int:
        """Threads of a run, unless it is told otherwise."""
        return self.ray.cpus if self.backend == "ray" else max(1, available_cores() // (self.jobs or JOBS))


Settings = TypeVar("Settings", bound=SweepConfig)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return entered(arguments, HELP, sweep)


def sweep(arguments: Sequence[str]) -> int:
    """Check all overrides, then carry the runs out; the exit code. Raises ConfigError before any file is made."""
    from dsac.sweep.runner import Sweep
    from dsac.sweep.view import View

    config, planned = prepare([argument for argument in arguments if argument != "--json"])
    launcher = launcher_of(config)
    work = Sweep(planned, launcher)
    announce(work.runs, launcher.slots())
    if config.backend == "processes" and (line := oversubscribed(work.runs, launcher.slots())):
        warn(line)
    with View() as view:
        work.carry_out(view.show)
    if "--json" in arguments:
        print(json.dumps({"runs": [facts(run) for run in work.runs]}))
        return exit_code(work.runs)
    return print_summary(work.runs, arguments)


def prepare(overrides: Sequence[str]) -> tuple[SweepConfig, list[Planned]]:
    """The settings of a sweep and its runs. Raises ConfigError with all that is wrong with any of them."""
    from dsac.sweep.plan import plan

    problems: list[str] = []
    config, pairs = parse_overrides(overrides, SweepConfig, problems, "a sweep")
    seeds = seeds_of(config.seeds, problems)
    axes = {key: list(dict.fromkeys(pairs.pop(key).split(","))) for key in AXES if key in pairs}
    others = [f"{key}={value}" for key, value in ({"threads": str(config.threads)} | pairs).items()]
    return config, plan(axes, seeds, others, problems)


def parse_overrides(
    overrides: Sequence[str], schema: type[Settings], problems: list[str], name: str
) -> tuple[Settings, dict[str, str]]:
    """The settings of the command itself, and the pairs of its other overrides, which are those of a run.

    What is wrong is noted, and defaults stand in for numbers. name: what carries the runs out
    """
    pairs = dict(key_values(overrides, problems, one_run=False))
    for key, advice in {"seed": "name the seeds with seeds=", "resume": f"{name} continues by itself"}.items():
        if key in pairs:
            problems.append(f"{key}={pairs.pop(key)}: {advice}")
    hints = get_type_hints(schema)
    own = {item.name: pairs.pop(item.name) for item in fields(schema) if item.name != "ray" and item.name in pairs}
    texts = {key: value for key, value in own.items() if hints[key] in (str, str | None)}
    tree: dict[str, Any] = {key: texts.get(key, plain_value(value)) for key, value in own.items()}
    if own.get("backend") == "ray":
        keys = [key for key in pairs if key.startswith("ray.")]
        tree["ray"] = {key.removeprefix("ray."): plain_value(pairs.pop(key)) for key in keys}
    before = len(problems)
    values = read(schema, tree, "", problems, {"ray": RayTasksConfig} if "ray" in tree else None)
    return schema(**(values if len(problems) == before else texts)), pairs


def launcher_of(config: SweepConfig) -> Launcher:
    """What starts the runs. Raises ConfigError where Ray is not installed or does not answer."""
    from dsac.sweep.runner import Processes

    if config.backend == "processes":
        return Processes(config.jobs or JOBS)
    from dsac.sweep.ray_launcher import RayTasks

    return RayTasks(config.ray.address, config.ray.cpus, config.ray.gpus, config.jobs)


def seeds_of(text: str, problems: list[str]) -> list[int]:
    """0..4 or 0,3,7..9 as whole numbers, each once; what is wrong is noted."""
    seeds: list[int] = []
    for part in text.split(","):
        low, dots, high = part.partition("..")
        if not low.isdecimal() or (dots and not (high.isdecimal() and int(low) <= int(high))):
            problems.append(f"seeds={text} must be whole numbers and rising ranges: seeds=0..4 or seeds=0,3,7..9")
            return [0]
        seeds += range(int(low), int(high or low) + 1)
    return list(dict.fromkeys(seeds))


def announce(runs: Sequence[Run], slots: int) -> None:
    """The first lines: what there is, what is to be done, and how."""
    done = sum(run.found.finished for run in runs)
    begun = sum(run.found.run is not None for run in runs) - done
    threads = runs[0].planned.config.threads or 1
    print(
        f"sweep of {len(runs)} runs: {done} finished, {begun} to continue, {len(runs) - done - begun} to start; "
        f"{slots} at a time, {threads} thread{'s' * (threads > 1)} each; logs in {runs[0].planned.folder.parent}",
        flush=True,
    )


def oversubscribed(runs: Sequence[Run], slots: int) -> str | None:
    """One line where the runs ask for more threads than there are cores; None otherwise."""
    threads = max(run.planned.config.threads or 1 for run in runs) * min(slots, len(runs))
    cores = available_cores()
    return f"{threads} threads share {cores} cores: fewer jobs, or threads=" if threads > cores else None


def facts(run: Run) -> dict[str, Any]:
    """A run as --json prints it."""
    from dsac.sweep.runner import LOG

    config = run.planned.config
    return {
        "env": config.env.id or config.env.name,
        "algo": config.algo.name,
        "seed": config.seed,
        "run": run.folder,
        "state": run.state,
        "exit_code": exit_code([run]),
        "error": run.error or None,
        "env_steps": run.env_steps,
        "score": run.score,
        "log": str(run.planned.folder / LOG),
    }


def exit_code(runs: Sequence[Run]) -> int:
    """75 where something can be continued by the same command, otherwise the code of the first failure, or 0."""
    from dsac.sweep.runner import FAILED, FINISHED_RUN

    codes = [run.code for run in runs if run.state == FAILED]
    if any(run.state not in (FAILED, FINISHED_RUN) for run in runs):
        return RESUMABLE
    return codes[0] if codes else FINISHED


def print_summary(runs: Sequence[Run], arguments: Sequence[str]) -> int:
    """The last lines: what failed and why, where the results are, what to type next. Returns the exit code."""
    from dsac.sweep.runner import FAILED, FINISHED_RUN

    for run in runs:
        if run.state == FAILED:
            line = f"failed: {run.planned.title} (exit {run.code}): {run.error}  (log {facts(run)['log']})"
            print(on_screen(line))
    counts = Counter(run.state for run in runs)
    code = exit_code(runs)
    if code != FINISHED:
        verb = "stopped" if code == RESUMABLE else "ended"
        print(f"{verb} with {counts[FINISHED_RUN]} of {len(runs)} runs finished, {counts[FAILED]} failed")
        print(f"next: {command('sweep', arguments)}    (continues what is missing)")
        return code
    folders = sorted({str(Path(run.folder).parent.parent) for run in runs if run.folder})
    root = folders[0] if len(folders) == 1 else str(Path(runs[0].planned.config.runs))
    print(f"finished {len(runs)} runs; results in {root}")
    print(f"next: {command('compare', [f'runs={root}'])}")
    return code
