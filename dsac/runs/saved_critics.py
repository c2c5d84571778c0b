"""The critics of a saved run: they stand in its checkpoints, while learner-<i>/best and last hold the policy alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dsac.algorithms import load as load_algorithm
from dsac.algorithms.base import Algorithm
from dsac.collection.worlds import make_worlds
from dsac.errors import ConfigError
from dsac.evaluation.monte_carlo import one_learner
from dsac.persistence import checkpoint
from dsac.schema.run_config import TrainConfig


def newest_learner(run: Path, config: TrainConfig, learner: int) -> tuple[Algorithm, int, Mapping[str, Any]]:
    """One learner of the newest intact checkpoint as an algorithm of its own, its n_step, the checkpoint's manifest.

    Raises ConfigError where it has no critics or does not fit the config, CheckpointError where no checkpoint is whole.
    """
    state, manifest, _ = checkpoint.newest_intact(run / "checkpoints", checkpoint.RUN, with_logs=False)
    worlds = make_worlds(config.env, 1, 0, "unit", 1)
    worlds.close()
    arrays = {name: np.array(value) for name, value in state["trainer"]["algorithm"].items()}
    kind = load_algorithm(config.algo.name)
    algorithm = one_learner(kind, worlds.spec, config.algo, config.seeds, learner, arrays)
    n_step = config.algo.n_step if config.algo.off_policy else 1
    return algorithm, n_step or int(state["trainer"]["memory"]["n_step"][learner]), manifest


def critics_of(run: Path, config: TrainConfig, which: str, learner: int, env_steps: int) -> Algorithm:
    """The algorithm, of one learner, whose critics judge its `which` policy: that of so many env steps.

    Raises ConfigError where no checkpoint holds them, and what `newest_learner` raises.
    """
    algorithm, _, manifest = newest_learner(run, config, learner)
    if manifest["env_steps"] != env_steps:
        hint = "; which=last has the critics of its own step" if which == "best" else ""
        raise ConfigError(
            f"{run}: the critics of its {which} policy, of {env_steps:,} env steps, are not saved: the newest "
            f"checkpoint is of {manifest['env_steps']:,}{hint}"
        )
    return algorithm
