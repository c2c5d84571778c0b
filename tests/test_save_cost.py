"""What a save costs the training once the replay is full: a million transitions of Humanoid."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_runs import only_run

from dsac.callbacks import checkpointer
from dsac.cli.exit_codes import FINISHED
from dsac.data import Transition
from dsac.train import start

MILLION, ADDED, SAVES = 1_000_000, 50_000, 6
PAUSE_SECONDS, EXTRA_BYTES = 0.5, 64e6


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Peak:
    """The most memory that is resident within `with`, over what was at its start; looked at every millisecond."""

    def __enter__(self) -> Peak:
        self.start, self.most, self.over = resident(), 0, False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self) -> None:
        while not self.over:
            self.most = max(self.most, resident() - self.start)
            time.sleep(0.001)

    def __exit__(self, *_: object) -> None:
        self.over = True
        self.thread.join()


def fill(trainer: Any, transitions: int, draw: np.random.Generator) -> None:
    """Add transitions of the worlds' size, in long blocks, the archive following as it does in training."""
    spec, worlds = trainer.collector.spec, trainer.collector.num_envs
    steps = 250
    for _ in range(transitions // (steps * worlds)):
        rows = draw.standard_normal((steps + 1, 1, worlds, spec.obs_dim), np.float32)
        action = draw.standard_normal((steps, 1, worlds, spec.action_dim), np.float32)
        flags = np.zeros((3, steps, 1, worlds), bool)
        trainer.memory.add(Transition(rows[:-1], action, action[..., 0], rows[1:], *flags), counts=False)
        next(task for task in trainer.callbacks if getattr(task, "__name__", "") == "follow")(trainer)


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_save_of_a_full_humanoid_replay_costs_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Catches a save that writes or copies the whole replay, and one that stops the training for long."""
    draw, pauses, worked = np.random.default_rng(0), list[float](), list[float]()
    extra, saving = list[int](), False
    save = checkpointer.Checkpointer.save

    def timed(self: checkpointer.Checkpointer, trainer: Any) -> None:
        if not saving:
            return save(self, trainer)
        with Peak() as peak:
            began, computed = time.monotonic(), time.thread_time()
            save(self, trainer)
            pauses.append(time.monotonic() - began)
            worked.append(time.thread_time() - computed)
        return extra.append(peak.most)

    def later(trainer: Any) -> None:
        nonlocal saving
        if trainer.env_steps == 20:
            fill(trainer, 1_100_000, draw)
            assert int(trainer.memory.transitions[0]) > 0.99 * MILLION  # the ends of these blocks take a frame each
        elif trainer.env_steps > 20:
            saving = True
            fill(trainer, ADDED, draw)

    monkeypatch.setattr(checkpointer.Checkpointer, "save", timed)
    words = "env=Humanoid algo=dsac_t experiment=null device=cpu accelerate=eager"
    words += " algo.warmup_env_steps=1000 checkpoint_every_env_steps=40"
    words += f" total_env_steps={40 * (SAVES + 1)} eval.episodes=1 eval_every_env_steps=100000 runs={tmp_path}"
    assert start(words.split(), [later]).exit_code == FINISHED
    segments = list((only_run(tmp_path) / "checkpoints" / "segments").iterdir())
    assert sum(path.stat().st_size for path in segments) > 1.4e9
    print(f"pauses {[f'{pause:.3f}' for pause in pauses]} s, extra memory {[round(size / 1e6) for size in extra]} MB")
    print(f"of these pauses the training's thread computed for {[f'{seconds:.3f}' for seconds in worked]} s")
    assert len(pauses) >= SAVES
    assert max(pauses) < PAUSE_SECONDS
    assert max(extra) < EXTRA_BYTES
