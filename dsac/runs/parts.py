"""The parts of a run, built from its config: environments in their collector, algorithm, updater, memory, trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from dsac.algorithms import load as load_algorithm
from dsac.collection.collector import Collector
from dsac.collection.worlds import make_worlds
from dsac.evaluation import scoring
from dsac.nn.precision import set_precision
from dsac.runs import hardware
from dsac.schema.run_config import TrainConfig
from dsac.seeding import derived_seed
from dsac.trainer import Trainer
from dsac.updater import Updater
from envs.contract import VecEnv

if TYPE_CHECKING:
    from dsac.collection.remote import RemoteCollector


def build(config: TrainConfig) -> Trainer:
    """A trainer without callbacks. Raises ConfigError where Ray is asked for and missing."""
    hardware.set_up(config)
    device = torch.device(config.device)
    remote = remote_collector(config)
    collector = remote or Collector(training_envs(config), config.seeds, device)
    algorithm = load_algorithm(config.algo.name)(collector.spec, config.algo, config.seeds).to(device)
    if remote:
        remote.set_algorithm(algorithm)
    memory = algorithm.memory(config.algo.num_envs, device)
    set_precision(algorithm, config.precision)
    updater = Updater(algorithm, config.accelerate)
    return Trainer(algorithm, updater, collector, memory, [], config.total_env_steps, config.overlap)


def remote_collector(config: TrainConfig) -> RemoteCollector | None:
    """The collectors in other processes, where the config asks for them. Raises ConfigError where Ray is missing."""
    if config.collect == "local":
        return None
    from dsac.collection.remote import RemoteCollector  # few runs need it

    return RemoteCollector(config)


def training_envs(config: TrainConfig) -> list[VecEnv]:
    """The environments in which each learner is trained, in this process."""
    seeds = [derived_seed(seed, "environment") for seed in config.seeds]
    return [make_worlds(config.env, config.algo.num_envs, seed, "unit", config.threads) for seed in seeds]


def scoring_envs(config: TrainConfig) -> VecEnv:
    """The environments in which policies are scored while they are trained."""
    count, seed = scoring.worlds(config.eval.episodes), derived_seed(config.seed, "evaluation")
    return make_worlds(config.env, count, seed, "env", config.threads)
