"""The saved state is whole and holds nothing idle: resumed from it a run goes on exactly, and without any item not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import commanded_cart
import numpy as np
import pytest
from small_runs import assert_same, flatten, small_config, world_by_world

from dsac.algorithms import names
from dsac.callbacks import training_state
from dsac.persistence import checkpoint
from dsac.persistence.replay_segments import Archive
from dsac.runs import hardware
from dsac.runs.parts import build
from dsac.trainer import Trainer

ALGORITHMS = names()
MORE = {
    # With this limit a clock ends an episode right after the resume; with others the pole falls first, and it is idle.
    "ppo": "algo.kl_adaptive_target=0.01 algo.kl_penalty=0.2 algo.target_kl=0.5 env.max_episode_steps=5",
    **{name: "algo.return_normalization=true algo.n_step=2" for name in ALGORITHMS if name != "ppo"},
}
CLOCK = "wall_time"
# What other algorithms need: PPO learns from each block before anyone looks at these, and asks for no largest return.
UNREAD = "collector.envs.0.privileged"  # for critics that no algorithm has yet; tests/test_engine.py restores it
IDLE = {"ppo": ("metrics.", "algorithm.last_kl")}


class Session:
    """A trainer without a run folder, block by block; `told` is what a log would have been told after each."""

    def __init__(self, algo: str, tmp_path: Path, *words: str) -> None:
        own = MORE[algo].split()
        self.config = small_config(tmp_path, algo, "algo.observation_normalization=true", *own, *words)
        self.trainer = build(hardware.resolve_hardware(self.config)[0])
        self.trainer.callbacks = [self.attend]
        self.blocks, self.end, self.told = 0, 0, dict[str, np.ndarray]()

    def attend(self, trainer: Trainer) -> None:
        self.blocks += 1
        if self.blocks == 50:  # what this short run does not come to by itself: a score, a return beyond all others
            trainer.scores = [1.5]
            trainer.algorithm.state_dict()["returns.largest"].fill_(50)
        self.told |= {f"told.{self.blocks}.{name}": value.numpy().copy() for name, value in trainer.metrics.items()}
        if self.blocks == self.end:
            trainer.stop("test")

    def until(self, blocks: int) -> None:
        """Train on until so many blocks were taken in all."""
        self.end, self.trainer.stop_reason = blocks, None
        self.told.clear()
        self.trainer.run()

    def load(self, state: dict[str, Any], blocks: int) -> None:
        """Go on from a state."""
        self.trainer.scores = []
        training_state.restore(self.trainer, state)
        self.blocks = blocks

    def state(self) -> dict[str, Any]:
        """A copy of the state as it comes from the disk, the frames of a replay as chunks."""
        state = training_state.state_of(self.trainer)
        if "frames" in state["memory"]:
            state["memory"]["frames"] = list(state["memory"]["frames"])
        found: dict[str, Any] = copy.deepcopy(plain(state))
        return found

    def result(self, told_from: int) -> dict[str, np.ndarray]:
        """What a session has come to, but for the clock, and what it told after so many blocks."""
        state = self.state()
        frames = world_by_world(state["memory"].pop("frames")) if "frames" in state["memory"] else {}
        found = flatten(state) | {f"frames.{name}": rows for name, rows in frames.items()}
        told = {name: value for name, value in self.told.items() if int(name.split(".")[1]) > told_from}
        return {path: value for path, value in (found | told).items() if path != CLOCK}


def plain(tree: Any) -> Any:
    """A state with arrays for tensors and lists for tuples."""
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [plain(value) for value in tree]
    return tree.detach().numpy() if hasattr(tree, "detach") else tree


PLACES = {  # the blocks at which a run is saved, and where it ends; the replay is full after block 100
    "few": ([7, 20, 101, 102, 103], 112),  # in the warm-up, at its end, at the wrap and between two delayed updates
    "every": (list(range(1, 148)), 148),
}
EVERY = [pytest.param(algo, "every", (), marks=pytest.mark.faults) for algo in ALGORITHMS]
TWO_CARTS = (*commanded_cart.WORDS, "learners=2")  # a task with a state and noise of its own, models that differ


@pytest.mark.parametrize(
    ("algo", "places", "words"), [*((algo, "few", ()) for algo in ALGORITHMS), ("dsac_t", "few", TWO_CARTS), *EVERY]
)
def test_a_resume_at_any_block_is_exact(algo: str, places: str, words: tuple[str, ...], tmp_path: Path):
    """Catches state that is lost within episodes, the warm-up, at the replay's wrap, between delayed updates."""
    at, end = ([1, 2, 3, 4, 5], 6) if algo == "ppo" else PLACES[places]
    whole, resumed = Session(algo, tmp_path, *words), Session(algo, tmp_path, *words)
    told: dict[str, np.ndarray] = {}
    for blocks in [*at, end]:
        whole.until(blocks)
        told |= whole.told
        save(whole, tmp_path)
    whole.told = told
    state = whole.state()
    assert state["collector"]["lengths"].any()  # within episodes, and others have ended
    assert len(state["collector"]["finished"][0]) > 3
    for blocks in at:
        state, _ = checkpoint.read(tmp_path / f"step-{blocks:012d}")
        resumed.load(state, blocks)
        resumed.until(end)
        assert_same(resumed.result(blocks), whole.result(blocks))
    print(f"{algo}: {len(at)} places, each exact")


