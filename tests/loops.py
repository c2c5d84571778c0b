"""Which tests belong to which loop: `slow` is set here and nowhere else, and follows from what a test calls.

A test is slow that trains a run or starts a process, itself or through a helper or a fixture, and one of HEAVY.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

TESTS = Path(__file__).parent
LEAST_SHARE = 2 / 3  # of the test functions that must be fast

SLOW_CALLS = {"subprocess", "small_runs.train", "zygote.Zygote", "damage_server.Server", "dsac.collection.ray_cluster"}
SLOW_FIXTURES = {"finished_runs", "stopped"}  # runs that conftest.py trains
TRAINERS = {"dsac.train", "dsac.train.main"}  # which train where they are given the settings of a small run
SMALL_RUN = "small_runs.small_words"
# Files, and tests of other files, that take more than a second of a core without either.
HEAVY = {
    "test_a_change_takes_effect", "test_a_closed_loop_that_returns_less_is_refused",
    "test_a_film_is_no_longer_than_ten_seconds", "test_a_kill_and_then_a_cut", "test_a_kill_at_any_call",
    "test_a_killed_study_goes_on_and_counts_each_trial_once", "test_a_long_block_that_moves_is_waited_for",
    "test_a_model_that_mujoco_reads_is_stepped", "test_a_replaced_policy_survives_a_kill_and_then_a_cut",
    "test_a_restored_world_goes_on_bit_for_bit", "test_a_thousand_random_steps_equal_gymnasium",
    "test_a_trial_below_the_others_is_given_up", "test_accelerate", "test_another_question_is_refused",
    "test_both_backends_describe_and_drive_a_task_alike",
    "test_checkpoints_survive_every_cut", "test_collection_with_resets_gives_equal_transitions",
    "test_every_form_holds_the_same_right_numbers", "test_every_item", "test_intervals_of_the_mean_cover",
    "test_learns_a_trivial_task_in_seconds", "test_mean_and_spread_reach_the_closed_form",
    "test_memory_does_not_grow", "test_pages_are_current", "test_parity_of_every_algorithm",
    "test_parity_of_every_network", "test_plain_intervals_equal_rliable", "test_ray", "test_report",
    "test_resets_are_distributed_as_gymnasiums", "test_self_loop_reaches_the_closed_form",
    "test_soft_policy_comes_near_the_best_one", "test_the_check_at_start_up_notices",
    "test_the_closed_loop_is_the_one_of_evaluate", "test_the_commands_make_the_runs_that_are_held",
    "test_the_recipe_repeats_its_trial_to_the_bit", "test_the_report_alone",
    "test_time_limits_bootstrap_and_terminations_do_not",
}  # fmt: skip
# Files that must not run at the same time, by what they share; each other file is a group of its own.
GROUPS = {"one Ray": ("test_ray", "test_ray_nodes", "test_remote_collector")}
# What takes longest, by measurement, begins first: one that begins last keeps one worker while the others are done.
LONGEST = (
    "one Ray", "test_sweep", "test_stops", "test_dsac_t", "test_dsac_x", "test_export", "test_changes_on_resume",
    "test_command_line", "test_damaged_folders",
)  # fmt: skip


def group(item: Any) -> str:
    """Which tests one worker runs in a row."""
    return next((name for name, files in GROUPS.items() if item.path.stem in files), item.path.stem)


def turn(name: str) -> int:
    """When a group's turn is: the longest first, in the order of the table."""
    return LONGEST.index(name) if name in LONGEST else len(LONGEST)


def slow(item: Any) -> bool:
    """Whether a test trains, starts a process or takes long for another reason."""
    if {item.path.stem, getattr(item, "originalname", item.name)} & HEAVY or {*item.fixturenames} & SLOW_FIXTURES:
        return True
    seen: set[FunctionType] = set()
    functions = [item.function, *(getattr(item.module, name, None) for name in item.fixturenames)]
    used = {name for function in functions for name in calls(function, seen)}
    return bool(used & SLOW_CALLS) or (SMALL_RUN in used and bool(used & TRAINERS))


def calls(function: Any, seen: set[FunctionType]) -> Iterator[str]:
    """The full names of what a function of the tests uses, and of what its helpers in this folder use."""
    function = inspect.unwrap(function)
    if not isinstance(function, FunctionType) or function in seen:
        return
    seen.add(function)
    for name in names(function.__code__):
        used = function.__globals__.get(name)
        if isinstance(used, ModuleType):
            yield used.__name__
        elif isinstance(used, FunctionType | type):
            yield f"{used.__module__}.{used.__qualname__}"
            if here(used):
                for inner in vars(used).values() if isinstance(used, type) else (used,):
                    yield from calls(inner, seen)


def names(code: CodeType) -> Iterator[str]:
    """The names that a function's code and the functions within it look up."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from names(constant)


def here(used: Any) -> bool:
    """Whether a function or a class was written in this folder."""
    file = getattr(sys.modules.get(used.__module__), "__file__", None)
    return file is not None and Path(file).parent == TESTS
