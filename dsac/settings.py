"""The settings of a run as frozen values: what conf/train.yaml and conf/env hold. dsac.config makes and checks them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from dsac.fields import at_least, choice, positive


@dataclass(frozen=True)
class EnvConfig:
    """conf/env/<task>.yaml says what each field does."""

    name: str
    id: str | None = None
    backend: str = choice("engine", "engine", "gymnasium")
    xml: str | None = None
    task: str | None = None
    randomise: bool = False
    flatten: bool = False
    max_episode_steps: int | None = at_least(None, 1)


@dataclass(frozen=True)
class EvalConfig:
    """The eval section of conf/train.yaml."""

    episodes: int = at_least(10, 1)
    video: bool = False


@dataclass(frozen=True)
class ExportConfig:
    """The export section of conf/train.yaml. safe_action: zero, last or a list, as dsac.export takes it."""

    at_best: bool = False
    safe_action: Any = None


@dataclass(frozen=True)
class RayConfig:
    """The ray section of conf/train.yaml."""

    address: str = "local"
    cpus: int = at_least(1, 1)
    block_steps: int = at_least(50, 1)
    max_lag: int = at_least(50, 1)
    silent_seconds: float = positive(120.0)


@dataclass(frozen=True)
class TrainConfig:
    """conf/train.yaml says what each field does. `algo` is the algorithm's own Config."""

    env: EnvConfig
    algo: Any
    eval: EvalConfig = dataclasses.field(default_factory=EvalConfig)
    experiment: str | None = "recipe"
    export: ExportConfig = dataclasses.field(default_factory=ExportConfig)
    seed: int = at_least(0, 0)
    learners: int = at_least(1, 1)
    total_env_steps: int = at_least(1_000_000, 1)
    device: str = choice("auto", "auto", "cpu", "cuda")
    threads: int | None = at_least(None, 1)
    accelerate: str = choice("auto", "auto", "eager", "compile", "graph")
    precision: str = choice("float32", "float32", "tf32", "bfloat16")
    overlap: bool = False
    collect: str = choice("local", "local", "ray")
    collectors: int = at_least(1, 1)
    ray: RayConfig = dataclasses.field(default_factory=RayConfig)
    log_every_env_steps: int = at_least(2_000, 1)
    eval_every_env_steps: int = at_least(50_000, 1)
    checkpoint_every_env_steps: int = at_least(500_000, 1)
    keep_checkpoints: int = at_least(2, 1)
    stall_seconds: int = at_least(600, 1)
    resumes_without_progress: int = at_least(3, 1)
    init_from: str | None = None
    runs: str = "runs"

    @property
    def seeds(self) -> list[int]:
        """One run seed a learner."""
        return [self.seed + learner for learner in range(self.learners)]
