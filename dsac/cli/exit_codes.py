"""How a command ends: its exit code, and every expected failure as a line on stderr."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Sequence

from dsac.cli.signals import StoppedEarly
from dsac.config import refuse_shadowed_envs
from dsac.errors import CheckpointError, ConfigError, CrashLoop, ExportRefused, Locked, NoRenderer, NumericalFault
from dsac.schema.plain_text import on_screen

FINISHED, USAGE, ENVIRONMENT, NUMERICAL, STORAGE, RESOURCES, RESUMABLE, INTERRUPTED = 0, 2, 3, 4, 5, 6, 75, 130
SIGNS_OF_NO_MEMORY = ("allocate memory", "failed to map segment", "start new thread", "bad_alloc")
REFUSED = NUMERICAL  # an export whose numbers are not the policy's


def entered(arguments: Sequence[str] | None, usage: str, command: Callable[[Sequence[str]], int]) -> int:
    """A command line, of these arguments or the process's own: print the usage or run the command; the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if "--help" in arguments or "-h" in arguments:
        print(usage)
        return FINISHED
    return with_exit_code(lambda: command(arguments))


def with_exit_code(command: Callable[[], int]) -> int:
    """Run a command; what may go wrong for reasons outside the program becomes lines and an exit code."""
    try:
        refuse_shadowed_envs()
        return command()
    except StoppedEarly as signal:
        print(f"stopped ({signal}) before the first step: nothing is lost, type the same again", file=sys.stderr)
        return RESUMABLE
    except KeyboardInterrupt:
        return failed(INTERRUPTED, "interrupted")
    except ConfigError as error:
        return failed(USAGE, *error.problems)
    except Exception as error:
        code, line = code_and_line(error)
        if code is None:
            raise
        return failed(code, line)


def code_and_line(error: Exception) -> tuple[int | None, str]:
    """The exit code and the line of an error; no code for a defect of the program."""
    if short_of_memory(error):
        return RESOURCES, out_of_memory(error)
    try:
        return code_of(error), str(error) or type(error).__name__
    except Exception as other:  # it imports what tells errors apart, and there may be no room for that either
        if short_of_memory(other):
            return RESOURCES, out_of_memory(other)
        raise


def short_of_memory(error: BaseException | None) -> bool:
    """Whether this, or what led to it, is memory that the system did not give; libraries tell of it in many ways."""
    while error is not None:
        text = str(error)
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if isinstance(error, ImportError | OSError | RuntimeError) and any(sign in text for sign in SIGNS_OF_NO_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


def out_of_memory(error: Exception) -> str:
    """What was refused, and who may have set the limit; an error of our own has named the size that fits."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) and text:
        return text
    return f"out of memory ({text or type(error).__name__}): see ulimit -v, the container's limit and what else runs"


def failed(code: int, *lines: str) -> int:
    """Say what was wrong; returns the code."""
    for line in lines:
        print(f"error: {on_screen(line)}", file=sys.stderr)
    return code


def code_of(error: Exception) -> int | None:
    """The exit code of an error that the parts raise for reasons outside the program; None for a defect in it."""
    from torch import OutOfMemoryError

    from envs.contract import EnvironmentFault, NonFiniteAction, UnsuitableEnvironment

    codes = {
        UnsuitableEnvironment: USAGE, NoRenderer: USAGE, Locked: USAGE, CrashLoop: USAGE,
        NonFiniteAction: NUMERICAL, NumericalFault: NUMERICAL, ExportRefused: REFUSED,
        EnvironmentFault: ENVIRONMENT, CheckpointError: STORAGE, OSError: STORAGE,
        MemoryError: RESOURCES, OutOfMemoryError: RESOURCES,
    }  # fmt: skip
    return next((code for kind, code in codes.items() if isinstance(error, kind)), None)
