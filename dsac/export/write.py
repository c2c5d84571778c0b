"""An export from beginning to end: read, write aside, check, and only then let the folder appear."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dsac.algorithms.base import Algorithm
from dsac.collection.worlds import make_worlds
from dsac.config import load
from dsac.evaluation.scoring import MOST_WORLDS, Score, worlds
from dsac.export import c_header, controller, onnx_graph, risk
from dsac.export.contract import (
    check_task,
    contract,
    obs_limit,
    training_score,
)
from dsac.export.layers import Layers, check_weights, layers_of
from dsac.export.parity import KINDS, ParitySet, parity_set
from dsac.export.request import Request
from dsac.export.runtimes import (
    Runtime,
    c_runtime,
    check_closed_loop,
    checked_risk,
    compiler,
    onnx_runtime,
    play,
    torch_runtime,
    torchscript_runtime,
)
from dsac.export.torchscript import Guarded, write_torchscript
from dsac.nn.policy import Policy
from dsac.persistence.atomic import publish, write_file
from dsac.persistence.policies import read_policy
from dsac.runs.saved_config import saved, saved_env
from dsac.runs.saved_critics import critics_of
from dsac.schema.files import make_folders, refuse_linked_folders, remove, sync
from dsac.schema.safe_action import SafeAction, safe_action, safe_action_warning
from envs.contract import VecEnv

TORCHSCRIPT_WARNING = "TorchScript is a legacy format: it carries no contract and checks nothing; prefer onnx or c"


def write_export(request: Request, named: Mapping[str, str], say: Callable[[str], None]) -> dict[str, Any]:
    """Write the folder and return the report. `named` are the modules that may be imported; `say` is told each stage.

    Raises ConfigError for a wrong request, CheckpointError for a damaged policy, ExportRefused for an export that does
    not do what the policy does; then no file is left.
    """
    run = Path(request.run)
    tree = saved(run, named, uses=("env",))
    env_config = saved_env(tree, named)
    if "onnx" in request.formats:
        onnx_graph.onnx_module()
    if "c" in request.formats:
        compiler()
    if request.out is None:
        refuse_linked_folders(run)
    policy, manifest = read_policy(run, request.which, request.learner)
    critics = critics_for(request, named, manifest["env_steps"]) if request.risk else None
    threads = None if request.episodes else 1  # without closed loops there is hardly anything to share out
    env = make_worlds(env_config, worlds(request.episodes or MOST_WORLDS), request.seed, "env", threads)
    try:
        with whole_folder(request.folder) as folder:
            report = fill(folder, request, tree, policy, manifest, critics, env, say)
    finally:
        env.close()
    warnings = [safe_action_warning(request.safe_action, env_config.name)]
    warnings += [TORCHSCRIPT_WARNING] if "torchscript" in request.formats else []
    return {"out": str(request.folder), **report, "warnings": [line for line in warnings if line]}


def fill(
    folder: Path,
    request: Request,
    tree: Mapping[str, Any],
    policy: Policy,
    manifest: Mapping[str, Any],
    critics: Algorithm | None,
    env: VecEnv,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Write the files into an empty folder and check them; returns what the report says of them."""
    layers = layers_of(policy)
    check_task(manifest.get("task"), layers, env.spec)
    limit, safe = obs_limit(request.obs_abs_max), safe_action(request.safe_action, env.spec)
    say("the parity set")
    parity = parity_set(policy, layers, env, limit, request.rows, request.seed)
    runtimes, returns = [torch_runtime(policy, parity)], dict[str, Score]()
    if request.episodes:
        say("closed loop of the policy")
        returns["torch"] = play(runtimes[0], env, request.episodes, request.seed)
    found = fresh_score(returns["torch"], request) if returns else training_score(manifest)
    origin = {"learner": request.learner, "which": request.which}
    facts = contract(Path(request.run), tree, manifest, origin, layers, env, limit, safe, found)

    if critics is not None:
        facts["risk"] = risk.risk_facts(critics)

    say("writing")
    files = {"parity.npz": parity.to_bytes()}
    if critics is not None:
        risks = risk.risk_parity(critics, parity.obs, parity.actions, request.seed)
        files["risk.onnx"] = risk.write_risk(critics, limit, facts, request.batch == "dynamic")
        files["risk-parity.npz"] = risks.to_bytes()
    if "onnx" in request.formats:
        files["policy.onnx"] = onnx_graph.write_onnx(layers, limit, safe, facts, request.batch == "dynamic")
        files["controller.py"] = Path(controller.__file__).read_bytes()
    if "c" in request.formats:
        files["policy.h"] = c_header.write_header(layers, limit, safe, facts, parity).encode()
    if "torchscript" in request.formats:
        files["policy.pt"] = write_torchscript(Guarded(policy, limit, safe.value))
    for name, content in files.items():
        write_file(folder / name, [content])
    write_table(folder, facts, {})

    for name in request.formats:
        say(f"checking {name}")
        runtimes.append(open_runtime(name, folder, layers, parity, limit, safe))
        if request.episodes:
            say(f"closed loop of {name}")
            returns[name] = play(runtimes[-1], env, request.episodes, request.seed)
            check_closed_loop(runtimes[-1], returns[name], returns["torch"])
    rows = {kind: int((parity.kind == index).sum()) for index, kind in enumerate(KINDS)}
    checks = {
        "parity_rows": rows,
        "passed_over": parity.left_out,
        "rounding": parity.rounding,
        "episodes": request.episodes,
        "runtimes": {runtime.name: figures(runtime, returns.get(runtime.name)) for runtime in runtimes},
        **({} if critics is None else {"risk": checked_risk(folder / "risk.onnx")}),
    }
    write_table(folder, facts, checks)
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir())}
    return {"contract": facts, "checks": checks, "bytes": sizes}


