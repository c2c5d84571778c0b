"""The parts of a run from its config: worlds in their collector, algorithm, updater, memory, trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dsac.schema.run_config import TrainConfig

if TYPE_CHECKING:
    from dsac.collection.remote import RemoteCollector
    from dsac.trainer import Trainer
    from envs.contract import VecEnv


def build(config: TrainConfig) -> Trainer:
    """The parts, callbacks left out: environments in their collector, algorithm, updater, memory, trainer."""
    import torch

    from dsac.algorithms import load as load_algorithm
    from dsac.collection.collector import Collector
    from dsac.runs import hardware
    from dsac.trainer import Trainer
    from dsac.updater import Updater

    hardware.set_up(config)
    device = torch.device(config.device)
    remote = remote_collector(config)
    collector = remote or Collector(own_worlds(config), config.seeds, device)
    algorithm = load_algorithm(config.algo.name)(collector.spec, config.algo, config.seeds).to(device)
    if remote:
        remote.set_algorithm(algorithm)
    memory = algorithm.memory(config.algo.num_envs, device)
    algorithm.set_precision(config.precision)
    updater = Updater(algorithm, config.accelerate)
    return Trainer(algorithm, updater, collector, memory, [], config.total_env_steps, config.overlap)


def remote_collector(config: TrainConfig) -> RemoteCollector | None:
    """The collectors in other processes, where the config asks for them. Raises ConfigError where Ray is missing."""
    if config.collect == "local":
        return None
    from dsac.collection.remote import RemoteCollector

    return RemoteCollector(config)


def own_worlds(config: TrainConfig) -> list[VecEnv]:
    """The training worlds of every learner, in this process."""
    from dsac.collection.worlds import make_worlds
    from dsac.seeding import derived_seed

    seeds = [derived_seed(seed, "environment") for seed in config.seeds]
    return [make_worlds(config.env, config.algo.num_envs, seed, "unit", config.threads) for seed in seeds]
