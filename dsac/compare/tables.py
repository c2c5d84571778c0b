"""What a comparison says: its tables, and its answer in sentences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from dsac.compare.calibration import STATES, Calibration
from dsac.compare.cells import NOTHING, Table, duration, number, spread
from dsac.compare.comparison import Comparison, Overall
from dsac.compare.groups import Group
from dsac.compare.published import SOURCE, STATISTIC, VERSIONS, published
from dsac.compare.scores import AXES, MOST_PAIRED, Pair, Summary, reference

FAILED = (
    "A seed that failed counts in every column, from there on with the lowest return known of the task, and reaches no "
    "threshold; how low that is depends on the runs beside it, so read its mean beside the number of failures."
)
MANY = 8  # groups of a task; of more, pairs and sentences are about the best DSAC-T and the few best others
FEW = 5


def scores(env: str, summaries: Sequence[Summary], groups: Sequence[Group], reference: bool) -> Table:
    """What each method reached on a task, the published scores below it where asked for."""
    rows = [
        [
            row.label,
            f"{row.seeds}, {row.failed} failed" if row.failed else str(row.seeds),
            f"{row.env_steps:,.0f}",
            spread(row.final),
            number(row.deviation),
            spread(row.final_iqm),
            spread(row.best),
            number(row.best_deviation),
            str(row.best_of),
        ]
        for row in summaries
    ]
    budgets = dict.fromkeys(group.comparability["budget"] for group in groups)
    episodes = dict.fromkeys(group.comparability["evaluation"] for group in groups)
    simulators = dict.fromkeys(group.comparability["simulator"] for group in groups)
    notes = [
        f"Undiscounted return of the deterministic policy, {' or '.join(episodes)} an evaluation, "
        f"{' or '.join(simulators)}; budget {' or '.join(budgets)}, the last evaluation at those in the table. In "
        "brackets 95% intervals over seeds, sd their standard deviation."
    ]
    if any(row.failed for row in summaries):
        notes.append(FAILED)
    if reference and (found := published(env)):
        rows += [
            [
                f"{row.algorithm} (paper, {row.env})",
                "5",
                "30,000,000",
                *[NOTHING] * 3,
                number(row.mean),
                number(row.deviation),
                "?",
            ]
            for row in found
        ]
        notes.append(f"Paper: {STATISTIC}. {SOURCE}. {VERSIONS}.")
    columns = ["", "seeds", "env steps", "final", "sd", "final, interquartile", "best of last 10%", "sd", "of"]
    return Table(env, "what was reached", columns, rows, notes)


def costs(env: str, summaries: Sequence[Summary], groups: Sequence[Group], by: str) -> Table:
    """What each method took to get there."""
    rows = [
        [
            row.label,
            str(group.settings["algo.num_envs"]),
            number(group.updates_per_env_step),
            spread(row.area),
            f"{row.reached} of {row.seeds}",
            number(row.steps_to),
            duration(row.seconds_to),
            number(row.rates.get("env_steps", math.nan)),
            number(row.rates.get("updates", math.nan)),
            duration(row.seconds),
        ]
        for row, group in zip(summaries, groups, strict=True)
    ]
    goal = number(summaries[0].threshold)
    columns = [
        "", "envs", "updates/step", "average return", f"reached {goal}", "env steps", "time", "env steps/s",
        "updates/s", "whole run",
    ]  # fmt: skip
    machines = dict.fromkeys(machine(run.facts, run.settings) for group in groups for run in group.runs)
    notes = [
        f"Average return: area under the curve over {AXES[by]}, divided by its range. Env steps and time to the "
        f"first evaluation of at least {goal} are medians over seeds, {NOTHING} where half of them had none.",
        f"Measured on {'; '.join(machines)}."
        + (" Times and rates of different machines do not compare." if len(machines) > 1 else ""),
    ]
    return Table(env, "what it took", columns, rows, notes)


def machine(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Where a run was made, as far as it decides how long it takes."""
    learners = int(settings.get("learners", 1))
    beside = f", {learners} learners side by side" if learners > 1 else ""
    return f"{facts['cpu']}, {facts['device']}, {facts['threads']} of {facts['cores']} cores{beside}"


def duels(env: str, groups: Sequence[Group], summaries: Sequence[Summary], pairs: Sequence[Pair]) -> Table:
    """Every two methods of a task; of many the one that `answer` is about beside each other."""
    told = pairs if len(groups) <= MANY else against(about(groups, summaries, pairs), pairs)
    rows = [
        [f"{pair.label} against {pair.other}", spread(pair.probability), spread(pair.difference), pair.verdict]
        for pair in told
    ]
    columns = ["", "probability of improvement", "difference of final means", "the first is"]
    notes = [
        "How often a run of the first ends above a run of the second, ties counting half. Better or worse: its 95% "
        "interval lies on one side of 0.5, which takes four seeds each or more. No correction is made for looking at "
        "many pairs."
    ]
    notes += [f"All {len(pairs)} pairs are in pairs.csv."] if len(told) < len(pairs) else []
    if len(groups) > MOST_PAIRED:
        notes.append(f"Of {len(groups)} groups, only the pairs with this one were computed.")
    return Table(env, "who beats whom", columns, rows, notes)


