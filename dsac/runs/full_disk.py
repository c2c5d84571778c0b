"""What to tell a user whose disk is full."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dsac.persistence import checkpoint


@contextmanager
def full_disk_explained(place: Path) -> Iterator[None]:
    """Within this block the error of a full disk also says what is saved and what to do.

    place: the run folder, or where a new one is to be made. Raises OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        saved = checkpoint.committed(place / "checkpoints")
        step = int(saved[-1].name.removeprefix(checkpoint.PREFIX)) if saved else 0
        safe = f"step {step:,} is safe, resume={place} goes on from it" if saved else "nothing is saved yet"
        advice = "make room" if saved else "make room or set runs= to another disk"
        raise OSError(f"{error}; {free_megabytes(place)} MB are free: {advice}; {safe}") from error


def free_megabytes(place: Path) -> str:
    """The free space on the disk of a path that may not exist yet."""
    existing = next(path for path in (place.absolute(), *place.absolute().parents) if path.exists())
    return f"{shutil.disk_usage(existing).free / 1e6:,.0f}"
