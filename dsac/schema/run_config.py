"""The settings of a run as frozen values: what conf/train.yaml and conf/env hold. dsac.config makes and checks them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dsac.schema.ranges import (
    DECLARED,
    FIXED,
    FREE,
    LEARNING,
    MACHINE,
    MEASURE,
    RECORD,
    SAMPLE,
    TASK,
    at_least,
    choice,
    positive,
    setting,
)


@dataclass(frozen=True)
class EnvConfig:
    """conf/env/<task>.yaml says what each field does."""

    name: str = setting(kind=TASK)
    id: str | None = setting(None, kind=TASK)
    backend: str = choice("engine", "engine", "gymnasium", kind=TASK)
    xml: str | None = setting(None, kind=TASK)
    task: str | None = setting(None, kind=TASK)
    randomise: bool = setting(False, kind=TASK, searched=True)
    flatten: bool = setting(False, kind=TASK)
    max_episode_steps: int | None = at_least(None, 1, kind=TASK)


@dataclass(frozen=True)
class EvalConfig:
    """The eval section of conf/train.yaml."""

    episodes: int = at_least(10, 1, kind=MEASURE)
    video: bool = setting(False, kind=RECORD)


@dataclass(frozen=True)
class ExportConfig:
    """The export section of conf/train.yaml. safe_action: zero, last or a list, as dsac.export takes it."""

    on_new_best: bool = setting(False, kind=RECORD)
    safe_action: Any = dataclasses.field(default=None, metadata={"kind": RECORD})


@dataclass(frozen=True)
class RayConfig:
    """The ray section of conf/train.yaml."""

    address: str = setting("local", kind=MACHINE)
    cpus: int = at_least(1, 1, kind=MACHINE)
    block_steps: int = at_least(50, 1, kind=LEARNING, searched=False)
    max_lag: int = at_least(50, 1, kind=LEARNING, searched=False)
    silent_seconds: float = positive(120.0, kind=MACHINE)


@dataclass(frozen=True)
class TrainConfig:
    """conf/train.yaml says what each field does. `algo` is the algorithm's own Config."""

    env: EnvConfig
    algo: Any
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    experiment: str | None = setting("recipe", kind=RECORD)
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)
    seed: int = at_least(0, 0, kind=SAMPLE)
    learners: int = at_least(1, 1, kind=SAMPLE)
    total_env_steps: int = at_least(1_000_000, 1, kind=MEASURE, change=FREE)
    device: str = choice("auto", "auto", "cpu", "cuda", kind=MACHINE)
    threads: int | None = at_least(None, 1, kind=MACHINE)
    accelerate: str = choice("auto", "auto", "eager", "compile", "graph", kind=MACHINE)
    precision: str = choice("float32", "float32", "tf32", "bfloat16", kind=LEARNING)
    overlap: bool = setting(False, kind=LEARNING)
    collect: str = choice("local", "local", "ray", kind=LEARNING, change=FIXED)
    collectors: int = at_least(1, 1, kind=LEARNING)
    ray: RayConfig = dataclasses.field(default_factory=RayConfig)
    log_every_env_steps: int = at_least(2_000, 1, kind=RECORD)
    eval_every_env_steps: int = at_least(50_000, 1, kind=MEASURE, change=FREE)
    checkpoint_every_env_steps: int = at_least(500_000, 1, kind=RECORD)
    keep_checkpoints: int = at_least(2, 1, kind=RECORD)
    stall_seconds: int = at_least(600, 1, kind=MACHINE)
    resumes_without_progress: int = at_least(3, 1, kind=MACHINE)
    init_from: str | None = setting(None, kind=LEARNING, change=FIXED, searched=False)
    runs: str = setting("runs", kind=RECORD, change=FIXED)

    @property
    def seeds(self) -> list[int]:
        """One run seed a learner."""
        return [self.seed + learner for learner in range(self.learners)]


@dataclass(frozen=True)
class Rule:
    """What a setting decides, whether it may change on resume, and whether a tuning may search it."""

    kind: str
    change: str
    searched: bool


CHANGE = {TASK: FIXED, LEARNING: DECLARED, SAMPLE: FIXED, MEASURE: DECLARED, MACHINE: FREE, RECORD: FREE}
SECTIONS: dict[str, type[Any]] = {"env": EnvConfig, "eval": EvalConfig, "export": ExportConfig, "ray": RayConfig}


def rule_of(metadata: Mapping[str, Any]) -> Rule:
    """The rule of a field that names its kind."""
    kind = metadata["kind"]
    return Rule(kind, metadata.get("change", CHANGE[kind]), metadata.get("searched", kind == LEARNING))


def algorithm_rules(schema: type[Any]) -> dict[str, Rule]:
    """The rules of an algorithm's settings, by dotted key: all decide how it learns, some are fixed.

    A field that is declared again, with another default, keeps what is said of it in the class above.
    """
    found: dict[str, dict[str, Any]] = {}
    for base in reversed(schema.__mro__):
        for field in dataclasses.fields(base) if dataclasses.is_dataclass(base) else ():
            found.setdefault(field.name, {}).update(field.metadata)
    return {f"algo.{name}": rule_of(metadata | {"kind": LEARNING}) for name, metadata in found.items()}


# The rule of every setting but the algorithm's, by dotted key.
RULES: dict[str, Rule] = {
    f"{prefix}{field.name}": rule_of(field.metadata)
    for prefix, schema in [("", TrainConfig), *((f"{name}.", schema) for name, schema in SECTIONS.items())]
    for field in dataclasses.fields(schema)
    if prefix or field.name not in (*SECTIONS, "algo")
}


def of_kind(*kinds: str) -> tuple[str, ...]:
    """The settings of some kinds, but for the algorithm's, which are all of LEARNING."""
    return tuple(key for key, rule in RULES.items() if rule.kind in kinds)


def that_change(change: str) -> frozenset[str]:
    """The settings that are free, declared or fixed, but for the algorithm's."""
    return frozenset(key for key, rule in RULES.items() if rule.change == change)
