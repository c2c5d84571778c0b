"""Checkpoints: a folder of data that is written whole or not at all, and checked before it is believed.

A state is a tree of dicts and lists with tensors, arrays and plain values as leaves. Large arrays go to .npy files of
their own, which are written and read without a copy in memory, small ones to one safetensors file, the rest to JSON; a
manifest, written last, holds every file's size and SHA-256. Loading runs no code.
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
LARGE = 1 << 20  # bytes


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or believed; the message names the file and the reason."""


def split(tree: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    """The tree with its arrays moved into `arrays` under their path, and markers in their place."""
    if isinstance(tree, torch.Tensor):
        tree = tree.detach().cpu().numpy()
    if isinstance(tree, np.ndarray):
        arrays[path] = tree
        return {ARRAY: path}
    if isinstance(tree, dict):
        return {str(key): split(value, f"{path}.{key}" if path else str(key), arrays) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [split(value, f"{path}.{index}", arrays) for index, value in enumerate(tree)]
    if isinstance(tree, np.generic):
        return tree.item()
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise CheckpointError(f"{path} holds a {type(tree).__name__}: a state holds arrays and plain values only")


def join(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The inverse of `split`; tensors come back as arrays, tuples as lists."""
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


def write_text(path: Path, text: str) -> None:
    """Write a small file, which holds the old text or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.partial")
    temporary.write_text(text)
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def replaced(folder: Path) -> Path:
    """Where the former content of a folder stands while a new one takes its place."""
    return folder.with_name(f".{folder.name}.replaced")


def write(folder: Path, state: Any, facts: dict[str, Any]) -> Path:
    """Write a state as `folder`, which appears complete or not at all; `facts` go into the manifest."""
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    arrays: dict[str, np.ndarray] = {}
    (temporary / "state.json").write_text(json.dumps(split(state, "", arrays)))
    small = {name: array.copy("C") for name, array in arrays.items() if array.nbytes < LARGE}
    save_file(small, temporary / "state.safetensors")
    for name in arrays.keys() - small.keys():
        np.save(temporary / f"{name}.npy", arrays[name], allow_pickle=False)
    files = {path.name: {"bytes": path.stat().st_size, "sha256": digest(path)} for path in temporary.iterdir()}
    for name in files:
        sync(temporary / name)
    manifest = temporary / "manifest.json"
    manifest.write_text(json.dumps({"schema": SCHEMA, **facts, "files": files}, indent=2))
    sync(manifest)
    sync(temporary)
    if folder.exists():
        shutil.rmtree(replaced(folder), ignore_errors=True)
        folder.rename(replaced(folder))
    temporary.rename(folder)
    sync(folder.parent)
    shutil.rmtree(replaced(folder), ignore_errors=True)
    return folder


def present(folder: Path) -> bool:
    """Whether there is something to `read`."""
    return folder.exists() or replaced(folder).exists()


def read(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The state and the manifest of a folder written by `write`; every hash is checked first.

    Large arrays are mapped from their files. Raises CheckpointError with the reason when anything is missing, altered
    or of another schema.
    """
    if not folder.exists() and replaced(folder).exists():
        folder = replaced(folder)  # the process ended between the two renames of `write`
    manifest = read_manifest(folder)
    for name, expected in manifest["files"].items():
        path = folder / name
        if Path(name).name != name or not path.is_file() or path.is_symlink():
            raise CheckpointError(f"{path}: missing, or not a plain file")
        if path.stat().st_size != expected["bytes"] or digest(path) != expected["sha256"]:
            raise CheckpointError(f"{path}: differs from its manifest")
    try:
        arrays = load_file(folder / "state.safetensors")
        for name in manifest["files"]:
            if name.endswith(".npy"):
                arrays[name.removesuffix(".npy")] = np.load(folder / name, mmap_mode="c", allow_pickle=False)
        return join(json.loads((folder / "state.json").read_text()), arrays), manifest
    except (OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{folder}: {error}") from error


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a folder. Raises CheckpointError when there is none of this schema."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: no readable manifest ({error})") from error
    if not isinstance(manifest, dict) or not isinstance(manifest.get("files"), dict):
        raise CheckpointError(f"{folder}: its manifest names no files")
    if manifest.get("schema") != SCHEMA:
        raise CheckpointError(f"{folder}: schema {manifest.get('schema')}, this version reads {SCHEMA}")
    return manifest


def restore_replaced(root: Path) -> None:
    """Put back what a `write` that ended between its two renames left aside."""
    for aside in root.glob(f".{PREFIX}*.replaced"):
        folder = root / aside.name[1:].removesuffix(".replaced")
        if not folder.exists():
            aside.rename(folder)


def commit(root: Path, step: int, state: Any, facts: dict[str, Any], keep: int) -> Path:
    """Write the checkpoint of a step below `root`, then remove all but the newest `keep` and half-done ones."""
    root.mkdir(exist_ok=True)
    folder = write(root / f"{PREFIX}{step:012d}", state, {"step": step, **facts})
    for old in (*committed(root)[:-keep], *root.glob(f".{PREFIX}*")):
        shutil.rmtree(old)
    return folder


def committed(root: Path) -> list[Path]:
    """The checkpoints below `root`, oldest step first."""
    return sorted(path for path in root.glob(f"{PREFIX}*") if path.is_dir() and path.name[len(PREFIX) :].isdigit())


def newest(root: Path) -> tuple[Any, dict[str, Any], list[str]]:
    """The newest checkpoint that can be believed, its manifest, and the reasons against newer ones.

    Those are moved aside, to damaged-<name>. Raises CheckpointError, with every reason, when none can be believed.
    """
    restore_replaced(root)
    state, manifest, reasons = newest_intact(root)
    for damaged in reasons:
        aside = damaged.with_name(f"damaged-{damaged.name}")
        shutil.rmtree(aside, ignore_errors=True)
        damaged.rename(aside)
    return state, manifest, list(reasons.values())


def newest_intact(root: Path) -> tuple[Any, dict[str, Any], dict[Path, str]]:
    """As `newest`, with the reasons by folder; nothing is moved, since the run may be another's, in training."""
    reasons: dict[Path, str] = {}
    for folder in reversed(committed(root)):
        try:
            return *read(folder), reasons
        except CheckpointError as error:
            reasons[folder] = str(error)
    raise CheckpointError("; ".join(reasons.values()) if reasons else f"{root}: no checkpoint there")
