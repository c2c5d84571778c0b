"""What the trainer needs of a memory."""

from __future__ import annotations

from typing import Any, Protocol

from dsac.memory.frame_log import Frames


class Memory(Protocol):
    """What takes blocks in and gives batches out; it knows no algorithm. One of your own derives from this class."""

    @property
    def frames(self) -> Frames | None:
        """What a replay remembers, saved a part at a time; None where `state_dict` holds all there is."""
        return None

    def describe(self) -> str:
        """What it is, for the line that a run begins with."""
        return type(self).__name__.lower()

    def n_step(self, learner: int) -> int:
        """Rewards that a target of this learner adds up before it bootstraps."""
        return 1

    def add(self, block: Any, counts: bool = True) -> None: ...
    def batches(self) -> Any: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
