"""eval.calibration=true: what the critics predict against the returns that follow, at each evaluation of a run."""

from __future__ import annotations

from collections.abc import Callable

from dsac.algorithms.base import Algorithm
from dsac.collection.worlds import settable_worlds
from dsac.errors import ConfigError
from dsac.evaluation.calibration import TAGS, Figures, figures
from dsac.evaluation.monte_carlo import horizon_of, measure, one_learner
from dsac.schema.run_config import TrainConfig
from dsac.seeding import derived_seed

REMEDY = "set eval.calibration=false"


class Calibration:
    """Measures the critics of one learner in envs of its own, see dsac.evaluation.monte_carlo.

    Envs and noise follow from the run's seed and its env steps, and the learner is measured as a copy, so the training
    is the same with it and without.
    Raises ConfigError for a task, a discount or an algorithm that cannot be measured.
    """

    def __init__(self, config: TrainConfig, algorithm: Algorithm) -> None:
        self.states, self.samples = config.eval.calibration_states, config.eval.calibration_returns
        try:
            self.make = settable_worlds(config.env, config.threads)
            self.horizon = horizon_of(config.algo.gamma)
        except ConfigError as error:
            raise ConfigError(*(f"eval.calibration=true: {line}; {REMEDY}" for line in error.problems)) from error
        if algorithm.critic_network() is None:
            raise ConfigError(f"eval.calibration=true: algo={config.algo.name} has no critics; {REMEDY}")

    def __call__(
        self, algorithm: Algorithm, n_step: int, learner: int, env_steps: int, should_stop: Callable[[int], bool]
    ) -> dict[str, float]:
        """Values by tag. n_step, should_stop: see `measure`.

        Raises dsac.evaluation.scoring.Stopped where `should_stop`, asked at each step, says yes.
        """
        state = {name: value.cpu() for name, value in algorithm.state_dict().items()}
        alone = one_learner(type(algorithm), algorithm.spec, algorithm.config, algorithm.seeds, learner, state)
        seed = derived_seed(algorithm.seeds[learner], "evaluation", env_steps)
        sizes = (self.states, self.samples, self.horizon)
        return by_tag(figures(measure(alone, n_step, self.make, *sizes, seed, should_stop)))


def by_tag(found: Figures) -> dict[str, float]:
    """The figures that there are, by their tag in TensorBoard and metrics.csv."""
    values = {tag: getattr(found, name) for name, tag in TAGS.items()}
    return {tag: value for tag, value in values.items() if value is not None}
