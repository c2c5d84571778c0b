"""Checkpoints: the state of a run as data, and the newest one that can be believed.

A state is a tree of dicts and lists with tensors, arrays and plain values as leaves: arrays go to one safetensors file,
the rest to JSON. The frames of a replay lie in segments beside the checkpoints, which share them. Loading runs no code.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save

from dsac.errors import CheckpointError
from dsac.persistence import atomic
from dsac.persistence.replay_segments import Log, arrays_of, prune
from dsac.schema import files
from dsac.schema.plain_data import misfit, parse_json

PREFIX = "step-"
ARRAY, LOG = "$array", "$log"
TREE, ARRAYS = "state.json", "state.safetensors"
LARGEST_TREE = 64 << 20  # bytes
RUN = {
    "state": {
        "trainer": {
            "env_steps": int, "warmup_env_steps": int, "wall_time": float, "metrics": {str: np.ndarray},
            "scores?": [float], "algorithm": {str: np.ndarray}, "updater": {"count": int, "generators": list},
            "collector": {"finished": [[list]]}, "memory": dict,
        },
        "evaluator": {"best": {str: float}, "owed": bool},
        "logger": {"curves": [{"csv_bytes": int, "env_steps": int}]},
    },
    "manifest": {"step": int, "env_steps": int, "updates": int, "config": dict},
}  # fmt: skip
SEGMENTS = "segments"  # of a manifest, and the folder's name


def split(tree: Any, path: str, arrays: dict[str, np.ndarray], segments: dict[str, atomic.Entry]) -> Any:
    """The tree with its arrays moved into `arrays` under their path, and markers in their place."""
    if isinstance(tree, torch.Tensor):
        tree = tree.detach().cpu().numpy()
    if isinstance(tree, np.ndarray):
        arrays[path] = tree if tree.flags.c_contiguous else tree.copy("C")
        return {ARRAY: path}
    if isinstance(tree, Log):
        segments |= tree.segments
        return {LOG: list(tree.segments), "tail": split(tree.tail, path, arrays, segments)}
    if isinstance(tree, dict):
        return {
            str(key): split(value, f"{path}.{key}" if path else str(key), arrays, segments)
            for key, value in tree.items()
        }
    if isinstance(tree, list | tuple):
        return [split(value, f"{path}.{index}", arrays, segments) for index, value in enumerate(tree)]
    if isinstance(tree, np.generic):
        return tree.item()
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise CheckpointError(f"{path} holds a {type(tree).__name__}: a state holds arrays and plain values only")


def join(tree: Any, arrays: Mapping[str, np.ndarray], folder: Path, segments: Mapping[str, atomic.Entry]) -> Any:
    """The inverse of `split`; tensors come back as arrays, tuples as lists."""
    if isinstance(tree, dict):
        if set(tree) == {ARRAY}:
            return arrays[tree[ARRAY]]
        if LOG in tree:
            tail = join(tree["tail"], arrays, folder, segments)
            return Log(folder / SEGMENTS, {name: segments[name] for name in tree[LOG]}, tail)
        return {key: join(value, arrays, folder, segments) for key, value in tree.items()}
    if isinstance(tree, list):
        return [join(value, arrays, folder, segments) for value in tree]
    return tree


def write(folder: Path, state: Any, facts: Mapping[str, Any]) -> Path:
    """Write a state as `folder`, which appears complete or not at all; `facts` go into the manifest.

    Raises CheckpointError for a leaf that is no data, OSError where the disk does not take it.
    """
    arrays: dict[str, np.ndarray] = {}
    segments: dict[str, atomic.Entry] = {}
    tree = split(state, "", arrays, segments)
    shared = {SEGMENTS: segments} if segments else {}
    content = {TREE: [json.dumps(tree).encode()], ARRAYS: [save(arrays)]}
    return atomic.commit(folder, content, {**facts, **shared})


def read(folder: Path) -> tuple[Any, dict[str, Any]]:
    """The state and the manifest of a folder written by `write`; every hash is checked first.

    Segments are checked as they are iterated. Raises CheckpointError with the reason when anything is missing, altered
    or of another schema.
    """
    place = atomic.readable_path(folder)
    manifest = atomic.read_manifest(place)
    for name, entry in manifest["files"].items():
        atomic.check(place / atomic.plain_name(name), entry)
    try:
        arrays = arrays_of(atomic.read_checked(place / ARRAYS, manifest["files"][ARRAYS]), place / ARRAYS)
        text = atomic.read_checked(place / TREE, manifest["files"][TREE], LARGEST_TREE).decode()
        return join(parse_json(text, finite=False), arrays, folder.parent, manifest.get(SEGMENTS, {})), manifest
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise CheckpointError(f"{folder}: its state cannot be read ({reason})") from error


def logs(tree: Any) -> list[Log]:
    """Every log in a state."""
    if isinstance(tree, Log):
        return [tree]
    values = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return [log for value in values for log in logs(value)]


def keep_newest(root: Path, keep: int) -> None:
    """Remove all but the newest `keep` checkpoints, what was half done, and the segments that none lists any more."""
    for old in committed(root)[:-keep]:
        files.remove(files.temp_path(old, "removed"))
        old.rename(files.temp_path(old, "removed"))
    files.sync(root)  # before anything in them goes: a power cut must not bring back a part
    for hidden in root.glob(f".{PREFIX}*"):
        files.remove(hidden)
    with contextlib.suppress(CheckpointError):  # what a damaged one lists is not known: all stay until it is gone
        kept = [atomic.read_manifest(folder) for folder in committed(root)]
        prune(root / SEGMENTS, {name for manifest in kept for name in manifest.get(SEGMENTS, ())})


def save_step(root: Path, step: int, state: Any, facts: Mapping[str, Any], keep: int) -> Path:
    """Commit the checkpoint of a step below `root`, then remove all but the newest `keep`."""
    folder = write(root / f"{PREFIX}{step:012d}", state, {"step": step, **facts})
    keep_newest(root, keep)
    return folder


def committed(root: Path) -> list[Path]:
    """The checkpoints below `root`, oldest step first."""
    found = [path for path in root.glob(f"{PREFIX}*") if path.name.removeprefix(PREFIX).isdigit()]
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def newest(root: Path, form: Any = dict) -> tuple[Any, dict[str, Any], list[str]]:
    """The newest checkpoint that can be believed, its manifest, and the reasons against newer ones.

    The newer ones are moved aside, to damaged-<name>. form: what state and manifest must be, RUN for a run.
    Raises CheckpointError, with every reason, when none can be believed.
    """
    for aside in root.glob(f".{PREFIX}*.replaced"):
        atomic.recover(root / aside.name[1:].removesuffix(".replaced"))
    state, manifest, reasons = newest_intact(root, form)
    for damaged, reason in reasons.items():
        aside = damaged.with_name(f"damaged-{damaged.name}")
        files.remove(aside)
        damaged.rename(aside)
        atomic.write_text(aside / "reason.txt", reason + "\n")
    return state, manifest, list(reasons.values())


def newest_intact(root: Path, form: Any = dict, with_logs: bool = True) -> tuple[Any, dict[str, Any], dict[Path, str]]:
    """As `newest`, with the reasons by folder; nothing is moved, since the run may be another's, in training.

    with_logs=False leaves the logs unchecked, for whoever does not read them.
    """
    reasons: dict[Path, str] = {}
    for folder in reversed(committed(root)):
        try:
            state, manifest = read(folder)
            if manifest.get("step") != int(folder.name.removeprefix(PREFIX)):
                raise CheckpointError(f"{folder}: it is of step {manifest.get('step')}")
            if wrong := misfit({"state": state, "manifest": manifest}, form):
                raise CheckpointError(f"{folder}: {wrong}")
            for log in logs(state) if with_logs else ():
                log.check()
            return state, manifest, reasons
        except CheckpointError as error:
            reasons[folder] = str(error)
    raise CheckpointError("; ".join(reasons.values()) if reasons else f"{root}: no checkpoint there")
