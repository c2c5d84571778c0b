"""The random generators of Gymnasium envs as plain data: NumPy's new ones, its old ones, or none that can be saved."""

from __future__ import annotations

from typing import Any

import numpy as np


def saved_generator(world: Any) -> dict[str, Any] | None:
    """The state of an env's generator, its integers as decimal strings; None where it has none of NumPy's."""
    generator = getattr(world, "np_random", None)
    if isinstance(generator, np.random.Generator):
        return _with_text(dict(generator.bit_generator.state))
    if isinstance(generator, np.random.RandomState):
        return _with_text(dict(generator.get_state(legacy=False)))
    return None


def restore_generator(world: Any, state: Any) -> bool:
    """Put a saved state back; False where there is none, or none of this kind of generator."""
    generator = getattr(world, "np_random", None)
    if state is None or not isinstance(generator, np.random.Generator | np.random.RandomState):
        return False
    state = _with_numbers(state)
    if isinstance(generator, np.random.Generator):
        generator.bit_generator.state = state
    else:
        state["state"]["key"] = np.asarray(state["state"]["key"], np.uint32)
        generator.set_state(state)
    return True


def _with_text(tree: Any) -> Any:
    """The tree with its Python integers as decimal strings: those of PCG64 have 128 bits."""
    if isinstance(tree, dict):
        return {key: _with_text(value) for key, value in tree.items()}
    return str(tree) if isinstance(tree, int) else tree


def _with_numbers(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _with_numbers(value) for key, value in tree.items()}
    return int(tree) if isinstance(tree, str) and tree.isdecimal() else tree
