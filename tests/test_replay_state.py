"""The replay's updates, learners, state and refusals; what it draws is tested in tests/test_replay.py."""

import math

import numpy as np
import pytest
import torch
from helpers import copied_replay_state as copied

from dsac.data import Transition
from dsac.memory import frame_log
from dsac.memory.replay import Replay
from dsac.memory.size import replay_bytes


def make(**changes):
    settings = {
        "capacity": 20,
        "num_envs": 2,
        "obs_dim": 3,
        "action_dim": 2,
        "batch_size": 16,
        "updates_per_env_step": 1.0,
        "gamma": 0.9,
        "n_step": 1,
        "seeds": [0],
    }
    return Replay(**{**settings, **changes})


def random_block(steps, learners=1, worlds=2, obs_dim=3, seed=0):
    """A continuing block (T, S, N, ...) in which every observation is distinct."""
    random = np.random.default_rng(seed)
    rows = (steps, learners, worlds)
    path = random.standard_normal((steps + 1, learners, worlds, obs_dim)).astype(np.float32)
    action, reward = random.standard_normal((*rows, 2)), random.standard_normal(rows)
    never = np.zeros(rows, bool)
    return Transition(path[:-1], action.astype(np.float32), reward.astype(np.float32), path[1:], never, never, never)


def assert_same_draws(left, right, draws=3):
    for _ in range(draws):
        for one, other in zip(left.sample(), right.sample(), strict=True):
            assert torch.equal(one, other)


def test_blocks_are_copied():
    """Catches a replay that keeps the caller's arrays, which an environment may reuse."""
    replay, block = make(), random_block(4)
    replay.add(block)
    block.obs[:], block.next_obs[:] = 7, 7
    (chunk,) = replay.state_dict()["frames"]
    assert 7 not in chunk["obs"]
    assert 7 not in replay.state_dict()["newest"]


@pytest.mark.parametrize(
    ("ratio", "num_envs", "expected"),
    [
        (0.05, 20, [1] * 40),
        (1, 1, [1] * 40),
        (0.05, 1, ([0] * 19 + [1]) * 2),
        (0.3, 7, [math.floor(k * 21 / 10) - math.floor((k - 1) * 21 / 10) for k in range(1, 41)]),
    ],
)
def test_update_ratio_is_exact_after_warm_up_and_resume(ratio, num_envs, expected):
    """Catches updates for warm-up steps, rounding that drifts, and credit that is lost or granted anew on resume."""
    settings = {"num_envs": num_envs, "updates_per_env_step": ratio, "batch_size": 1}
    replay, block = make(**settings), random_block(1, worlds=num_envs)
    for _ in range(13):
        replay.add(block, counts=False)
    assert list(replay.batches()) == []
    for step, due in enumerate(expected):
        replay.add(block)
        assert sum(1 for _ in replay.batches()) == due
        if step % 9 == 4:
            resumed = make(**settings)
            resumed.load_state_dict(replay.state_dict())
            replay = resumed


def test_batches_not_asked_for_stay_due():
    """Catches an eager iterator: updates that an interrupt kept from running must run after the resume."""
    replay = make()
    replay.add(random_block(3))
    next(replay.batches())
    resumed = make()
    resumed.load_state_dict(replay.state_dict())
    assert replay.updates_due == resumed.updates_due == 5
    assert_same_draws(replay, resumed)


def test_changed_ratio_applies_to_later_steps_only():
    """Catches a resume with another ratio that claims or owes updates for all steps taken before."""
    replay = make(num_envs=1, updates_per_env_step=0.05)
    for _ in range(10):
        replay.add(random_block(1, worlds=1))
    resumed = make(num_envs=1, updates_per_env_step=0.5)
    resumed.load_state_dict(replay.state_dict())
    resumed.add(random_block(1, worlds=1))
    assert resumed.updates_due == 1


def test_learners_draw_as_if_alone():
    """Catches generators or rings that learners share: learner k of S must be the run with seed k."""
    seeds = [3, 11]
    both = make(seeds=seeds)
    alone = [make(seeds=[seed]) for seed in seeds]
    block = random_block(7, learners=2)
    both.add(block)
    for learner, replay in enumerate(alone):
        replay.add(Transition(*(field[:, [learner]] for field in block)))
    for _ in range(3):
        batch = both.sample()
        for learner, replay in enumerate(alone):
            for field, single in zip(batch, replay.sample(), strict=True):
                assert torch.equal(field[learner], single[0])
    assert not np.array_equal(*both.state_dict()["generators"])


