"""Draw docs/imports.md, the imports between the rooms of dsac/, from the code: python docs/imports.py"""

from __future__ import annotations

import tomllib
from pathlib import Path

import grimp
import networkx

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "imports.md"
TEXT = """\
# Who imports whom

An arrow is an import, and all arrows point down. One that other arrows already imply is left out: `tune` imports
`sweep`, which imports `train`, so there is no arrow from `tune` to `train`. The rules are in
[pyproject.toml](../pyproject.toml), under `[tool.importlinter]`; a test checks them. `python docs/imports.py` writes
this page from the code.

```mermaid
flowchart TD
{arrows}
```
"""


def rooms() -> list[str]:
    """Folders and modules of dsac/ by the layers in pyproject.toml, from top to bottom, then envs."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract.get("containers") == ["dsac"])
    return [*(f"dsac.{room}" for layer in layers for room in layer.split(" | ")), "envs"]


def arrows() -> list[tuple[str, str]]:
    """(importer, imported) between rooms, without those that others imply. Raises NetworkXError for a circle."""
    graph = grimp.build_graph("dsac", "envs", cache_dir=None)
    for room in rooms():
        graph.squash_module(room)
    direct = networkx.DiGraph(
        (room, other) for room in rooms() for other in sorted(graph.find_modules_directly_imported_by(room) - {room})
    )
    reduced = networkx.transitive_reduction(direct).edges
    return sorted(reduced, key=lambda arrow: [*map(rooms().index, arrow)])


def page() -> str:
    """The text of docs/imports.md."""
    short = [tuple(room.removeprefix("dsac.") for room in arrow) for arrow in arrows()]
    return TEXT.format(arrows="\n".join(f"    {importer} --> {imported}" for importer, imported in short))


if __name__ == "__main__":
    PAGE.write_text(page())
