"""export.on_new_best=true: the newest best policy is always exported, and training neither waits nor fails for it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from small_runs import assert_same, final_state, only_run, small_config, stop_at, train, train_whole

from dsac.callbacks import on_new_best
from dsac.config import load, to_tree
from dsac.errors import ConfigError
from dsac.export.controller import Policy
from dsac.persistence.atomic import read_manifest

pytest.importorskip("onnxruntime", reason="the extra `export` is not installed")
EXPORTING = ("export.on_new_best=true", "eval_every_env_steps=128", "total_env_steps=256")


def steps_of(run: Path, learner: int = 0) -> tuple[int, int]:
    """The env steps of the best policy and of its export."""
    folder = run / f"learner-{learner}"
    table = json.loads((folder / "export-best" / "policy.json").read_text())
    return read_manifest(folder / "best")["env_steps"], table["env_steps"]


def test_the_best_policies_are_exported(tmp_path: Path):
    """Catches an export of an older best, of one learner only, without its score, or that moves the training."""
    run = train_whole(small_config(tmp_path / "a", "ppo", "learners=2", *EXPORTING))
    for learner in (0, 1):
        best, exported = steps_of(run, learner)
        assert best == exported
        policy = Policy(run / f"learner-{learner}" / "export-best" / "policy.onnx")
        assert policy.contract["learner"] == learner
        assert policy.contract["names_from"] == "the training"
        score = read_manifest(run / f"learner-{learner}" / "best")["score"]
        assert policy.contract["score"]["mean"] == score["eval/return"]
    assert not (run / "learner-0" / "export-best" / "policy.h").exists()
    plain = train_whole(small_config(tmp_path / "b", "ppo", "learners=2", *EXPORTING[1:]))
    assert_same(final_state(run), final_state(plain))


def test_what_is_owed_is_made_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches an export that a stop has interrupted and nobody makes up for."""
    config = small_config(tmp_path, "ppo", *EXPORTING)
    monkeypatch.setattr(on_new_best, "CHILD", "import time; time.sleep(60)")
    assert train(config, None, [stop_at(128)]) == 75
    run = only_run(tmp_path)
    assert not (run / "learner-0" / "export-best").exists()
    monkeypatch.undo()
    assert train(config, run) == 0
    best, exported = steps_of(run)
    assert best == exported


def test_a_failed_export_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a run that dies, hangs or tries without end because an export cannot be made."""
    monkeypatch.setattr(on_new_best, "CHILD", "import sys; sys.exit('error: the disk is full')")
    run = train_whole(small_config(tmp_path, "ppo", *EXPORTING, "eval_every_env_steps=256"))
    assert capsys.readouterr().err.count("no export of learner 0's best policy: error: the disk is full") == 1
    assert not (run / "learner-0" / "export-best").exists()


def test_without_the_extra_one_line_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Catches a run that fails after hours, or exports nothing in silence, where onnx is not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(on_new_best.importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name))
    run = train_whole(small_config(tmp_path, "ppo", *EXPORTING))
    assert capsys.readouterr().err.count("needs the extra: pip install -e '.[export]'") == 1
    assert not (run / "learner-0" / "export-best").exists()


def test_a_safe_action_that_cannot_be_is_refused_at_once(tmp_path: Path):
    """Catches a setting that is found wrong only when the first export fails."""
    with pytest.raises(ConfigError, match="safe_action: 9 for slide is outside its limits, -3 to 3"):
        train(small_config(tmp_path, "ppo", *EXPORTING, "export.safe_action=[9]"), None)
    assert not list(tmp_path.iterdir())


def test_a_run_from_before_the_section_loads(tmp_path: Path):
    """Catches an older run that cannot be resumed for want of a section."""
    tree: dict[str, Any] = to_tree(small_config(tmp_path, "ppo"))
    del tree["export"]
    assert not load(tree).export.on_new_best
