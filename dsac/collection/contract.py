"""What the trainer and its callbacks need of a collector, in this process or elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from dsac.data import Episode, Transition
from envs.contract import EnvSpec

Act = Callable[[Tensor, Tensor], Tensor]


def saved_episodes(finished: Sequence[Sequence[Episode]]) -> list[list[list[Any]]]:
    """The finished episodes of each learner as plain values."""
    return [[list(episode) for episode in episodes] for episodes in finished]


def loaded_episodes(saved: Sequence[Sequence[Sequence[Any]]]) -> list[list[Episode]]:
    """The finished episodes of each learner from plain values."""
    return [
        [Episode(float(return_), int(length), tuple(map(float, terms))) for return_, length, terms in episodes]
        for episodes in saved
    ]


class Recording(NamedTuple):
    """What repeats the newest block of one learner's envs: an exact state of theirs, and every action since.

    state   None where the envs have no exact one
    action  (T, N, A) float32, those of the newest block at its end
    """

    state: dict[str, Any] | None
    action: NDArray[np.float32]


class AnyCollector(Protocol):
    """A collector as its users see it.

    envs           what is to be closed at the end, and tells whether a resume is exact
    invalid_steps  (S,) how many steps of each learner were no transition
    failure        what was wrong with the first of them, in words; empty before
    block          the newest block, or as much of it as was taken
    """

    spec: EnvSpec
    num_envs: int
    seeds: list[int]
    invalid_steps: NDArray[np.int64]
    failure: str
    block: Transition | None

    @property
    def envs(self) -> Sequence[Any]: ...
    def collect(self, act: Act, steps: int, meanwhile: Callable[[], None] | None = None) -> Transition: ...
    def recordings(self) -> list[Recording]: ...
    def take_finished(self, learner: int) -> list[Episode]: ...
    def take_facts(self) -> dict[str, float]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...
