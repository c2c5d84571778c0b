"""The commit protocol: a durable write appears whole or not at all, and what is read is checked before it is believed.

Everything that must outlive a crash is written here, with calls of `os` and nothing else (envs.system has the flush),
so that a test can record them and try every state that a power cut may leave. A folder is written beside its place,
each file flushed to the disk, the manifest with every file's size and SHA-256 last; then it is renamed, and its parent
flushed. Formats and checkpoints are no business of this module, and it imports neither torch nor numpy.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

from dsac.errors import CheckpointError
from dsac.schema.files import create, flush, is_folder, make_folder, plain_file, read_text, remove, sync, temp_path
from dsac.schema.plain_data import misfit, parse_json

SCHEMA = 2
MANIFEST = "manifest.json"
LARGEST_MANIFEST = 8 << 20  # bytes: what is larger was not written here

ENTRY = {"bytes": int, "sha256": str}
TASK = {"id?": str, "obs_names?": [str], "action_names?": [str], "control_period_seconds?": float}
SCORE = {"eval/return": float, "eval/return_low?": float, "eval/return_high?": float}
FORM = {
    "schema": int, "files": {str: ENTRY}, "segments?": {str: ENTRY},
    "step?": int, "env_steps?": int, "updates?": int, "scores?": [float], "evaluation_owed?": bool,
    "config?": dict, "versions?": dict, "architecture?": str, "task?": TASK, "score?": SCORE, "reason?": str,
}  # fmt: skip

Pieces = Iterable[Any]  # what a file is made of: bytes, or contiguous arrays without an empty dimension
Entry = dict[str, Any]  # "bytes" and "sha256" of a file


def write_file(path: Path, pieces: Pieces) -> Entry:
    """Write and flush a new file; its entry for a manifest. The name is durable once its folder is `sync`ed."""
    digest, size = hashlib.sha256(), 0
    descriptor = create(path)
    try:
        for piece in pieces:
            rest = memoryview(piece).cast("B")
            digest.update(rest)
            size += len(rest)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        flush(descriptor)
    finally:
        os.close(descriptor)
    return {"bytes": size, "sha256": digest.hexdigest()}


def write_text(path: Path, text: str) -> None:
    """Write a small file, which holds the old text or the new one, never a part."""
    temporary = temp_path(path, "partial")
    write_file(temporary, [text.encode()])
    temporary.replace(path)
    sync(path.parent)


def commit(folder: Path, files: Mapping[str, Pieces], facts: Mapping[str, Any]) -> Path:
    """Write `files` as a folder, which holds all of them or, until this returns, what it held before.

    `facts` go into the manifest. Raises OSError where the disk does not take it; then nothing has changed.
    """
    temporary = temp_path(folder, "partial")
    make_folder(folder.parent)
    remove(temporary)
    try:
        temporary.mkdir()
        entries = {name: write_file(temporary / name, pieces) for name, pieces in files.items()}
        write_file(temporary / MANIFEST, [rendered({"schema": SCHEMA, **facts, "files": entries})])
        sync(temporary)
    except OSError:
        with contextlib.suppress(OSError):
            remove(temporary)  # on a full disk every byte counts
        raise
    publish(temporary, folder)
    return folder


def publish(complete: Path, folder: Path) -> None:
    """Give a folder that is complete and flushed its name, in place of what stands there."""
    recover(folder)
    former = temp_path(folder, "replaced")
    if os.path.lexists(folder):
        folder.rename(former)
    complete.rename(folder)
    sync(folder.parent)
    remove(former)


def recover(folder: Path) -> None:
    """Finish or undo what a `commit` left that ended between its two renames."""
    former = temp_path(folder, "replaced")
    if is_folder(former) and not os.path.lexists(folder):
        former.rename(folder)
    if os.path.lexists(former):
        sync(folder.parent)  # the successor must be durable before this goes
        remove(former)


def present(folder: Path) -> bool:
    """Whether there is something to read."""
    return folder.exists() or temp_path(folder, "replaced").exists()


def readable_path(folder: Path) -> Path:
    """Where the content of a folder is: aside, if a `commit` ended between its two renames."""
    former = temp_path(folder, "replaced")
    return former if former.exists() and not folder.exists() else folder


def rendered(content: Mapping[str, Any]) -> bytes:
    """The text of a manifest, with a hash of its own as the last entry: one byte more or less is noticed."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    return json.dumps({**content, "sha256": digest}, indent=1).encode()


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises CheckpointError when there is none that can be believed."""
    path = readable_path(folder) / MANIFEST
    try:
        text = read_text(path, LARGEST_MANIFEST)
        manifest = parse_json(text, finite=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: no readable manifest ({error})") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"{folder}: its manifest names no files")
    if manifest.get("schema") != SCHEMA:
        raise CheckpointError(f"{folder}: schema {manifest.get('schema')}, this version reads {SCHEMA}")
    manifest.pop("sha256", None)
    if rendered(manifest) != text.encode():
        raise CheckpointError(f"{path}: altered since it was written")
    if wrong := misfit(manifest, FORM):
        raise CheckpointError(f"{path}: {wrong}")
    return manifest


def check(path: Path, entry: Any) -> None:
    """Raise CheckpointError unless a file is what its manifest lists; it is never in memory as a whole."""
    check_opened(path, entry, lambda file: hashlib.file_digest(file, "sha256").hexdigest())


def read_checked(path: Path, entry: Any, limit: float = math.inf) -> bytes:
    """The content of a file that a manifest lists. Raises CheckpointError where it is not what was written, or larger
    than `limit` bytes."""
    content = b""
    if entry["bytes"] > limit:
        raise CheckpointError(f"{path}: larger than {limit:,} bytes, so it was not written by dsac")

    def digest(file: BufferedReader) -> str:
        nonlocal content
        content = file.read()
        return hashlib.sha256(content).hexdigest()

    check_opened(path, entry, digest)
    return content


def check_opened(path: Path, entry: Any, digest: Callable[[BufferedReader], str]) -> None:
    """Open a file for `digest` and compare. Raises CheckpointError where it is missing, altered or no plain file."""
    try:
        size, expected = entry["bytes"], entry["sha256"]
        with plain_file(path) as file:
            intact = os.fstat(file.fileno()).st_size == size and digest(file) == expected
    except (OSError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path}: missing, or not a plain file ({error})") from error
    if not intact:
        raise CheckpointError(f"{path}: differs from its manifest")


def plain_name(name: Any) -> str:
    """A file's name from a manifest. Raises CheckpointError for one that would lead out of its folder."""
    if not isinstance(name, str) or name in ("", ".", "..") or Path(name).name != name or "\0" in name:
        raise CheckpointError(f"{name!r} is not the name of a file in a checkpoint")
    return name
