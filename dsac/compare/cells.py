"""A table of words: its cells, and its form on the screen, in Markdown, and as CSV for programs."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

from dsac.compare.scores import Estimate
from dsac.schema.plain_text import csv_cell, printable
from dsac.schema.plain_text import markdown as escaped

NOTHING = "-"


class Table(NamedTuple):
    """Cells of text; the first column names the row. `task` is empty for what concerns all tasks."""

    task: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    @property
    def heading(self) -> str:
        return f"{self.task}: {self.title}" if self.task else self.title[0].upper() + self.title[1:]


def number(value: float) -> str:
    """A return or a time with as many digits as one reads: 9,351 or 83.4 or 0.27."""
    if not math.isfinite(value):
        return NOTHING
    digits = 0 if abs(value) >= 1000 else 1 if abs(value) >= 10 else 2
    return f"{round(value, digits) + 0.0:,.{digits}f}"  # adding zero turns -0.0 round


def spread(estimate: Estimate) -> str:
    """9,351 [9,102, 9,360]"""
    if math.isnan(estimate.low):
        return number(estimate.value)
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def duration(seconds: float) -> str:
    """2 h 05 min, 3 min 20 s or 4.1 s."""
    if not math.isfinite(seconds):
        return NOTHING
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60:02} min"


def screen(table: Table) -> str:
    """A table for a terminal: the first column to the left, numbers to the right."""
    lines = [[printable(cell) for cell in line] for line in (table.columns, *table.rows)]
    first, *widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = [
        "  ".join([line[0].ljust(first), *(cell.rjust(width) for cell, width in zip(line[1:], widths, strict=True))])
        for line in lines
    ]
    return "\n".join([printable(table.heading), "-" * len(body[0]), *body, *map(printable, table.notes)]) + "\n"


def markdown(table: Table) -> str:
    """A table for a page."""
    lines = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
    body = "\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines)
    return "\n\n".join([f"### {escaped(table.heading)}", body, *map(escaped, table.notes)]) + "\n"


def as_csv(rows: Sequence[Any]) -> str:
    """Dataclasses as rows with a column a number: final, final_low, final_high, ..."""
    flat = [columns(asdict(row)) for row in rows]
    keys = list(dict.fromkeys(key for row in flat for key in row))
    text = io.StringIO()
    table = csv.DictWriter(text, keys, lineterminator="\n")
    table.writeheader()
    table.writerows({key: csv_cell(value) for key, value in row.items()} for row in flat)
    return text.getvalue()


def columns(row: Mapping[str, Any]) -> dict[str, Any]:
    """One level: an Estimate as name, name_low and name_high, another mapping as name_key."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            found |= {key if inner == "value" else f"{key}_{inner}": number for inner, number in value.items()}
        else:
            found[key] = value
    return found