def test_state_is_bit_exact_and_whole():
    """Catches state that is not saved, not restored, or left over from what the replay held before."""
    replay, resumed = make(n_step=3), make(n_step=3, seeds=[5])
    replay.add(random_block(4))
    resumed.add(random_block(9, seed=1))
    replay.sample()
    replay.load_state_dict(replay.state_dict())
    resumed.load_state_dict(copied(replay.state_dict()))
    (chunk,) = replay.state_dict()["frames"]
    assert chunk["stop"].tolist() == [[4, 4]]
    np.testing.assert_array_equal(replay.transitions, resumed.transitions)
    assert_same_draws(replay, resumed)
    for each in (replay, resumed):
        each.add(random_block(20, seed=2))
    assert_same_draws(replay, resumed)
    assert replay.updates_due == resumed.updates_due


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"capacity": 22}, "capacity 22, found 20"),
        ({"num_envs": 4}, "num_envs 4, found 2"),
        ({"obs_dim": 5}, "obs_dim 5, found 3"),
        ({"seeds": [0, 1]}, "learners 2, found 1"),
    ],
)
def test_state_of_another_size_is_refused(change, words):
    """Catches a resume that broadcasts or truncates rings of another size."""
    replay = make()
    replay.add(random_block(4))
    with pytest.raises(ValueError, match=words):
        make(**change).load_state_dict(replay.state_dict())


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda chunks: chunks[1:], "missing between"),
        (lambda chunks: chunks[:1] + chunks[2:], "missing between"),
        (lambda chunks: chunks[:-1], "missing at the end"),
        (lambda chunks: [], "missing at the end"),
        (lambda chunks: [{**chunks[0], "reward": chunks[0]["reward"].astype(np.float64)}], "type float32"),
        (lambda chunks: [{**chunks[0], "obs": chunks[0]["obs"][:, :2]}], "obs of shape"),
    ],
)
def test_frames_that_are_missing_or_strange_are_refused(damage, words, monkeypatch):
    """Catches a replay that goes on with frames of before, or with zeros, where a chunk is lost."""
    replay = make()
    replay.add(random_block(7))
    monkeypatch.setattr(frame_log, "CHUNK_BYTES", 100)
    chunks = list(replay.state_dict()["frames"])
    assert len(chunks) == 4
    with pytest.raises(ValueError, match=words):
        make().load_state_dict({**replay.state_dict(), "frames": damage(chunks)})


def test_block_of_another_shape_is_refused():
    """Catches a compiled loop that reads beyond an array of the wrong shape."""
    with pytest.raises(ValueError, match=r"shape of obs \(4, 1, 2, 3\), found \(4, 1, 2, 5\)"):
        make().add(random_block(4, obs_dim=5))
    with pytest.raises(ValueError, match="shape of obs"):
        make().add(random_block(4, worlds=3))


def test_sampling_too_early_is_refused():
    """Catches an endless search, or zeros drawn, while a replay is empty."""
    with pytest.raises(RuntimeError, match="sampled too early"):
        make(seeds=[0, 1]).sample()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_cuda_device_are_those_of_the_host():
    """Catches a host buffer that is drawn into while the device still reads it."""
    host, device = make(batch_size=4096), make(batch_size=4096, device="cuda")
    for replay in (host, device):
        replay.add(random_block(10))
    on_device = [device.sample() for _ in range(20)]
    for batch in on_device:
        for one, other in zip(host.sample(), batch, strict=True):
            assert torch.equal(one, other.cpu())


def test_settings_without_a_meaning_are_refused():
    """Catches empty batches, and a ratio that rounds to never."""
    with pytest.raises(ValueError, match="at least 1"):
        make(batch_size=0)
    with pytest.raises(ValueError, match="at least 1e-6"):
        make(updates_per_env_step=1e-9)


def test_a_million_humanoid_transitions_take_at_most_1600_megabytes():
    """Catches observations stored twice, and a size that is announced but not what is allocated."""
    assert replay_bytes(10**6, 20, 348, 17) <= 1.6e9
    replay = make(seeds=[0, 1], capacity=100, num_envs=3)
    assert replay.frames.nbytes == replay_bytes(100, 3, 3, 2, learners=2)
    assert replay.describe() == "replay 100 transitions x 2 learners: 0.00 GB"
