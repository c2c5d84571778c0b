"""From a run to a controller: python -m dsac.export run=runs/Humanoid/dsac_t/20261121-120000-seed0

From Python: dsac.export("runs/Humanoid/dsac_t/20261121-120000-seed0").
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsac.cli.exit_codes import FINISHED, entered
from dsac.cli.progress import StageBar
from dsac.config import refuse_shadowed_envs
from dsac.schema.importing import OF_ENV
from dsac.schema.overrides import split_off
from dsac.schema.plain_text import warn
from dsac.schema.validate import as_word

HELP = """\
python -m dsac.export run=<run> [which=best|last] [learner=0] [format=onnx,c,torchscript] [batch=1|dynamic]
                      [out=<folder>] [safe_action=zero|last|[0,0.1]] [obs_abs_max=1e6]
                      [episodes=20] [rows=4096] [seed=1000000] [risk=true] [--json]

Writes policy.onnx, policy.h, policy.json (the contract), parity.npz and controller.py into one folder, by default
<run>/learner-<i>/export-<which>, and only when every file does what the policy does: on `rows` observations, and in a
closed loop of `episodes` episodes (0: none). format defaults to onnx,c. docs/deploy.md goes on from there.

safe_action   what to do when an observation is not finite or larger than obs_abs_max: set it for a robot of your own
risk          true: risk.onnx as well, what the critics expect of an observation and an action (docs/risk.md)
batch         dynamic: policy.onnx takes any number of observations at once
exit          0 written, 2 usage, 3 environment, 4 refused: a file does not do what the policy does, 5 storage
A run that imports a module of your own wants it named again: env.task=<module>,
env.id=<module>:<name> or env.wrappers=[<module>:<class>].
"""


def export(run: Path | str, **settings: Any) -> dict[str, Any]:
    """Export a policy with the keys of the command line: export(run, format="c", safe_action="last").

    Returns what --json prints. Raises ConfigError with all that is wrong, ExportRefused for an export that does not do
    what the policy does.
    """
    refuse_shadowed_envs()
    return start([as_word(key, value) for key, value in {"run": run, **settings}.items()])


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return entered(words, HELP, show)


def show(words: Sequence[str]) -> int:
    """Export and print."""
    from dsac.export.report import as_text

    report = start([word for word in words if word != "--json"])
    for line in report["warnings"]:
        warn(line)
    print(json.dumps(report) if "--json" in words else as_text(report))
    return FINISHED


def start(words: Sequence[str]) -> dict[str, Any]:
    """Check the words, export; the report."""
    from dsac.export.request import parse

    named, others = split_off(words, *OF_ENV, "algo")
    request = parse(others)
    stages = 3 + 2 * len(request.formats)
    with StageBar("export", stages) as bar:  # while torch is being imported
        from dsac.export.write import write_export

        return write_export(request, named, bar.show)