def save(session: Session, root: Path) -> None:
    """Save as a run does, frames in segments."""
    state = training_state.state_of(session.trainer)
    if "frames" in state["memory"]:
        archive = Archive(root / checkpoint.SEGMENTS, session.trainer.memory.frames)
        state["memory"]["frames"] = archive.commit()
        archive.close()
    checkpoint.save_step(root, session.blocks, state, {}, keep=1000)


OTHERS = [pytest.param(algo, (), marks=pytest.mark.faults) for algo in ALGORITHMS if algo != "dsac_t"]


@pytest.mark.parametrize(("algo", "words"), [("dsac_t", ()), ("dsac_t", commanded_cart.WORDS), *OTHERS])
def test_without_any_item_a_resume_is_another_run(algo: str, words: tuple[str, ...], tmp_path: Path):
    """Catches an item that is saved and not restored, and one that is idle.

    Each in turn is left out, and then is as in a new process: the resume must be refused, or be another run.
    """
    middle, more = (4, 2) if algo == "ppo" else (106, 10)  # within episodes, after an odd number of updates
    looks = (middle + 1, middle + more)  # within the same episodes, and after a delayed update
    run = Session(algo, tmp_path, *words)
    fresh = run.state()
    run.until(middle)
    state = run.state()
    expected = results(run, middle, looks)
    unnoticed = []
    run.load(copy.deepcopy(state), middle)
    for found, wanted in zip(results(run, middle, looks), expected, strict=True):
        assert_same(found, wanted)
    idle = (CLOCK, UNREAD, *IDLE.get(algo, ()))
    items = [path for path in paths_of(state) if not ".".join(map(str, path)).startswith(idle)]
    for path in items:
        for without in variants(state, fresh, path):
            try:
                run.load(without, middle)
                for found, wanted in zip(results(run, middle, looks), expected, strict=True):
                    assert_same(found, wanted)
            except Exception:  # refused, or another run
                continue
            unnoticed.append(".".join(map(str, path)))
    print(f"{algo}: {len(items)} items, each missed")
    assert not unnoticed


def results(run: Session, start: int, looks: tuple[int, ...]) -> list[dict[str, np.ndarray]]:
    """What a session has come to at each of some blocks after `start`."""
    found = []
    for blocks in looks:
        run.until(blocks)
        found.append(run.result(start))
    return found


def paths_of(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The items of a state; the frames of a replay and the finished episodes are one each."""
    whole = path in (("memory", "frames"), ("collector", "finished"))
    if whole or not isinstance(tree, dict | list):
        return [path]
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    return [item for key, value in entries for item in paths_of(value, (*path, key))]


def variants(state: dict[str, Any], fresh: dict[str, Any], path: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Copies of a state without an item, and with what a new process has in its place, if that differs."""
    *sections, last = path
    found = []
    for replacing in (False, True):
        without = copy.deepcopy(state)
        tree: Any = without
        new: Any = fresh
        for key in sections:
            tree = tree[key]
            new = new[key] if has(new, key) else None
        before = tree.pop(last)
        if replacing:
            if not has(new, last) or same(before, new[last]):
                continue
            if isinstance(tree, list):
                tree.insert(last, copy.deepcopy(new[last]))
            else:
                tree[last] = copy.deepcopy(new[last])
        found.append(without)
    return found


def has(tree: Any, key: Any) -> bool:
    """Whether there is such an entry."""
    return key in tree if isinstance(tree, dict) else isinstance(tree, list) and key < len(tree)


def same(left: Any, right: Any) -> bool:
    """Whether two items are equal."""
    one, other = flatten({"": left}), flatten({"": right})
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)
