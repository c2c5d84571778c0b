"""The settings of a run as frozen values, each with its default, its range and its help. dsac.config makes and checks
them; dsac.cli.write_conf writes conf/train.yaml from them.
"""

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
    rules_of,
    setting,
)


@dataclass(frozen=True)
class EnvConfig:
    """The env section of a config. The files of conf/env say what differs from it in a task."""

    name: str = setting(kind=TASK, help="the task, as envs.make knows it")
    id: str | None = setting(None, kind=TASK, help="a Gymnasium id, for env=gymnasium only")
    xml: str | None = setting(None, kind=TASK, help="the MJCF file of a robot of your own, for env=custom only")
    task: str | None = setting(
        None, kind=TASK, help="a module with a TASK of type envs.task.Task, for env=custom only; importable from here"
    )
    randomise: bool = setting(
        False,
        kind=TASK,
        searched=True,
        help="draw the model anew at each reset, as a task of your own says; scores keep the model as it is",
    )
    flatten: bool = setting(
        False, kind=TASK, help="true lays Dicts, Tuples, tables and Discretes of an observation out as one vector"
    )
    kwargs: Mapping[str, Any] | None = setting(
        None, kind=TASK, help="arguments of a Gymnasium env's constructor, one by one: env.kwargs.mass=2"
    )
    wrappers: tuple[str, ...] | None = setting(
        None, kind=TASK, help="what is put around a Gymnasium env, innermost first: [module:Class]"
    )
    backend: str = choice(
        "engine", "engine", "gymnasium", kind=TASK, help="what steps the envs: engine (compiled) or gymnasium"
    )
    max_episode_steps: int | None = at_least(
        None, 1, kind=TASK, help="the clock that ends an episode; null: the task's own"
    )


@dataclass(frozen=True)
class EvalConfig:
    """The eval section of a config."""

    episodes: int = at_least(10, 1, kind=MEASURE, help="episodes of one evaluation")
    video: bool = setting(
        False,
        kind=RECORD,
        help='film each new best policy into TensorBoard (needs the extra "video", and EGL or OSMesa)',
    )
    calibration: bool = setting(
        False, kind=RECORD, help="measure at each evaluation how true the critics are (docs/risk.md); it takes a while"
    )
    calibration_states: int = at_least(16, 2, kind=RECORD, help="states at which it is measured")
    calibration_returns: int = at_least(64, 2, kind=RECORD, help="returns played from each of them")


@dataclass(frozen=True)
class ExportConfig:
    """The export section of a config. safe_action: zero, last or a list, as dsac.export takes it."""

    on_new_best: bool = setting(
        False, kind=RECORD, help='write each new best policy as ONNX with its contract (needs the extra "export")'
    )
    safe_action: Any = dataclasses.field(
        default=None,
        metadata={
            "kind": RECORD,
            "help": "what such an export does when it cannot trust an observation: zero, last or a list",
        },
    )


