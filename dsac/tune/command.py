"""Tune settings: python -m dsac.tune space=ppo env=InvertedDoublePendulum algo=ppo trials=12 seeds=0..1 jobs=2"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dsac.cli.exit_codes import FINISHED, RESUMABLE, entered, failed
from dsac.schema.plain_text import on_screen
from dsac.schema.ranges import at_least, choice
from dsac.schema.validate import command
from dsac.sweep.command import SweepConfig, launcher_of

if TYPE_CHECKING:
    from dsac.tune.job import Job
    from dsac.tune.study import Study
    from dsac.tune.tuner import Tuner

HELP = """\
python -m dsac.tune space=NAME [env=A] [algo=X] [trials=12] [seeds=0] [jobs=2] [key=value ...] [--json]
                    [study=NAME] [sampler=tpe] [pruner=median] [backend=ray [ray.address=auto] ...]
python -m dsac.tune study=NAME report=true [runs=runs]      the report of a study, without training

Looks for settings whose runs end higher. A trial trains a run for each seed; its value is the interquartile mean of
their last evaluations. The first trial takes the settings of the command itself. Typed again, the same command goes on
where it was, also after it was killed; a larger trials= adds to a study. Ctrl-C saves every run and stops.

space   a file of conf/search, or a path that ends in .yaml: config fields with a range or choices each
trials  how many in all
study   its name, <env>-<algo> unless given; it lives in <runs>/tune/<study>
sampler tpe learns from the trials so far, random does not
pruner  median gives up trials below the median of earlier ones at the same step, halving keeps a quarter at each rung,
        none gives up none
others  seeds, jobs, backend and ray.* as python -m dsac.sweep has them; any of python -m dsac.train, for every run
exit    0 finished, 2 usage, 5 storage, 75 stopped and resumable; the code of the first failure if no trial was complete

  python -m dsac.tune space=ppo env=InvertedDoublePendulum algo=ppo trials=12 seeds=0..1 total_env_steps=60000
"""


@dataclass(frozen=True)
class TuneConfig(SweepConfig):
    """The settings of this command that no single run has."""

    space: str | None = None
    study: str | None = None
    trials: int = at_least(12, 1)
    sampler: str = choice("tpe", "tpe", "random")
    pruner: str = choice("median", "median", "halving", "none")
    report: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return entered(arguments, HELP, tune)


def tune(arguments: Sequence[str]) -> int:
    """Check all overrides, then carry the study out; the exit code. Raises ConfigError before any file is made."""
    from dsac.tune.job import prepare
    from dsac.tune.study import Study

    overrides = [argument for argument in arguments if argument != "--json"]
    config, job = prepare(overrides, TuneConfig)
    with closing(Study(job.folder, job.space, job.sampler, job.pruner, job.record)) as study:
        outside = study.begin_with(job.base_settings())
        if not config.report:
            tuner = carried_out(config, job, study, outside)
            if tuner.ended:
                code, lines = tuner.ended
                return failed(code, *lines, f"then, to continue: {command('tune', arguments)}")
            if tuner.sweep.stops or tuner.open:
                print(
                    f"stopped with {study.asked - len(tuner.open)} of {config.trials} trials closed; every run is saved"
                )
                print(f"next: {command('tune', arguments)}    (continues)")
                return RESUMABLE
        return print_summary(job, study, outside, "--json" in arguments)


def carried_out(config: TuneConfig, job: Job, study: Study, outside: Sequence[str]) -> Tuner:
    """The study, all its trials closed, or stopped."""
    from dsac.sweep.view import View
    from dsac.tune.tuner import Tuner
    from dsac.tune.view import Head

    launcher = launcher_of(config)
    closed = sum(trial.state != "open" for trial in study.trials())
    again = f", {closed} closed, {study.asked - closed} to continue" if study.asked else ""
    runs = f"{len(job.seeds)} run{'s' * (len(job.seeds) > 1)}"
    print(f"study {job.folder.name}: {config.trials} trials of {runs}{again}; {job.folder}", flush=True)
    for key in outside:
        print(
            f"warning: {key} of this command lies outside of {job.space[key]}: no trial takes its settings", flush=True
        )
    head = Head(study, config.trials, len(job.seeds), job.base.total_env_steps)
    with View(head) as view:
        tuner = Tuner(study, job.plan, launcher, config.trials, head.announced(view.say))
        tuner.carry_out(view.show)
    return tuner


def print_summary(job: Job, study: Study, outside: Sequence[str], as_json: bool) -> int:
    """Write the report and the recipe; the last lines. Returns the exit code."""
    from dsac.tune import report
    from dsac.tune.job import findings

    found, recipe = findings(job, study, outside)
    paths = report.write(job.folder, found)
    if as_json:
        print(json.dumps(report.facts(found) | {"recipe": recipe and str(recipe), "report": str(paths[0])}))
    else:
        print(report.gain(found))
        for trial in found.trials:
            if trial.error:
                print(on_screen(f"failed: trial {trial.number} (exit {trial.code}): {trial.error}"))
        print(f"report: {paths[0]}")
        if recipe:
            print(f"recipe: {recipe}")
            for what, line in found.commands.items():
                print(f"{what}: {line}")
    if recipe:
        return FINISHED
    return next((trial.code for trial in found.trials if trial.code), FINISHED)
