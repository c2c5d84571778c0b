"""On-policy memory: the newest block, shuffled into minibatches for a number of epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from dsac.memory.contract import Memory
from dsac.seeding import derived_seed


class Rollout(Memory):
    """One block of experience, any NamedTuple of tensors (T, S, N, ...).

    minibatch_size: rows of one learner in a minibatch.
    seeds: one run seed a learner; learner k is shuffled as a Rollout with that seed alone would shuffle it.
    """

    def __init__(self, epochs: int, minibatch_size: int, seeds: Sequence[int]) -> None:
        if min(epochs, minibatch_size, len(seeds)) < 1:
            raise ValueError("epochs, minibatch_size and the number of seeds must be at least 1")
        self._epochs, self._minibatch_size = epochs, minibatch_size
        self._generators = [torch.Generator().manual_seed(derived_seed(seed, "replay")) for seed in seeds]
        self._block: Any = None

    def add(self, block: Any, counts: bool = True) -> None:
        """Keep this block, not a copy, in place of the one before; counts=False makes no update due for it.

        Raises ValueError if the fields disagree on (T, S, N), S is not the number of seeds, or T * N rows do not
        divide into minibatches.
        """
        steps, learners, worlds = block[0].shape[:3]
        for name, field in zip(block._fields, block, strict=True):
            if field.shape[:3] != (steps, learners, worlds):
                raise ValueError(f"{name} starts with {tuple(field.shape[:3])}, not {(steps, learners, worlds)}")
        if learners != len(self._generators):
            raise ValueError(f"the block has {learners} learners, the rollout has {len(self._generators)} seeds")
        if steps * worlds % self._minibatch_size:
            raise ValueError(
                f"{steps} steps of {worlds} envs are {steps * worlds} rows: "
                f"not a multiple of minibatch_size {self._minibatch_size}"
            )
        self._block = block if counts else None

    def batches(self) -> Iterator[Any]:
        """Draw each epoch's minibatches once: NamedTuples of the block's type, fields (S, B, ...)."""
        block, self._block = self._block, None
        if block is None:
            return
        fields = [field.transpose(0, 1).flatten(1, 2) for field in block]
        learners, rows = fields[0].shape[:2]
        # All orders come first, so that a loop that stops early leaves the generators where a full one does.
        orders = [
            torch.stack([torch.randperm(rows, generator=generator) for generator in self._generators])
            for _ in range(self._epochs)
        ]
        learner = torch.arange(learners, device=fields[0].device)[:, None]
        for order in orders:
            for chosen in torch.split(order.to(fields[0].device), self._minibatch_size, dim=1):
                yield type(block)(*(field[learner, chosen] for field in fields))

    def state_dict(self) -> dict[str, Any]:
        """The generators, (S, bytes) uint8; between two blocks there is nothing else to keep."""
        return {"generators": torch.stack([generator.get_state() for generator in self._generators]).numpy()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the shuffles bit for bit; raises ValueError if the state has another number of learners."""
        states = torch.as_tensor(state["generators"])
        if len(states) != len(self._generators):
            raise ValueError(f"the state has {len(states)} learners, the rollout has {len(self._generators)} seeds")
        for generator, saved in zip(self._generators, states, strict=True):
            # set_state reads beyond the memory of a row that is a view (torch 2.13), hence the clone.
            generator.set_state(saved.clone())
