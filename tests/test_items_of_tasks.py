"""What the evaluator and the logger save: without any item of it the resumed run tells another story."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from small_runs import final_state, flatten, lasting_rows, only_run, small_config, train
from test_logger import scalars

from dsac.callbacks import evaluator
from dsac.cli import exit_codes
from dsac.persistence import checkpoint

BEST = 1e6  # a score that no later evaluation beats


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped within its second evaluation and whose first was a great success."""
    runs = tmp_path_factory.mktemp("owed")
    score, calls = evaluator.score, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise evaluator.Stopped
        return score(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluator, "score", interrupted)

        def stop(trainer: Any) -> None:
            if len(calls) == 2:
                trainer.stop("test")

        assert train(small_config(runs), None, [stop]) == exit_codes.RESUMABLE
    run = only_run(runs)
    change(run, "evaluator.best.0", BEST)
    return run


def change(run: Path, path: str, value: Any) -> None:
    """Set an item of the newest checkpoint."""
    folder = checkpoint.committed(run / "checkpoints")[-1]
    state, manifest = checkpoint.read(folder)
    tree: Any = state
    *sections, last = [int(key) if key.isdigit() and "curves" in path else key for key in path.split(".")]
    for key in sections:
        tree = tree[key]
    assert tree[last] != value
    tree[last] = value
    facts = {key: value for key, value in manifest.items() if key not in ("schema", "files", checkpoint.SEGMENTS)}
    checkpoint.write(folder, state, facts)


def story(run: Path) -> Any:
    """What a finished run tells: its curves as read from both files, its best score, what it learned."""
    best = checkpoint.newest(run / "checkpoints")[0]["evaluator"]["best"]
    learned = {path: value.tobytes() for path, value in final_state(run).items()}
    drawn = {tag: len(points) for tag, points in scalars(run).items()}
    return lasting_rows(run), best, learned, drawn


FRESH = {
    "evaluator.best.0": -1e6, "evaluator.owed": False, "logger.curves.0.csv_bytes": 38, "logger.curves.0.env_steps": 0,
}  # fmt: skip


def test_every_item_of_the_tasks_is_tried(stopped: Path):
    """Catches an item that came later and that nobody tries."""
    state, _ = checkpoint.newest(stopped / "checkpoints")[:2]
    assert set(flatten({key: state[key] for key in ("evaluator", "logger")})) == set(FRESH)


@pytest.mark.parametrize("item", FRESH)
def test_without_an_item_of_the_tasks_the_story_is_another(item: str, stopped: Path, tmp_path: Path):
    """Catches an item that is saved and not restored, and one that is idle."""
    for name, value in (("whole", None), ("without", FRESH[item])):
        run = shutil.copytree(stopped, tmp_path / name)
        if value is not None:
            change(run, item, value)
        assert train(small_config(tmp_path), run) == exit_codes.FINISHED
    assert story(tmp_path / "whole") != story(tmp_path / "without")
