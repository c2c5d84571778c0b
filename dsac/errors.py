"""Every failure that a user can meet; dsac.cli.exit_codes gives each its code. Imports nothing."""

from __future__ import annotations


class ConfigError(ValueError):
    """What is wrong with a config, a line each: the key, the value and what would be right."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or believed; the message names the file and the reason."""


class FileError(OSError):
    """A file is missing, or is not what it should be; the message is one line and begins with its path."""


class CrashLoop(RuntimeError):
    """A run was resumed again and again without getting anywhere."""


class NumericalFault(ArithmeticError):
    """The learning has diverged; the message names the learner, the step and what can be done."""


class NoRenderer(RuntimeError):
    """Nothing on this machine can draw; the message names what to install."""


class Locked(RuntimeError):
    """Another process has the run; the message names it."""


class ExportRefused(RuntimeError):
    """An export that cannot be trusted, or an exported file that is not what it should be; the message says why."""
