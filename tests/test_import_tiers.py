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
    ["dsac.plain_data", "dsac.plain_text"],
    ["dsac.files"],
    [
        "dsac.data",
        "dsac.distributions",
        "dsac.returns",
        "dsac.available_memory",
        "dsac.fields",
        "dsac.importing",
        "dsac.signals",
        "dsac.strict",
        "dsac.words",
    ],
    [
        "dsac.callable_module",
        "dsac.commit",
        "dsac.config_text",
        "dsac.lock",
        "dsac.metrics",
        "dsac.watchdog",
        "dsac.published",
        "dsac.ray_keeper",
        "dsac.recipes",
        "dsac.statistics",
    ],
    ["dsac.controller", "dsac.exporting", "dsac.exporting.report", "dsac.exporting.units"],
    ["envs.caches", "envs.contract", "envs.simulator", "envs.importing", "envs.task"],
    ["envs.compiling", "dsac.compiler_cache"],
    ["envs.libmujoco", "envs.answers", "dsac.replay_kernels", "dsac.networks", "dsac.normalization", "dsac.optimizer"],
    ["envs", "envs.crew", "envs.physics", "dsac.device_rows", "dsac.frames", "dsac.rollout", "dsac.policy"],
    ["envs.worlds", "envs.tasks", "dsac.collector", "dsac.replay", "dsac.segments"],
    ["envs.spaces"],
    ["envs.kernels", "envs.bare_loop", "envs.task_checks", *(task for task in TASKS if not task.endswith("standup"))],
    ["envs.helpers", "envs.tasks.humanoid_standup", "dsac.checkpoint"],
    ["envs.gymnasium", "envs.engine", "dsac.algorithms.base", "dsac.evaluation", "dsac.film"],
    ["dsac.exporting.layers", "dsac.exporting.torchscript"],
    ["dsac.algorithms", "dsac.accelerate", "dsac.predictions", *ALGORITHMS],
    ["dsac.settings", "dsac.trainer"],
    ["dsac.config"],
    [
        "dsac.initial_weights",
        "dsac.machine",
        "dsac.progress",
        "dsac.runs",
        "dsac.saved_config",
        "dsac.search_space",
        "dsac.study_record",
    ],
    ["dsac.ray_cluster", "dsac.run_files", "dsac.sittings"],
    [
        "dsac.collector_host",
        "dsac.departures",
        "dsac.guard",
        "dsac.logger",
        "dsac.resume",
        "dsac.reward_size",
        "dsac.results",
        "dsac.sweep_state",
        "dsac.timing",
    ],
    [
        "dsac.exit_codes",
        "dsac.failures",
        "dsac.study",
        "dsac.exporting.c_library",
        "dsac.exporting.contract",
        "dsac.exporting.parity",
    ],
    [
        "dsac.remote_collector",
        "dsac.tasks",
        "dsac.groups",
        "dsac.bench_environments",
        "dsac.bench_replay",
        "dsac.bench_updates",
        "dsac.tune_recipe",
    ],
    ["dsac.saver", "dsac.sweep_plan", "dsac.exporting.at_best", "dsac.exporting.request"],
    ["dsac.scores", "dsac.reproduce"],
    ["dsac.calibration", "dsac.comparison"],
    ["dsac.figures", "dsac.tables"],
    ["dsac.exporting.c_header", "dsac.exporting.onnx_graph", "dsac.exporting.runtimes", "dsac.tune_figure"],
    ["dsac.report", "dsac.tune_report", "dsac.exporting.writing"],
    ["dsac.sitting"],
    ["dsac.train", "dsac.evaluate", "dsac.compare", "dsac.export", "dsac.bench", "dsac.sweep_runner"],
    [
        "dsac.bench_collection",
        "dsac.bench_training",
        "dsac.sweep_ray",
        "dsac.sweep_worker",
        "dsac.sweep_view",
        "dsac.tuner",
    ],
    ["dsac.sweep", "dsac.tune_view"],
    ["dsac.tune_job"],
    ["dsac.tune"],
    ["dsac"],
]
ONLY_IN = {
    "hydra": {"dsac.config"},
    "omegaconf": {"dsac.config"},
    "gymnasium": {"envs.gymnasium", "envs.spaces", "dsac.bench_environments", "dsac.bench_training"},
    "jinja2": {"dsac.report"},
    "matplotlib": {"dsac.figures", "dsac.tune_figure"},
    "optuna": {"dsac.study"},
    "rich": {"dsac.progress", "dsac.sweep_view"},
    "tensorboard": {"dsac.logger"},
    "safetensors": {"dsac.checkpoint", "dsac.segments"},
    "onnx": {"dsac.exporting.onnx_graph"},
    "onnxruntime": {"dsac.controller"},
    "pickle": set(),
    "ray": {"dsac.ray_cluster", "dsac.ray_keeper"},
}
KNOW_NO_ALGORITHM = ["dsac.trainer", "dsac.collector", "dsac.replay", "dsac.replay_kernels", "dsac.rollout"]


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
import dsac, dsac.compare, dsac.progress, dsac.evaluate, dsac.export, dsac.sweep, dsac.tune
from dsac.train import main
doors = (main, dsac.evaluate.main, dsac.compare.main, dsac.export.main, dsac.sweep.main, dsac.tune.main)
assert [door(["--help"]) for door in doors] == [0] * 6
assert not {"torch", "hydra", "gymnasium", "optuna"} & sys.modules.keys(), "--help"
def enter(bar):
    print("bar" if "torch" not in sys.modules else "torch first")
    sys.exit()
dsac.progress.ProgressBar.__enter__ = enter
main(["env=InvertedPendulum"])
"""


def test_help_and_the_progress_bar_come_before_torch():
    """Catches an import at the top of a door that makes --help, or the first sign of life, wait for seconds."""
    done = subprocess.run([sys.executable, "-c", SEEN], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "bar"
    assert "algo=NAME --help" in done.stdout
    assert "total_env_steps" in done.stdout