@dataclass(frozen=True)
class RayConfig:
    """The ray section of a config."""

    address: str = setting(
        "local", kind=MACHINE, help="local starts a Ray of this run's own; auto or host:port joins a cluster"
    )
    cpus: int = at_least(1, 1, kind=MACHINE, help="cores of each collector")
    block_steps: int = at_least(50, 1, kind=LEARNING, searched=False, help="off-policy: steps of each env in a block")
    max_lag: int = at_least(
        50,
        1,
        kind=LEARNING,
        searched=False,
        help="off-policy: a block is dropped when its policy is older than so many blocks",
    )
    silent_seconds: float = positive(
        120.0, kind=MACHINE, help="a collector that does not answer for so long is replaced"
    )


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a run. `algo` is the algorithm's own Config."""

    env: EnvConfig
    algo: Any
    experiment: str | None = setting(
        "recipe",
        kind=RECORD,
        help="settings over those of algo: a name in conf/experiment, a file like a run's config.yaml, or null",
    )
    seed: int = at_least(0, 0, kind=SAMPLE, help="learner k of a run uses seed + k")
    learners: int = at_least(
        1, 1, kind=SAMPLE, help="seeds trained side by side in one process, as one batched network"
    )
    total_env_steps: int = at_least(
        1_000_000, 1, kind=MEASURE, change=FREE, help="budget in env steps of one learner, warm-up not counted"
    )
    device: str = choice(
        "auto", "auto", "cpu", "cuda", kind=MACHINE, help="auto, cpu or cuda; auto takes cuda where there is one"
    )
    threads: int | None = at_least(
        None,
        1,
        kind=MACHINE,
        help="threads of torch and of the engine; null: all cores (torch takes one for small layers)",
    )
    accelerate: str = choice(
        "auto",
        "auto",
        "eager",
        "compile",
        "graph",
        kind=MACHINE,
        help="eager, compile, graph (CUDA); auto: compiled where the run is long enough to win that time back",
    )
    precision: str = choice(
        "float32",
        "float32",
        "tf32",
        "bfloat16",
        kind=LEARNING,
        help="of the hidden layers' products: float32, bfloat16, tf32 (CUDA)",
    )
    overlap: bool = setting(
        False, kind=LEARNING, help="CUDA: envs step while the device learns; a policy then acts one block later"
    )
    collect: str = choice(
        "local",
        "local",
        "ray",
        kind=LEARNING,
        change=FIXED,
        help='who steps the envs: local, or ray: remote collectors (docs/scale.md; needs the extra "ray")',
    )
    collectors: int = at_least(
        1,
        1,
        kind=LEARNING,
        help="how many of them; off-policy each steps num_envs envs, on-policy they share num_envs",
    )
    ray: RayConfig = dataclasses.field(default_factory=RayConfig)
    log_every_env_steps: int = at_least(2_000, 1, kind=RECORD, help="a row of curves")
    eval_every_env_steps: int = at_least(
        50_000,
        1,
        kind=MEASURE,
        change=FREE,
        help="a deterministic evaluation on separate envs, and one at the end",
    )
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)
    checkpoint_every_env_steps: int = at_least(
        500_000, 1, kind=RECORD, help="a checkpoint, and one at the end or when stopped"
    )
    keep_checkpoints: int = at_least(2, 1, kind=RECORD, help="how many of the newest stay")
    resumes_without_progress: int = at_least(
        3,
        1,
        kind=MACHINE,
        help="so many resumes at the same step, none of them ending well, and the next is refused",
    )
    stall_seconds: int = at_least(
        600, 1, kind=MACHINE, help="every thread's stack goes to <run>/stacks.log when nothing moved for so long"
    )
    init_from: str | None = setting(
        None,
        kind=LEARNING,
        change=FIXED,
        searched=False,
        help="a run whose weights and normaliser a new run of the same algorithm starts from",
    )
    runs: str = setting(
        "runs", kind=RECORD, change=FIXED, help="where run folders go: <runs>/<env>/<algo>/<time>-seed<seed>"
    )

    @property
    def seeds(self) -> list[int]:
        """One run seed a learner."""
        return [self.seed + learner for learner in range(self.learners)]


@dataclass(frozen=True)
class CommandConfig:
    """What a command line may say beside the settings of a run; no run keeps it."""

    num_envs: int | None = setting(None, help="envs of each learner; null: the algorithm's own (algo.num_envs)")
    updates_per_env_step: float | None = setting(
        None, help="gradient steps per env step; null: the algorithm's own (algo.updates_per_env_step)"
    )
    resume: str | None = setting(
        None, help="a run folder to continue; auto: the newest run with these settings, else a new one"
    )
    allow_change: bool = setting(
        False, help="with resume: true lets settings change that alter what is learned or measured"
    )


@dataclass(frozen=True)
class Rule:
    """What a setting decides, whether it may change on resume, and whether a tuning may search it."""

    kind: str
    change: str
    searched: bool


CHANGE = {TASK: FIXED, LEARNING: DECLARED, SAMPLE: FIXED, MEASURE: DECLARED, MACHINE: FREE, RECORD: FREE}
ARGUMENTS = "env.kwargs."  # with the name of an argument behind it, a key that no list of keys knows
SECTIONS: dict[str, type[Any]] = {"env": EnvConfig, "eval": EvalConfig, "export": ExportConfig, "ray": RayConfig}


def rule_of(metadata: Mapping[str, Any]) -> Rule:
    """The rule of a field that names its kind."""
    kind = metadata["kind"]
    return Rule(kind, metadata.get("change", CHANGE[kind]), metadata.get("searched", kind == LEARNING))


def algorithm_rules(schema: type[Any]) -> dict[str, Rule]:
    """The rules of an algorithm's settings, by dotted key: all decide how it learns, some are fixed."""
    return {f"algo.{name}": rule_of({**rule, "kind": LEARNING}) for name, rule in rules_of(schema).items()}


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


NOT_OF_A_RUN = frozenset(of_kind(MACHINE, RECORD))  # what two runs may differ in and yet be the same


def that_change(change: str) -> frozenset[str]:
    """The settings that are free, declared or fixed, but for the algorithm's."""
    return frozenset(key for key, rule in RULES.items() if rule.change == change)
