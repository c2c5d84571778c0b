"""Where compiled code is kept between starts: a folder of this user alone, the same one at every start.

Compiled code is executed when it is loaded, so a folder that anybody else may write to is not used.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import stat
import tempfile
from pathlib import Path


def private_folder(name: str) -> Path:
    """The folder for one kind of compiled code, in the user's cache folder; where there is none in the temporary one.

    Where somebody else has taken the place in the temporary folder, a folder of this process alone.
    """
    for base in (cache_home(), Path(tempfile.gettempdir())):
        if base is None:
            continue
        top = base / ("dsac" if base == cache_home() else f"dsac-{os.getuid()}")
        try:
            base.mkdir(parents=True, exist_ok=True)
            if all(private(folder) for folder in (top, top / name)):
                return top / name
        except OSError:
            continue
    folder = of_this_process() / name
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def cache_home() -> Path | None:
    """The user's cache folder, as XDG_CACHE_HOME or HOME say; None for a user without either."""
    chosen = os.environ.get("XDG_CACHE_HOME")
    if chosen:
        return Path(chosen)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


def private(folder: Path) -> bool:
    """Make the folder if need be; whether it can be written to, by its owner alone, who is this user.

    A link counts as the folder that it leads to, if the link is this user's too. Raises OSError.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    if {folder.lstat().st_uid, folder.stat().st_uid} != {os.getuid()}:
        return False
    folder.chmod(0o700)
    return stat.S_IMODE(folder.stat().st_mode) == 0o700 and os.access(folder, os.W_OK)


@functools.cache
def of_this_process() -> Path:
    """A folder that nobody could have foreseen; it goes with this process."""
    folder = Path(tempfile.mkdtemp(prefix="dsac-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