def critics_for(request: Request, named: Mapping[str, str], env_steps: int) -> Algorithm:
    """The critics of the policy. Raises ConfigError where they are not saved or learn no spread."""
    run = Path(request.run)
    algorithm = critics_of(run, load(saved(run, named)), request.which, request.learner, env_steps)
    risk.critics_with_spread(algorithm)
    return algorithm


def open_runtime(
    name: str, folder: Path, layers: Layers, parity: ParitySet, obs_abs_max: float, safe: SafeAction
) -> Runtime:
    """A written file as it runs, checked. Raises ExportRefused."""
    if name == "onnx":
        check_weights(onnx_graph.weights_of((folder / "policy.onnx").read_bytes()), layers, "policy.onnx")
        return onnx_runtime(folder / "policy.onnx", parity)
    if name == "c":
        check_weights(c_header.weights_of((folder / "policy.h").read_text()), layers, "policy.h")
        return c_runtime(folder / "policy.h", parity, obs_abs_max, safe)
    return torchscript_runtime((folder / "policy.pt").read_bytes(), parity, obs_abs_max, safe)


def fresh_score(score: Score, request: Request) -> dict[str, Any]:
    """The closed loop of the policy, as the contract tells it."""
    where = f"{request.episodes} episodes at the export, seed {request.seed}"
    return {"from": where, **score.facts()}


def figures(runtime: Runtime, score: Score | None) -> dict[str, Any]:
    """What the checks found of one runtime."""
    loop = None if score is None else score.facts()
    return {"worst_error": runtime.error, "closed_loop": loop, "microseconds_a_step": runtime.seconds * 1e6}


def write_table(folder: Path, facts: Mapping[str, Any], checks: Mapping[str, Any]) -> None:
    """policy.json: the contract, what the checks found, the hash of each other file, and its own."""
    others = [path for path in sorted(folder.iterdir()) if path.name != "policy.json"]
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in others}
    table = {**facts, "checks": checks, "files": hashes}
    own = hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
    write_file(folder / "policy.json", [json.dumps({**table, "sha256": own}, indent=1).encode()])


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the name `folder` when the block ends, and goes away when it fails.

    What stood there before stands there until then.
    """
    parent = next(path for path in folder.absolute().parents if path.is_dir())
    temporary = parent / f".{folder.name}.partial-{os.getpid()}"
    remove(temporary)
    temporary.mkdir()
    try:
        yield temporary
        sync(temporary)
        if folder.absolute().parent != parent:  # what was there at first and is gone is not made again
            make_folders(folder.parent)
        publish(temporary, folder)
        sync(parent)
    finally:
        remove(temporary)
