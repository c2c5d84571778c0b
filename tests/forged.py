"""Files of a run as someone else may have made them: other content, under hashes that were computed anew."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from dsac.persistence import atomic, checkpoint


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the manifest of a committed folder, and its own hash with it."""
    path = folder / atomic.MANIFEST
    manifest = json.loads(path.read_text())
    manifest.pop("sha256", None)
    change(manifest)
    path.write_bytes(atomic.rendered(manifest))


def forge_state(folder: Path, change: Callable[[Any], Any]) -> None:
    """Write a committed folder anew with what `change` makes of its state."""
    state, manifest = checkpoint.read(folder)
    facts = {key: value for key, value in manifest.items() if key not in ("schema", "files", "sha256", "segments")}
    checkpoint.write(folder, change(state), facts)


def edit_config(run: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change config.yaml."""
    tree = yaml.safe_load((run / "config.yaml").read_text())
    change(tree)
    (run / "config.yaml").write_text(yaml.safe_dump(tree))
