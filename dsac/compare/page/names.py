"""Groups by the names that a person gives them: "DSAC-T, batch 512" for `DSAC-T batch_size=512 precision=bfloat16`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dsac.compare.groups import Group
from dsac.compare.labels import NAMES, shown

# What tables have a column for: a name says it only where two groups of a task would share the name.
BUDGET, PRECISION, CADENCE = "total_env_steps", "precision", "eval_every_env_steps"
COLUMNS = ((), (BUDGET,), (PRECISION,), (BUDGET, PRECISION), (BUDGET, PRECISION, CADENCE))
ROUNDED_FROM = 10_000  # 12,000 is 12k
# Settings in words, {} for the value; a switch by what is there or not. What is in neither stays key=value.
PHRASES = {
    "simulator": "{}",
    "algo.actor_learning_rate": "actor learning rate {}",
    "algo.activation": "{} activation",
    "algo.batch_size": "batch {}",
    "algo.bound_in_sigmas": "bound of {} sigmas",
    "algo.clip_high": "clip above {}",
    "algo.clip_low": "clip below {}",
    "algo.constant_bound": "bound of {}",
    "algo.critic_learning_rate": "critic learning rate {}",
    "algo.critic_loss": "critic loss of {}",
    "algo.delay": "policy delay {}",
    "algo.entropy_coefficient": "entropy bonus {}",
    "algo.epochs": "{} epochs",
    "algo.epsilon": "epsilon {}",
    "algo.exploration_noise": "exploration noise {}",
    "algo.gae_lambda": "GAE lambda {}",
    "algo.gamma": "discount {}",
    "algo.gradient_clip": "gradients clipped at {}",
    "algo.hidden_sizes": "layers {}",
    "algo.horizon": "horizon {}",
    "algo.initial_log_std": "first log deviation {}",
    "algo.initial_temperature": "first temperature {}",
    "algo.learning_rate": "learning rate {}",
    "algo.learning_rate_schedule": "{} learning rate",
    "algo.minibatch_size": "minibatch {}",
    "algo.n_step": "{}-step returns",
    "algo.num_envs": "{} envs",
    "algo.replay_capacity": "replay of {}",
    "algo.reward_scale": "reward scale {}",
    "algo.target_entropy_scale": "target entropy x {}",
    "algo.tau": "tau {}",
    "algo.temperature_learning_rate": "temperature learning rate {}",
    "algo.updates_per_env_step": "{} updates per step",
    "algo.value_coefficient": "value loss x {}",
    "algo.warmup_actions": "warm-up with {} actions",
    "algo.warmup_env_steps": "warm-up of {} steps",
    "collectors": "{} collectors",
    "env.backend": "{} backend",
    "env.max_episode_steps": "episodes of {} steps",
    "eval.episodes": "{} episodes an evaluation",
    BUDGET: "{} steps",
    PRECISION: "{}",
    CADENCE: "evaluated every {}",
}
SWITCHES = {
    "algo.advantage_normalization": "advantage normalization",
    "algo.delay_targets": "delayed targets",
    "algo.epsilon_relative": "relative epsilon",
    "algo.expected_value_substitution": "expected value substitution",
    "algo.layer_norm": "layer norm",
    "algo.learn_temperature": "learned temperature",
    "algo.observation_normalization": "observation normalization",
    "algo.return_normalization": "return normalization",
    "algo.reward_normalization": "reward normalization",
    "algo.twin_value_distributions": "twin critics",
    "algo.variance_based_gradients": "variance-based gradients",
    "env.randomise": "randomised physics",
    "overlap": "overlapped collection",
}
ONE = {"envs": "env", "updates": "update", "epochs": "epoch", "collectors": "collector", "episodes": "episode"}
LOSSES = {"paper": "the paper", "release_2025": "the 2025 release"}
BOTH_RATES = ("algo.actor_learning_rate", "algo.critic_learning_rate")


class Name(NamedTuple):
    """What a group is called beside columns of precision and budget, and where there are none."""

    short: str
    full: str


def names(groups: Sequence[Group]) -> dict[str, Name]:
    """The names of groups by label. Full names differ within each task; one that cannot is the label."""
    alike: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        alike[short_name(group)].append(group)
    found = {}
    for short, members in alike.items():
        fulls = ([full_name(group, short, keys) for group in members] for keys in COLUMNS)
        apart = (full for full in fulls if differ(members, full))
        for group, full in zip(members, next(apart, [group.label for group in members]), strict=True):
            found[group.label] = Name(short, full)
    return found


def differ(groups: Sequence[Group], called: Sequence[str]) -> bool:
    """Whether groups of different labels are called differently, in each task."""
    labels: dict[tuple[str, str], set[str]] = defaultdict(set)
    for group, name in zip(groups, called, strict=True):
        labels[group.env, name].add(group.label)
    return all(len(same) == 1 for same in labels.values())


def short_name(group: Group) -> str:
    """The algorithm, its experiment, and the settings by which it differs but for those that have a column."""
    settings = {key: value for key, value in group.distinctions if key not in (BUDGET, PRECISION, CADENCE)}
    experiment = str(settings.pop("experiment", "") or "")
    first = " ".join(filter(None, [NAMES.get(group.algorithm, group.algorithm), experiment]))
    rates = [settings.get(key) for key in BOTH_RATES]
    if rates[0] is not None and rates[0] == rates[1]:
        rest = {key: value for key, value in settings.items() if key not in BOTH_RATES}
        settings = {"algo.learning_rate": rates[0], **rest}
    return ", ".join([first, *(phrase(key, value) for key, value in settings.items())])


def full_name(group: Group, short: str, keys: Sequence[str]) -> str:
    """A short name with the values of the columns `keys`."""
    values = {**group.settings, BUDGET: group.budget}
    return ", ".join([short, *(phrase(key, values.get(key)) for key in keys)])


def phrase(key: str, value: Any) -> str:
    """A setting as a person says it, `key=value` where nobody has said how: "batch 512", "no layer norm"."""
    if key in SWITCHES and isinstance(value, bool):
        return SWITCHES[key] if value else f"no {SWITCHES[key]}"
    if key not in PHRASES or value is None or isinstance(value, bool | Mapping):
        return shown(key, value)
    said = PHRASES[key].format(LOSSES.get(str(value), value) if key == "algo.critic_loss" else worded(value))
    if value == 1:
        said = " ".join(ONE.get(word, word) for word in said.split(" "))
    return said


def worded(value: Any) -> str:
    """A value in few letters: 600k, 1.5M, 2.718, 64 x 64."""
    if isinstance(value, list):
        return " x ".join(map(worded, value))
    if not isinstance(value, int | float):
        return value if isinstance(value, str) else json.dumps(value)
    if abs(value) >= 1_000_000:
        return f"{value / 1_000_000:.4g}M"
    return f"{value / 1000:.4g}k" if abs(value) >= ROUNDED_FROM else f"{value:,.4g}"
