"""Distributional actor-critic control: DSAC-T beside tuned SAC, TD3, DDPG and PPO baselines.

From Python: `train`, `evaluate`, `compare`, `export`, `load_policy`. Each is imported at its first use, so
that `import dsac` is light.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsac.compare import compare
    from dsac.evaluate import evaluate
    from dsac.export import export
    from dsac.persistence.policies import load_policy
    from dsac.train import train

# OpenMP's idle threads spin for milliseconds by default and keep the worlds from stepping in the meantime. Read when
# torch is first imported, hence here.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

__all__ = ["compare", "evaluate", "export", "load_policy", "train"]


def __getattr__(name: str) -> Any:
    if name == "load_policy":
        return import_module("dsac.persistence.policies").load_policy
    if name in __all__:
        return import_module(f"dsac.{name}")
    raise AttributeError(f"module 'dsac' has no attribute {name!r}")
