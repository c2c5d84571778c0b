"""The report of a study: report.md with its trials, the importance of the fields and what was gained; trials.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dsac.compare.cells import number
from dsac.persistence import atomic
from dsac.schema.plain_text import csv_cell
from dsac.schema.plain_text import markdown as escaped
from dsac.schema.validate import plain_value
from dsac.tune.recipe import value_of
from dsac.tune.search_space import Space
from dsac.tune.study import COMPLETE, OPEN, Trial, best_of

REPORT, TABLE = "report.md", "trials.csv"


@dataclass(frozen=True)
class Findings:
    """What a study has found so far.

    importance  each field's share, empty where there are too few trials
    outside     fields whose value in the command's own settings lies outside of the space: there is no base trial then
    commands    lines to type, each by what it is for
    """

    name: str
    space: Space
    trials: Sequence[Trial]
    importance: Mapping[str, float]
    outside: Sequence[str]
    commands: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Trial | None:
        return best_of(self.trials)

    @property
    def base(self) -> Trial | None:
        """The trial of the command's own settings."""
        return next((trial for trial in self.trials if trial.base), None)


def gain(found: Findings) -> str:
    """What tuning has gained over the command's own settings, in a sentence."""
    best, base = found.best, found.base
    if best is None or best.value is None:
        return "No trial is complete."
    told = f"Best: trial {best.number}, {value_of(best)}"
    if base is None:
        fields = ", ".join(found.outside)
        return f"{told}. The command's own settings were not tried: {fields} lies outside of the space."
    if base.value is None or base.state != COMPLETE:
        return f"{told}. Trial {base.number}, with the command's own settings, {base.state}: nothing to compare with."
    if best is base:
        return f"{told}: the command's own settings; no other was better."
    return f"{told}; trial {base.number}, with the command's own settings, {value_of(base)}: a gain of " + (
        f"{best.value - base.value:,.1f}."
    )


def write(folder: Path, found: Findings) -> list[Path]:
    """Write report.md, trials.csv and, where there is something to draw with, tune.png; the files."""
    from dsac.compare import figures

    paths = [folder / REPORT, folder / TABLE]
    if figures.installed() and any(trial.value is not None for trial in found.trials):
        from dsac.tune.figure import draw

        paths.append(draw(found.trials, found.space, folder))
    atomic.write_text(paths[0], markdown(found, with_figure=len(paths) > 2))
    atomic.write_text(paths[1], as_csv(found))
    return paths


def markdown(found: Findings, with_figure: bool) -> str:
    """The report as Markdown."""
    parts = [f"# Study {found.name}", gain(found)]
    if with_figure:
        parts.append("![Values of the trials in order, and over each field](tune.png)")
    heads = ["trial", "state", "value", *found.space]
    parts += ["## Trials, the best first", table(heads, [cells(trial, found.space) for trial in ranked(found.trials)])]
    if failures := [f"- trial {trial.number}: {escaped(trial.error)}" for trial in found.trials if trial.error]:
        parts.append("\n".join(failures))
    parts.append("## Importance")
    if found.importance:
        rows = [[key, f"{share:.0%}", str(found.space[key])] for key, share in found.importance.items()]
        parts.append(table(["field", "share", "searched"], rows))
        parts.append(
            "The share of each field in what sets the best quarter of the complete trials apart (PED-ANOVA, arXiv "
            "2304.10255). Below some dozens of trials that is mostly chance."
        )
    else:
        parts.append("Too few complete trials, or all alike.")
    if found.commands:
        parts += [
            "## Next",
            "```sh\n" + "\n".join(f"# {what}\n{line}" for what, line in found.commands.items()) + "\n```",
        ]
        parts.append(
            "The value of the best trial is too good on average: it was chosen for being the highest on these seeds. "
            "Only seeds that no trial has seen tell what the settings are worth."
        )
    return "\n\n".join(parts) + "\n"


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Complete trials by their value, then the others in order."""
    best_first = sorted(trials, key=lambda trial: (-(trial.value or 0.0), trial.number))
    return [trial for trial in best_first if trial.state == COMPLETE] + [
        trial for trial in trials if trial.state != COMPLETE
    ]


def cells(trial: Trial, space: Space) -> list[str]:
    """A trial as a row of the table."""
    state = f"{trial.state}, base" if trial.base else trial.state
    if trial.reports and trial.state not in (COMPLETE, OPEN):
        state += f" at {max(trial.reports):,}"
    value = value_of(trial) if trial.state == COMPLETE else "-" if trial.value is None else number(trial.value)
    return [str(trial.number), state, value, *(four_digits(trial.settings.get(key, "-")) for key in space)]


def four_digits(word: str) -> str:
    """A setting, of a number its first four digits."""
    value = plain_value(word)
    return f"{value:.4g}" if isinstance(value, float) else word


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines)


def as_csv(found: Findings) -> str:
    """Every trial with its exact settings, for programs."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", "base", "value", "scores", *found.space, "error"])
    for trial in found.trials:
        value = "" if trial.value is None else repr(trial.value)
        settings = [trial.settings.get(key, "") for key in found.space]
        scores = " ".join(map(repr, trial.scores))
        row = [trial.number, trial.state, str(trial.base).lower(), value, scores, *settings, trial.error]
        writer.writerow(map(csv_cell, row))
    return text.getvalue()


def facts(found: Findings) -> dict[str, Any]:
    """What --json prints of a study."""
    best = found.best
    return {
        "study": found.name,
        "best": None if best is None else best.number,
        "value": None if best is None else best.value,
        "base_value": found.base.value if found.base else None,
        "importance": dict(found.importance),
        "trials": [
            {
                "trial": trial.number,
                "state": trial.state,
                "base": trial.base,
                "value": trial.value,
                "scores": list(trial.scores),
                "settings": {key: plain_value(word) for key, word in trial.settings.items()},
                "error": trial.error or None,
            }
            for trial in found.trials
        ],
    }
