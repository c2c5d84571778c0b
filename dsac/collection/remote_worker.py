"""What a remote collector runs in its own process: a Collector, with a copy of the policy that acts in it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dsac.algorithms import load as load_algorithm
from dsac.algorithms.base import Algorithm
from dsac.collection.collector import Collector
from dsac.collection.contract import Recording
from dsac.collection.worlds import make_worlds
from dsac.config import load
from dsac.data import Episode, Transition
from dsac.nn.optimizer import Adam
from dsac.nn.precision import set_precision
from dsac.seeding import derived_seed


class Report(NamedTuple):
    """What comes back beside a block: the version of the policy that acted in all of it, and what else happened.

    episodes       of each learner, those that ended
    invalid_steps  (S,) int64, rows that are no transition
    failure        what was wrong with the first one of this collector, in words; empty before
    recordings     of each learner what repeats the block, where there are such rows; empty otherwise
    """

    version: int
    episodes: list[list[Episode]]
    invalid_steps: np.ndarray
    failure: str
    recordings: list[Recording]


def acting_state(algorithm: Algorithm) -> dict[str, Tensor]:
    """The tensors that `act` reads, by name: those whose names begin with `acts_with`, but no optimizer's."""
    optimizers = tuple(f"{name}." for name, module in algorithm.named_modules() if isinstance(module, Adam))
    return {
        name: tensor
        for name, tensor in algorithm.state_dict().items()
        if name.startswith(algorithm.acts_with) and not (optimizers and name.startswith(optimizers))
    }


class CollectorHost:
    """Collector `index` of `collectors`, with `worlds` worlds of each learner, all from plain data.

    Its worlds and its noise follow from run seed, index and generation: a new generation begins new episodes, which no
    other collector of the run has played.
    folder  where relative paths of the config begin, on every node
    """

    def __init__(self, tree: Mapping[str, Any], folder: str, index: int, collectors: int, worlds: int) -> None:
        os.chdir(folder)
        self.config = load(tree)
        self.index, self.collectors, self.worlds = index, collectors, worlds
        torch.set_num_threads(self.config.ray.cpus)
        self.generation = self.version = -1
        self.collector: Collector | None = None

    def collect(
        self, act: str, steps: int, generation: int, version: int, weights: Mapping[str, np.ndarray]
    ) -> tuple[Transition, Report]:
        """Take `steps` steps in every world: the block (T, S, N, ...) and its report.

        act      the method of the algorithm that chooses actions
        weights  the tensors that it reads, by name; taken over where their version is another than that held
        """
        if generation != self.generation or self.collector is None:
            self.begin(generation)
        assert self.collector is not None
        if version != self.version:
            self.algorithm.load_state_dict({name: torch.tensor(array) for name, array in weights.items()}, strict=False)
            self.version = version
        invalid = self.collector.invalid_steps.copy()
        block = self.collector.collect(getattr(self.algorithm, act), steps)
        episodes = [self.collector.take_finished(learner) for learner in range(self.config.learners)]
        failed = self.collector.invalid_steps - invalid
        recordings = self.collector.recordings() if failed.any() else []
        return block, Report(version, episodes, failed, self.collector.failure, recordings)

    def begin(self, generation: int) -> None:
        """Make worlds and noise anew, and the algorithm without weights."""
        c = self.config
        seeds = [derived_seed(seed, "collector", generation * self.collectors + self.index) for seed in c.seeds]
        envs = [make_worlds(c.env, self.worlds, seed, "unit", c.ray.cpus) for seed in seeds]
        self.collector = Collector(envs, seeds, torch.device("cpu"))
        self.algorithm = load_algorithm(c.algo.name)(self.collector.spec, c.algo, c.seeds)
        set_precision(self.algorithm, c.precision)
        self.generation, self.version = generation, -1
