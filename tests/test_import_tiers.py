"""Imports point downwards only: a row may import from the rows above it in this table, never from its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from dsac.algorithms import names

ROOT = Path(__file__).parent.parent
ALGORITHMS = [f"dsac.algorithms.{name}" for name in names()]
TASKS = [f"envs.tasks.{path.stem}" for path in (ROOT / "envs/tasks").glob("*.py") if path.stem != "__init__"]
TIERS = [
    [
        "dsac.schema.plain_data",
        "dsac.schema.plain_text",
        "dsac.callbacks",
        "dsac.cli",
        "dsac.collection",
        "dsac.errors",
        "dsac.evaluation",
        "dsac.memory",
        "dsac.nn",
        "dsac.persistence",
        "dsac.runs",
        "dsac.schema",
        "dsac.schema.ranges",
        "dsac.seeding",
        "envs.native",
    ],
    ["dsac.schema.files"],
    [
        "dsac.data",
        "dsac.nn.distributions",
        "dsac.nn.advantages",
        "dsac.memory.available_memory",
        "dsac.schema.importing",
        "dsac.cli.signals",
        "dsac.schema.validate",
        "dsac.schema.overrides",
    ],
    [
        "dsac.cli.callable_module",
        "dsac.persistence.atomic",
        "dsac.runs.config_text",
        "dsac.persistence.lock",
        "dsac.runs.metrics",
        "dsac.callbacks.watchdog",
        "dsac.compare.published",
        "dsac.collection.ray_server",
        "dsac.schema.recipes",
        "dsac.schema.algorithm_config",
        "dsac.compare.statistics",
    ],
    ["dsac.export.controller", "dsac.export.report", "dsac.export.units"],
    ["envs.caches", "envs.contract", "envs.mujoco_facts", "envs.importing", "envs.task"],
    ["envs.native.compile_cache", "dsac.compiler_cache"],
    [
        "envs.native.libmujoco",
        "envs.answers",
        "dsac.memory.kernels",
        "dsac.nn.networks",
        "dsac.nn.normalization",
        "dsac.nn.optimizer",
    ],
    ["dsac.memory.size"],
    [
        "envs",
        "envs.native.thread_pool",
        "envs.native.physics",
        "dsac.memory.device_copy",
        "dsac.memory.frame_log",
        "dsac.memory.rollout",
        "dsac.nn.policy",
        "dsac.nn.initialisation",
        "dsac.nn.precision",
        "dsac.collection.contract",
    ],
    [
        "envs.native.worlds",
        "envs.tasks",
        "dsac.collection.collector",
        "dsac.memory.contract",
        "dsac.memory.replay",
        "dsac.persistence.replay_segments",
    ],
    ["envs.spaces"],
    [
        "envs.native.kernels",
        "envs.native.bare_physics",
        "envs.task_checks",
        *(task for task in TASKS if not task.endswith("standup")),
    ],
    ["envs.native.pool_threads", "envs.tasks.humanoid_standup", "dsac.persistence.checkpoint"],
    [
        "envs.gymnasium",
        "envs.engine",
        "dsac.algorithms.base",
        "dsac.evaluation.scoring",
        "dsac.evaluation.film",
        "dsac.persistence.policies",
    ],
    ["dsac.export.layers", "dsac.export.torchscript"],
    ["dsac.algorithms", "dsac.compilation", "dsac.evaluation.critic_predictions", *ALGORITHMS],
    ["dsac.schema.run_config", "dsac.updater"],
    ["dsac.trainer", "dsac.config", "dsac.collection.worlds"],
    [
        "dsac.runs.fine_tuning",
        "dsac.persistence.training_state",
        "dsac.runs.hardware",
        "dsac.cli.progress",
        "dsac.runs.folder",
        "dsac.runs.saved_config",
        "dsac.schema.write_conf",
        "dsac.tune.search_space",
        "dsac.tune.study_record",
    ],
    [
        "dsac.collection.ray_cluster",
        "dsac.runs.full_disk",
        "dsac.runs.record",
        "dsac.runs.run_files",
        "dsac.runs.saved_state",
    ],
    [
        "dsac.collection.remote_worker",
        "dsac.compare.overrides",
        "dsac.callbacks.divergence",
        "dsac.callbacks.logger",
        "dsac.runs.resume",
        "dsac.callbacks.reward_size",
        "dsac.compare.results",
        "dsac.sweep.find_runs",
        "dsac.bench.timing",
    ],
    [
        "dsac.cli.exit_codes",
        "dsac.compare.failures",
        "dsac.tune.study",
        "dsac.export.c_library",
        "dsac.export.contract",
        "dsac.export.parity",
    ],
    [
        "dsac.collection.remote",
        "dsac.callbacks.evaluator",
        "dsac.runs.outcome",
        "dsac.compare.groups",
        "dsac.bench.environments",
        "dsac.bench.replay",
        "dsac.bench.updates",
        "dsac.tune.recipe",
    ],
    [
        "dsac.callbacks.checkpointer",
        "dsac.sweep.plan",
        "dsac.export.on_new_best",
        "dsac.export.request",
        "dsac.runs.parts",
    ],
    ["dsac.compare.scores", "dsac.compare.commands"],
    ["dsac.compare.calibration", "dsac.compare.comparison"],
    ["dsac.compare.figures", "dsac.compare.tables"],
    ["dsac.export.c_header", "dsac.export.onnx_graph", "dsac.export.runtimes", "dsac.tune.figure"],
    ["dsac.compare.report", "dsac.tune.report", "dsac.export.write"],
    ["dsac.runs.session"],
    [
        "dsac.train",
        "dsac.evaluate",
        "dsac.compare.command",
        "dsac.export.command",
        "dsac.bench.command",
        "dsac.sweep.runner",
    ],
    [
        "dsac.export",
        "dsac.bench.collection",
        "dsac.bench.training",
        "dsac.sweep.ray_launcher",
        "dsac.sweep.worker",
        "dsac.sweep.view",
        "dsac.tune.tuner",
        "dsac.bench",
        "dsac.bench.__main__",
        "dsac.compare",
        "dsac.compare.__main__",
        "dsac.export.__main__",
    ],
    ["dsac.sweep.command", "dsac.tune.view"],
    ["dsac.tune.job", "dsac.sweep", "dsac.sweep.__main__"],
    ["dsac.tune.command"],
    ["dsac", "dsac.tune", "dsac.tune.__main__"],
]
ONLY_IN = {
    "hydra": {"dsac.config"},
    "omegaconf": {"dsac.config"},
    "gymnasium": {"envs.gymnasium", "envs.spaces", "dsac.bench.environments", "dsac.bench.training"},
    "jinja2": {"dsac.compare.report"},
    "matplotlib": {"dsac.compare.figures", "dsac.tune.figure"},
    "optuna": {"dsac.tune.study"},
    "rich": {"dsac.cli.progress", "dsac.sweep.view"},
    "tensorboard": {"dsac.callbacks.logger"},
    "safetensors": {"dsac.persistence.checkpoint", "dsac.persistence.replay_segments"},
    "onnx": {"dsac.export.onnx_graph"},
    "onnxruntime": {"dsac.export.controller"},
    "pickle": set(),
    "ray": {"dsac.collection.ray_cluster", "dsac.collection.ray_server"},
}
KNOW_NO_ALGORITHM = [
    "dsac.trainer",
    "dsac.collection.collector",
    "dsac.memory.replay",
    "dsac.memory.kernels",
    "dsac.memory.rollout",
]


def module_name(path: Path) -> str:
    """dsac/algorithms/__init__.py -> dsac.algorithms."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


