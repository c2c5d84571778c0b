"""Checkpoints: a folder of data that is written whole or not at all, and checked before it is believed.

A state is a tree of dicts and lists with tensors, arrays and plain values as leaves. Arrays go to safetensors, the rest
to JSON; a manifest, written last, holds every file's size and SHA-256. Loading runs no code.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

SCHEMA = 1
PREFIX = "step-"
ARRAY = "$array"


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or believed; the message names the file and the reason."""


def split(tree: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """The tree with its arrays moved into `arrays` under their path, and markers in their place."""
    if isinstance(tree, torch.Tensor):
        tree = tree.detach().cpu().numpy()
    if isinstance(tree, np.ndarray):
        arrays[path] = np.ascontiguousarray(tree)
        return {ARRAY: path}
    if isinstance(tree, dict):
        return {str(key): split(value, f"{path}/{key}", arrays) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [split(value, f"{path}/{index}", arrays) for index, value in enumerate(tree)]
    if isinstance(tree, np.generic):
        return tree.item()
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise CheckpointError(f"{path} holds a {type(tree).__name__}: a state holds arrays and plain values only")


def join(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of `split`; tensors come back as arrays."""
    if isinstance(tree, dict):
        if set(tree) == {ARRAY}:
            return arrays[tree[ARRAY]]
        return {key: join(value, arrays) for key, value in tree.items()}
    if isinstance(tree, list):
        return [join(value, arrays) for value in tree]
    return tree


def sync(path: Path) -> None:
    """Make a file or folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(folder: Path, state: Any, facts: dict[str, Any]) -> Path:
    """Write a state as `folder`, which appears complete or not at all; `facts` go into the manifest."""
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    arrays: dict[str, np.ndarray] = {}
    tree = split(state, "", arrays)
    save_file(arrays, temporary / "state.safetensors")
    (temporary / "state.json").write_text(json.dumps(tree))
    files = {path.name: {"bytes": path.stat().st_size, "sha256": digest(path)} for path in temporary.iterdir()}
    for name in files:
        sync(temporary / name)
    manifest = temporary / "manifest.json"
    manifest.write_text(json.dumps({"schema": SCHEMA, **facts, "files": files}, indent=2))
    sync(manifest)
    sync(temporary)
    if folder.exists():
        replaced = folder.with_name(f".{folder.name}.replaced")
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
        temporary.rename(folder)
        shutil.rmtree(replaced)
    else:
        temporary.rename(folder)
    sync(folder.parent)
    return folder


def read(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The state and the manifest of a folder written by `write`; every hash is checked first.

    Raises CheckpointError with the reason when anything is missing, altered or of a newer schema.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: no readable manifest ({error})") from error
    if manifest.get("schema") != SCHEMA:
        raise CheckpointError(f"{folder}: schema {manifest.get('schema')}, this version reads {SCHEMA}")
    for name, expected in manifest["files"].items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.is_symlink():
            raise CheckpointError(f"{path}: missing, or not a plain file")
        if path.stat().st_size != expected["bytes"] or digest(path) != expected["sha256"]:
            raise CheckpointError(f"{path}: differs from its manifest")
    arrays = load_file(folder / "state.safetensors")
    return join(json.loads((folder / "state.json").read_text()), arrays), manifest


def commit(root: Path, step: int, state: Any, facts: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint of a step below `root`, then remove all but the newest `keep`."""
    root.mkdir(exist_ok=True)
    folder = write(root / f"{PREFIX}{step:012d}", state, {"step": step, **facts})
    for old in committed(root)[:-keep]:
        shutil.rmtree(old)
    return folder


def committed(root: Path) -> list[Path]:
    """The checkpoints below `root`, oldest step first."""
    return sorted(path for path in root.glob(f"{PREFIX}*") if path.is_dir() and path.name[len(PREFIX) :].isdigit())


def newest(root: Path) -> tuple[Any, dict[str, Any], Path]:
    """The newest checkpoint that can be believed; the reasons against newer ones are printed in the error otherwise.

    Raises CheckpointError when none is left.
    """
    reasons = []
    for folder in reversed(committed(root)):
        try:
            return *read(folder), folder
        except CheckpointError as error:
            reasons.append(str(error))
    raise CheckpointError("; ".join(reasons) if reasons else f"{root}: no checkpoint there")
