"""The files of a run, opened so that nothing outside its folder is touched and no odd file does harm.

A run folder may come from anyone: what it holds are plain files and folders, or it is refused. A link is never
followed, a pipe or device never waited for, a file never read beyond a limit. What is read comes back as plain data,
or as one FileError of one line. What is written is new, or is one of the run's own files; a link that stands in its
place is unlinked. The folders above a run are its user's: links among them are followed.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from io import BufferedReader, FileIO
from pathlib import Path
from typing import Any

from dsac.errors import FileError
from dsac.schema.plain_data import parse_json, parse_yaml
from dsac.schema.plain_text import warn

LARGEST_YAML = 1 << 16  # bytes, as all limits; a config has some 3,000
LARGEST_JSON = 4 << 20
LARGEST_LINE = 1 << 16


def plain_file(path: Path, links: bool = False) -> BufferedReader:
    """A file opened for reading that is no pipe or device, and no link unless `links` are followed.

    Raises OSError, FileError for one that is.
    """
    follow = 0 if links else os.O_NOFOLLOW
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | follow)
    except ValueError as error:  # a NUL in the name
        raise FileError(f"{str(path)!r}: no name of a file") from error
    except OSError:
        if not links and path.is_symlink():
            raise FileError(f"{path}: a link, not a plain file") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileError(f"{path}: not a plain file")
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, limit: int, links: bool = False) -> bytes:
    """The content of a plain file of at most `limit` bytes. Raises FileError."""
    try:
        with plain_file(path, links) as file:
            content = file.read(limit + 1)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error
    if len(content) > limit:
        raise FileError(f"{path}: larger than {limit:,} bytes, so it was not written by dsac")
    return content


def read_text(path: Path, limit: int, links: bool = False) -> str:
    """The text of a plain file in UTF-8. Raises FileError."""
    return decoded(read_bytes(path, limit, links), path)


def read_lines(path: Path, longest: int = LARGEST_LINE) -> Iterator[str]:
    """The lines of a plain file in UTF-8, one after the other, without their ends. Raises FileError."""
    try:
        with plain_file(path) as file:
            while line := file.readline(longest + 1):
                if len(line) > longest:
                    raise FileError(f"{path}: a line is longer than {longest:,} bytes")
                yield decoded(line, path).rstrip("\r\n")
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{path}: {error.strerror or error}") from error


def read_json(path: Path, limit: int = LARGEST_JSON) -> Any:
    """The plain data in a JSON file. Raises FileError."""
    text = read_text(path, limit)
    try:
        return parse_json(text)
    except ValueError as error:
        raise FileError(f"{path}: no readable JSON: {error}") from error


def read_yaml(path: Path, limit: int = LARGEST_YAML, links: bool = False) -> Any:
    """The plain data in a yaml file. Raises FileError."""
    text = read_text(path, limit, links)
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise FileError(f"{path}: no readable yaml: {error}") from error


def decoded(content: bytes, path: Path) -> str:
    """Bytes as text. Raises FileError where they are no UTF-8."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not text in UTF-8 ({error.reason} at byte {error.start:,})") from error


def create(path: Path) -> int:
    """A descriptor of a new file; what bore its name is unlinked, be it a link, and never written to."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o666)
    except FileExistsError:
        path.unlink()
        return os.open(path, flags, 0o666)


def append(path: Path) -> FileIO:
    """A plain file opened for reading and for writing at its end, made where there is none.

    A link, pipe or device in its place is unlinked, with a line. Raises OSError.
    """
    mode = mode_of(path)
    if stat.S_ISDIR(mode):
        raise FileError(f"{path}: a folder, where a file belongs")
    if mode and not stat.S_ISREG(mode):
        path.unlink()
        warn(f"{path} was a link or no plain file, and was removed")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    return os.fdopen(descriptor, "ab+", buffering=0)


def mode_of(path: Path) -> int:
    """The kind and rights of what bears a name, links not followed; 0 where nothing does."""
    try:
        return os.lstat(path).st_mode
    except FileNotFoundError:
        return 0


def size_of(path: Path) -> int:
    """The bytes of a plain file; 0 where there is none, or what is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def is_folder(path: Path) -> bool:
    """Whether a folder stands there itself, no link to one."""
    return stat.S_ISDIR(mode_of(path))


def flush(descriptor: int) -> None:
    """Return once what was written to an open file is on the disk."""
    from envs import system  # late: a user's own ./envs, which would be imported here, is refused by then

    system.flush(descriptor)


def sync(path: Path) -> None:
    """Make the content of a file, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Make a folder of a run durably, in one that is there.

    Raises FileError for a link in its place, OSError where what it would lie in is gone: it is not made again.
    """
    mode = mode_of(folder)
    if mode == 0:
        folder.mkdir(exist_ok=True)
        sync(folder.parent)
    elif not stat.S_ISDIR(mode):
        raise FileError(f"{folder}: a link or a file, where the run keeps a folder of its own: move it away")


def make_own_folder(folder: Path) -> None:
    """Make a folder of a run durably, and those above it, which its user chose. Raises FileError as `make_folder`."""
    make_folders(folder.parent)
    make_folder(folder)


def make_folders(folder: Path) -> None:
    """Make a folder that a user chose and those above it, durably."""
    if folder.is_dir():
        return
    make_folders(folder.parent)
    folder.mkdir(exist_ok=True)
    sync(folder.parent)


def refuse_linked_folders(run: Path) -> None:
    """Raise FileError where a run that will be written to keeps a folder behind a link."""
    checkpoints = run / "checkpoints"
    for folder in (checkpoints, checkpoints / "segments", run / "snapshots", *run.glob("learner-*")):
        if folder.is_symlink():
            raise FileError(f"{folder}: a link, where the run keeps a folder of its own: put the folder itself there")


def refuse_gone(run: Path) -> None:
    """Raise FileError where the folder of a run in training is no longer there."""
    try:
        run.stat()
    except FileNotFoundError:
        raise FileError(
            f"{run} is gone: it was deleted or renamed while it was in training, so nothing more can be saved; "
            "where it was renamed, resume=<its new place> goes on from its last checkpoint"
        ) from None
    except OSError:  # a disk that does not answer now may do so later
        return


def temp_path(path: Path, role: str) -> Path:
    """A hidden name beside a path: "partial" while it is written, "replaced" while its successor takes its place."""
    return path.with_name(f".{path.name}.{role}")


def remove(path: Path) -> None:
    """Remove a folder, or whatever bears its name; of a link, the link. It is out of sight at once."""
    if not is_folder(path):
        if mode_of(path):
            path.unlink()
        return
    doomed = path if path.name.startswith(".") else temp_path(path, "removed")
    if doomed != path:
        remove(doomed)
        path.rename(doomed)
    for inner in doomed.iterdir():
        if is_folder(inner):
            remove_tree(inner)
        else:
            inner.unlink()
    doomed.rmdir()


def remove_tree(folder: Path) -> None:
    """Remove a folder in a folder, which is none of ours. Raises OSError."""
    try:
        shutil.rmtree(folder)
    except RecursionError:
        raise FileError(f"{folder}: nested too deep to be removed") from None