def about(groups: Sequence[Group], summaries: Sequence[Summary], pairs: Sequence[Pair]) -> Summary:
    """The scores of the one that a comparison is about."""
    label = reference(groups, {label for pair in pairs for label in (pair.label, pair.other)}).label
    return next(row for row in summaries if row.label == label)


def against(one: Summary, pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of a method, with it as the first."""
    return [
        pair if pair.label == one.label else pair.turned() for pair in pairs if one.label in (pair.label, pair.other)
    ]


def together(overall: Sequence[Overall]) -> Table:
    """All tasks in one number."""
    rows = [[row.label, spread(row.mean), spread(row.iqm)] for row in overall]
    notes = [
        "Final scores with 0 the lowest and 1 the highest run of each task; intervals resample seeds within tasks."
    ]
    return Table("", "all tasks", ["", "mean", "interquartile mean"], rows, notes)


def critics(rows: Sequence[Calibration]) -> Table:
    """What the critics predict against what follows."""
    lines = [
        [
            f"{row.env} {row.label}",
            str(row.seeds),
            spread(row.bias),
            f"{row.bias.value / row.size:+.0%}" if row.size else NOTHING,
            NOTHING if row.sigma is None else number(row.sigma),
            number(row.spread),
            NOTHING if row.ratio is None else spread(row.ratio),
            NOTHING if row.rank is None else f"{row.rank:.2f}",
            NOTHING if row.coverage is None else f"{row.coverage:.0%}",
        ]
        for row in rows
    ]
    columns = [
        "", "seeds", "bias", "of the return", "sigma", "spread", "sigma / spread", "rank correlation", "coverage",
    ]  # fmt: skip
    samples = " or ".join(map(str, sorted({row.samples for row in rows})))
    notes = [
        f"At {STATES} states on the policy's way, from the newest checkpoint, in the task's units: the predicted "
        f"discounted return minus the mean of {samples} returns that followed (bias), and the predicted standard "
        "deviation (sigma) beside theirs (spread). sigma / spread: 1 is calibrated, below 1 overconfident. Rank "
        "correlation: whether sigma is large where the return varies. Coverage: the share of returns within two sigmas "
        "of the prediction, 95% if calibrated.",
        "Soft critics are held against soft returns, PPO's against V(s). SAC, TD3, DDPG and PPO learn no sigma; the "
        "policies of TD3 and DDPG have no spread of their own.",
    ]
    return Table("", "critics", columns, lines, notes)


def critics_in_training(groups: Sequence[Group]) -> Table:
    """What eval.calibration=true found at the newest evaluation of each seed."""
    figures = {"bias_percent": "{:+.0f}%", "ratio": "{:.2f}", "rank": "{:.2f}", "coverage": "{:.0%}"}
    lines = []
    for group in groups:
        found = [run.critics for run in group.runs if run.critics]
        values = {name: [one[name] for one in found if name in one] for name in figures}
        cells = [
            form.format(sum(values[name]) / len(values[name])) if values[name] else NOTHING
            for name, form in figures.items()
        ]
        if found:
            lines.append([f"{group.env} {group.label}", str(len(found)), *cells])
    columns = ["", "seeds", "bias, of the return", "sigma / spread", "rank correlation", "coverage"]
    notes = ["Means over seeds of the figures at the newest evaluation, measured while the runs trained."]
    return Table("", "critics in training", columns, lines, notes)


def all_tables(comparison: Comparison, calibrations: Sequence[Calibration], reference: bool) -> list[Table]:
    """Every table of a comparison, task by task."""
    found = []
    for env in comparison.tasks:
        groups, summaries, pairs = comparison.of(env)
        found += [scores(env, summaries, groups, reference), costs(env, summaries, groups, comparison.by)]
        found += [duels(env, groups, summaries, pairs)] if pairs else []
    found += [together(comparison.overall)] if comparison.overall else []
    found += [critics(calibrations)] if calibrations else []
    trained = critics_in_training(comparison.groups)
    return found + ([trained] if trained.rows else [])


def answer(env: str, groups: Sequence[Group], summaries: Sequence[Summary], pairs: Sequence[Pair]) -> list[str]:
    """The comparison in sentences: what its subject reached, then how each other, of many the best few, stands."""
    by_label = {row.label: row for row in summaries}
    ours = about(groups, summaries, pairs)
    plural = "" if ours.seeds == 1 else "s"
    failed = f", of which {ours.failed} failed" if ours.failed else ""
    lines = [f"{env}: {ours.label} ends at {spread(ours.final)}, {ours.seeds} seed{plural}{failed}."]
    others = against(ours, pairs)
    if len(groups) > MANY:
        others.sort(key=lambda pair: by_label[pair.other].final.value, reverse=True)
    told = others[:FEW] if len(groups) > MANY else others
    for pair in told:
        other = by_label[pair.other]
        lines.append(
            f"Against {other.label}, at {spread(other.final)}{lost(other)}: {pair.verdict}; its run ends higher with "
            f"probability {spread(pair.probability)}, "
            f"in {duration(ours.seconds)} against {duration(other.seconds)}."
        )
    left = len(others) - len(told)
    return [*lines, f"{left} more: {env}, who beats whom."] if left else lines


def lost(row: Summary) -> str:
    """How many of a method's seeds failed, where any did."""
    return f" with {row.failed} of {row.seeds} seeds failed" if row.failed else ""
