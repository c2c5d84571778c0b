"""The contract: what a controller must know to run a policy, as plain values in full precision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from dsac.errors import ConfigError, ExportRefused
from dsac.export.layers import Layers, weights_sha256
from dsac.export.units import action_semantics, obs_units
from dsac.runs.record import installed
from dsac.schema.safe_action import SafeAction
from envs.contract import LARGEST, EnvSpec, UnsuitableEnvironment, VecEnv

SCHEMA = 1
LIBRARIES = ("dsac", "torch", "numpy", "mujoco", "onnx", "onnxruntime")


def obs_limit(value: float) -> float:
    """obs_abs_max as the float32 that runtimes compare with. Raises ConfigError."""
    if not 0 < value <= LARGEST:
        raise ConfigError(f"obs_abs_max={value:g} must be above 0 and at most {LARGEST:g}")
    return float(np.float32(value))


def check_task(trained: Mapping[str, Any] | None, layers: Layers, spec: EnvSpec) -> None:
    """Raise ExportRefused where the task as it is now is not the one that the policy was trained on.

    `trained` is what the run noted of its task; None in older runs, where only sizes and limits tell.
    """
    for what, names in (("observation", spec.obs_names), ("action", spec.action_names)):
        dim = layers.obs_dim if what == "observation" else layers.action_dim
        before = (trained or {}).get("obs_names" if what == "observation" else "action_names", names)
        if len(names) != dim:
            raise ExportRefused(f"the policy has {dim} entries of {what}, {spec.id} has {len(names)}")
        if len(before) != dim:
            raise ExportRefused(f"the run names {len(before)} entries of {what}, its policy has {dim}")
        for index, (then, now) in enumerate(zip(before, names, strict=True)):
            if then != now:
                raise ExportRefused(
                    f"{what} {index} was {then!r} when the policy was trained and is {now!r} in the task as it is now: "
                    "export with the model and the task file of the training"
                )
    columns = (spec.action_names, layers.low, layers.high, spec.action_low, spec.action_high)
    for name, *limits in zip(*columns, strict=True):
        if limits[:2] != limits[2:]:
            raise ExportRefused(
                f"the limits of {name} were {limits[0]:g} to {limits[1]:g} when the policy was trained, "
                f"{limits[2]:g} to {limits[3]:g} in the task as it is now"
            )
    period = (trained or {}).get("control_period_seconds", spec.dt)
    if not math.isclose(period, spec.dt):
        raise ExportRefused(f"the policy was trained with an action every {period:g} s, now it is every {spec.dt:g} s")


def contract(  # one line a field; docs/deploy.md explains each
    run: Path,
    tree: Mapping[str, Any],
    manifest: Mapping[str, Any],
    origin: Mapping[str, Any],
    layers: Layers,
    env: VecEnv,
    obs_abs_max: float,
    safe: SafeAction,
    score: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The facts. `tree` is the run's config, `manifest` that of the policy, `origin` which learner and which policy."""
    spec, model = env.spec, model_of(env)
    low, high = layers.low.astype(np.float64), layers.high.astype(np.float64)
    task, _, version = spec.id.rpartition("-v")
    seed = tree.get("seed", 0)
    if not isinstance(seed, int):
        raise ConfigError(f"seed={seed!r} in the config of the run must be a whole number")
    return {
        "schema": SCHEMA,
        "algorithm": tree["algo"]["name"],
        "env": spec.id,
        "task_version": f"v{version}" if task else None,
        "run": "/".join(run.resolve().parts[-3:]),
        "seed": seed + origin["learner"],
        **origin,
        "env_steps": manifest["env_steps"],
        "updates": manifest.get("updates"),
        "score": score,
        "versions": {name: installed(name) for name in LIBRARIES},
        "names_from": "the training" if "task" in manifest else "the task at the time of the export",
        "obs_names": list(spec.obs_names),
        "obs_units": obs_units(spec.obs_names, model),
        "obs_abs_max": obs_abs_max,
        "normaliser": normaliser(layers),
        "network": {
            "widths": [layers.obs_dim, *(len(layer.bias) for layer in layers.layers)],
            "activation": layers.layers[0].activation,
            "layer_norm": layers.layers[0].gain is not None,
            "head": layers.head,
        },
        "action_names": list(spec.action_names),
        "action_semantics": action_semantics(model, spec.action_names),
        "action_low": low.tolist(),
        "action_high": high.tolist(),
        "action_scale": ((high - low) / 2).tolist(),
        "action_offset": ((high + low) / 2).tolist(),
        "safe_action": {"kind": safe.kind, "value": safe.value.astype(np.float64).tolist()},
        "control_period_seconds": spec.dt or None,
        "weights_sha256": weights_sha256(layers.arrays()),
    }


def normaliser(layers: Layers) -> dict[str, Any] | None:
    """(obs - mean) * inverse_std, clipped; the variance is that of inverse_std, its epsilon included."""
    if layers.mean is None or layers.inverse_std is None:
        return None
    inverse_std = layers.inverse_std.astype(np.float64)
    return {
        "mean": layers.mean.astype(np.float64).tolist(),
        "variance": (inverse_std**-2).tolist(),
        "inverse_std": inverse_std.tolist(),
        "clip": layers.clip,
    }


def model_of(env: VecEnv) -> Any:
    """The MjModel of the task, or None where it has no MuJoCo simulator."""
    try:
        model = env.simulator(0)[0]
    except UnsuitableEnvironment:
        return None
    return model if isinstance(model, mujoco.MjModel) else None


def training_score(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """The evaluation that made a policy the best, as the run noted it."""
    found = manifest.get("score")
    if found is None:
        return None
    low, high = found.get("eval/return_low"), found.get("eval/return_high")
    interval = None if low is None or high is None else [low, high]  # one episode has none
    return {"from": "the evaluation that made it the best", "mean": found["eval/return"], "interval_95": interval}