SOURCES = {module_name(path): path for folder in ("dsac", "envs") for path in sorted((ROOT / folder).rglob("*.py"))}


def imports(module: str) -> set[str]:
    """Every module that a module imports, also within functions and for type checking; ours by their full name."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in SOURCES else str(node.module) for name in inner}
    return found


def test_every_module_has_one_tier():
    """Catches a new file that nobody placed, and a row that names a file which is gone."""
    listed = [module for tier in TIERS for module in tier]
    assert sorted(listed) == sorted(SOURCES)


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_imports_point_downwards(module: str):
    """Catches a spoke that knows another, an algorithm that imports an algorithm, a part that imports a door."""
    tier = next(index for index, modules in enumerate(TIERS) if module in modules)
    below = {name for modules in TIERS[:tier] for name in modules}
    ours = {name for name in imports(module) if name.split(".")[0] in ("dsac", "envs")}
    assert ours <= below


@pytest.mark.parametrize("module", sorted(SOURCES))
def test_libraries_stay_behind_their_part(module: str):
    """Catches a config tree, an environment or an unsafe format that leaks into another part."""
    libraries = {name.split(".")[0] for name in imports(module)}
    assert not [library for library, allowed in ONLY_IN.items() if library in libraries and module not in allowed]


@pytest.mark.parametrize("module", ["envs", *(name for name in SOURCES if name.startswith("envs."))])
def test_environments_do_not_know_the_trainer(module: str):
    """Catches an environment that cannot be used alone."""
    assert not [name for name in imports(module) if name.split(".")[0] == "dsac"]


@pytest.mark.parametrize("module", KNOW_NO_ALGORITHM)
def test_the_loop_knows_no_algorithm(module: str):
    """Catches `if algo == "ppo"` and ladders of isinstance in the parts that serve all algorithms."""
    nodes = list(ast.walk(ast.parse(SOURCES[module].read_text())))
    assert not [node for node in nodes if isinstance(node, ast.Constant) and node.value in names()]
    assert not [node for node in nodes if isinstance(node, ast.Name) and node.id == "isinstance"]


SEEN = """
import sys
import dsac
import dsac.compare
import dsac.cli.progress
import dsac.evaluate
import dsac.export
import dsac.sweep
import dsac.tune
from dsac.train import main
doors = (main, dsac.evaluate.main, dsac.compare.main, dsac.export.main, dsac.sweep.main, dsac.tune.main)
assert [door(["--help"]) for door in doors] == [0] * 6
assert not {"torch", "hydra", "gymnasium", "optuna"} & sys.modules.keys(), "--help"
def enter(bar):
    print("bar" if "torch" not in sys.modules else "torch first")
    sys.exit()
dsac.cli.progress.ProgressBar.__enter__ = enter
main(["env=InvertedPendulum"])
"""


def test_help_and_the_progress_bar_come_before_torch():
    """Catches an import at the top of a door that makes --help, or the first sign of life, wait for seconds."""
    done = subprocess.run([sys.executable, "-c", SEEN], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "bar"
    assert "algo=NAME --help" in done.stdout
    assert "total_env_steps" in done.stdout
