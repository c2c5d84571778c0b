"""What the replay draws: against a plain list of episodes, and with which odds."""

import itertools
import math
from typing import NamedTuple

import numpy as np
import pytest
from helpers import copied_replay_state as copied
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dsac.data import Transition
from dsac.memory import frame_log
from dsac.memory.replay import Replay
from envs.native.random_words import next_word

GAMMA = 0.9
# Enough that a transition which is never drawn is no accident: fewer than 24 share the odds.
DRAWS = 800


def make(**sizes):
    return Replay(action_dim=2, updates_per_env_step=1, gamma=GAMMA, **sizes)


class Step(NamedTuple):
    obs: tuple
    action: tuple
    reward: float
    next_obs: tuple
    terminated: bool
    truncated: bool


# How a step ends: (terminated, truncated, whether a new episode follows). The last: a world is reset from outside.
ENDINGS = [(False, False, False)] * 4 + [
    (True, False, True),
    (False, True, True),
    (True, True, True),
    (False, False, True),
]


def expected_row(episode, index, n_step):
    """What a draw of episode[index] must return, by the definition of the n-step return."""
    steps = []
    for step in episode[index : index + n_step]:
        steps.append(step)
        if step.terminated or step.truncated:
            break
    reward = sum(GAMMA**i * step.reward for i, step in enumerate(steps))
    discount = 0.0 if steps[-1].terminated else GAMMA ** len(steps)
    return (episode[index].action, steps[-1].next_obs, reward, discount)


class ReplayMachine(RuleBasedStateMachine):
    """Observations are (learner, world, episode, t), so that each names the one transition it may come from."""

    @initialize(
        capacity=st.integers(5, 20), worlds=st.integers(1, 3), learners=st.integers(1, 2), n_step=st.integers(1, 5)
    )
    def start(self, capacity, worlds, learners, n_step):
        self.learners, self.worlds, self.n_step = learners, worlds, n_step
        self.frames = -(-capacity // worlds) + 1
        self.sizes = {
            "capacity": capacity,
            "num_envs": worlds,
            "obs_dim": 4,
            "batch_size": DRAWS,
            "n_step": n_step,
        }
        self.replay = make(**self.sizes, seeds=range(learners))
        self.episodes = {(learner, world): [[]] for learner in range(learners) for world in range(worlds)}

    def advance(self, learner, world, ending):
        episodes = self.episodes[learner, world]
        terminated, truncated, new_episode = ending
        episode, t = len(episodes) - 1, len(episodes[-1])
        reward = float(len(episodes) * 7 + t * 3 + learner)
        step = Step(
            (learner, world, episode, t), (t, episode), reward, (learner, world, episode, t + 1), terminated, truncated
        )
        episodes[-1].append(step)
        if new_episode:
            episodes.append([])
        return step

    @rule(data=st.data(), steps=st.sampled_from([1, 1, 1, 2, 3, 6]))
    def add(self, data, steps):
        count = steps * self.learners * self.worlds
        endings = iter(data.draw(st.lists(st.sampled_from(ENDINGS), min_size=count, max_size=count)))
        block = [
            [
                [self.advance(learner, world, next(endings)) for world in range(self.worlds)]
                for learner in range(self.learners)
            ]
            for _ in range(steps)
        ]
        fields = [
            np.array([[[step[i] for step in row] for row in plane] for plane in block], bool if i > 3 else np.float32)
            for i in range(len(Step._fields))
        ]
        self.replay.add(Transition(*fields, np.zeros_like(fields[-1])))

    @rule(chunk_bytes=st.sampled_from([1, 300, frame_log.CHUNK_BYTES]))
    def resume(self, chunk_bytes):
        """Continue from a copy of the state, in chunks of any size, in a replay that started from other seeds."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(frame_log, "CHUNK_BYTES", chunk_bytes)
            state = copied(self.replay.state_dict())
        self.replay = make(**self.sizes, seeds=range(50, 50 + self.learners))
        self.replay.load_state_dict(state)

    def retained(self, learner):
        """Rows that learner may draw, by observation: of each world those within the newest `frames` frames."""
        rows = {}
        for world in range(self.worlds):
            age = 0
            for episode in reversed([each for each in self.episodes[learner, world] if each]):
                age += 1  # the final observation has a frame of its own
                for index in reversed(range(len(episode))):
                    age += 1
                    if age <= self.frames:
                        rows[episode[index].obs] = expected_row(episode, index, self.n_step)
        return rows

    @invariant()
    def draws_are_what_the_model_retains(self):
        """Every draw is a retained transition, and every retained transition is drawn."""
        models = [self.retained(learner) for learner in range(self.learners)]
        assert self.replay.transitions.tolist() == [len(model) for model in models]
        if not all(models):
            return
        batch = self.replay.sample()
        for learner, model in enumerate(models):
            drawn = {}
            rows = (field[learner].tolist() for field in batch)
            for obs, action, reward, next_obs, discount in zip(*rows, strict=True):
                drawn[tuple(obs)] = (tuple(action), tuple(next_obs), reward, discount)
            assert drawn.keys() == model.keys()
            for obs, (action, next_obs, reward, discount) in drawn.items():
                assert (action, next_obs) == model[obs][:2]
                np.testing.assert_allclose((reward, discount), model[obs][2:], rtol=1e-6)


class TestReplayAgainstEpisodes(ReplayMachine.TestCase):
    """Catches what goes wrong at wrap-around, ends of both kinds, one-step episodes, n-step sums and after a resume."""

    settings = settings(max_examples=50, stateful_step_count=20, deadline=None)


def test_every_transition_is_equally_likely():
    """Catches odds tilted towards worlds with short rings, the first frames, or frames next to an episode's end."""
    replay = make(capacity=39, num_envs=3, obs_dim=1, batch_size=2000, n_step=1, seeds=[0])
    number = itertools.count(1)
    for step in range(40):
        obs = np.array([[next(number), next(number), next(number)]], np.float32).reshape(1, 1, 3, 1)
        # World 0 never ends, world 1 ends at every step, world 2 at every third: 13, 7 and 10 transitions remain.
        ended = np.array([False, True, step % 3 == 0]).reshape(1, 1, 3)
        following = obs + np.where(ended[..., None], 0.5, 3).astype(np.float32)
        zero = np.zeros((1, 1, 3), np.float32)
        replay.add(
            Transition(obs, np.zeros((1, 1, 3, 2), np.float32), zero, following, ended, ~ended & ended, ~ended & ended)
        )
    draws = np.concatenate([replay.sample().obs.numpy().flatten() for _ in range(100)])
    _, counts = np.unique(draws, return_counts=True)
    assert len(counts) == replay.transitions[0] == 13 + 7 + 10
    freedom, expected = len(counts) - 1, len(draws) / len(counts)
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)


def test_every_transition_is_reached_while_rings_fill_unevenly():
    """Catches a search that spans the frames of another learner, or of the world that has fewest."""
    replay = make(capacity=60, num_envs=2, obs_dim=1, batch_size=DRAWS, n_step=1, seeds=[0, 1])
    rows = (6, 2, 2)
    obs, ended = np.arange(24.0).reshape(*rows, 1), np.zeros(rows, bool)
    ended[:, 1, 1] = True  # one-step episodes take two frames a step
    following = obs + np.where(ended[..., None], 0.5, 4)
    replay.add(Transition(obs, np.zeros((*rows, 2)), np.zeros(rows), following, ended, ~ended & ended, ~ended & ended))
    for learner, drawn in enumerate(replay.sample().obs):
        assert set(drawn.ravel().tolist()) == set(obs[:, learner].ravel().tolist())


@pytest.mark.parametrize(("kind", "last_discount"), [("terminated", 0), ("truncated", 0.9)])
def test_equal_final_and_first_observations_do_not_join_episodes(kind, last_discount):
    """Catches n-step sums that run on into the next episode where its first observation equals the final one."""
    replay = make(capacity=20, num_envs=1, obs_dim=3, batch_size=DRAWS, n_step=3, seeds=[0])
    rows = (4, 1, 1)
    flags = {name: np.zeros(rows, bool) for name in ("terminated", "truncated", "invalid")}
    flags[kind][1] = True
    constant = np.zeros((*rows, 3))
    replay.add(Transition(constant, np.zeros((*rows, 2)), np.ones(rows), constant, **flags))
    batch = replay.sample()
    drawn = set(zip(batch.reward.ravel().tolist(), batch.discount.ravel().tolist(), strict=True))
    expected = {(1.9, 0.9 * last_discount), (1, last_discount), (1.9, 0.81), (1, 0.9)}
    assert drawn == {tuple(np.float32(pair).tolist()) for pair in expected}


def test_capacity_is_held_in_the_steady_state():
    """Catches a ring that is short by the frame of the newest observation."""
    for capacity, num_envs in ((10, 1), (10, 2), (10, 3), (5, 7)):
        replay = make(capacity=capacity, num_envs=num_envs, obs_dim=1, batch_size=1, n_step=1, seeds=[0])
        rows = (50, 1, num_envs)
        obs, never = np.arange(50 * num_envs).reshape(*rows, 1), np.zeros(rows, bool)
        replay.add(Transition(obs, np.zeros((*rows, 2)), np.zeros(rows), obs + num_envs, never, never, never))
        assert capacity <= replay.transitions[0] < capacity + num_envs


def test_generator_is_xoshiro256_plus_plus():
    """Catches a wrong shift or order in the generator: the first outputs of the published C code from (1, 2, 3, 4)."""
    state = np.array([1, 2, 3, 4], np.uint64)
    expected = [41943041, 58720359, 3588806011781223, 3591011842654386, 9228616714210784205, 9973669472204895162]
    assert [int(next_word(state)) for _ in expected] == expected


def test_steps_of_a_failed_world_are_never_drawn():
    """Catches a row that is no transition being learned from, and an n-step sum that runs through it."""
    replay = make(capacity=20, num_envs=1, obs_dim=1, batch_size=DRAWS, n_step=3, seeds=[0])
    obs = np.array([0.0, 1.0, 2.0, 10.0, 11.0]).reshape(5, 1, 1, 1)
    following = np.array([1.0, 2.0, 2.0, 11.0, 12.0]).reshape(5, 1, 1, 1)
    invalid = np.array([False, False, True, False, False]).reshape(5, 1, 1)
    never = np.zeros_like(invalid)
    reward = np.where(invalid, 0, 1.0)
    replay.add(Transition(obs, np.zeros((5, 1, 1, 2)), reward, following, never, invalid, invalid))
    assert replay.transitions.tolist() == [4]
    batch = replay.sample()
    drawn = {
        (o, n, round(r, 6))
        for o, n, r in zip(*(x.flatten().tolist() for x in batch[:1] + batch[3:4] + batch[2:3]), strict=True)
    }
    both = round(1 + GAMMA, 6)
    assert drawn == {(0.0, 2.0, both), (1.0, 2.0, 1.0), (10.0, 12.0, both), (11.0, 12.0, 1.0)}


@pytest.mark.parametrize("terminates", [True, False])
def test_the_steps_of_a_return_follow_from_the_warm_up(terminates: bool):
    """Catches a choice that follows one learner for all, that changes with what comes later, and one that a resume
    makes anew."""
    settings = {"capacity": 20, "num_envs": 1, "obs_dim": 1, "batch_size": DRAWS, "n_step": None, "seeds": [0, 1]}
    replay, resumed = make(**settings), make(**settings)
    obs = np.arange(10, dtype=np.float32).reshape(5, 2, 1, 1)
    terminated, never = np.zeros((2, 5, 2, 1), bool)
    terminated[2, 1] = terminates

    def add(terminated: np.ndarray) -> None:
        replay.add(Transition(obs, np.zeros((5, 2, 1, 2)), np.ones((5, 2, 1)), obs + 2, terminated, never, never))

    def longest(replay: Replay) -> list[float]:
        return [round(most, 6) for most in replay.sample().reward.amax(1).tolist()]

    three = round(1 + GAMMA + GAMMA**2, 6)
    add(terminated)
    assert longest(replay) == [1.0, three if terminates else 1.0]
    add(~never)
    assert longest(replay) == [1.0, three if terminates else 1.0]
    resumed.load_state_dict(replay.state_dict())
    assert longest(resumed) == [1.0, three if terminates else 1.0]


def test_updates_wait_where_only_failed_steps_are_left():
    """Catches a draw from nothing once failed steps have filled the replay, and updates that are lost."""
    replay = make(capacity=5, num_envs=1, obs_dim=1, batch_size=2, n_step=1, seeds=[0])

    def add(steps: int, invalid: bool) -> None:
        obs = np.arange(steps, dtype=np.float32).reshape(steps, 1, 1, 1)
        failed, never = np.full((steps, 1, 1), invalid), np.zeros((steps, 1, 1), bool)
        replay.add(Transition(obs, np.zeros((steps, 1, 1, 2)), 1.0 - failed, obs + 1, never, failed, failed))

    add(3, invalid=False)
    assert len(list(replay.batches())) == 3
    add(20, invalid=True)
    assert replay.transitions.tolist() == [0]
    assert list(replay.batches()) == []
    add(1, invalid=False)
    assert len(list(replay.batches())) == 21


@pytest.mark.parametrize("n_step", [1, 3])
def test_rows_kept_on_the_device_equal_rows_sent(n_step: int):
    """Catches frames that an add does not carry over, at the wrap, at episode ends and after a load."""
    sizes = {"capacity": 24, "num_envs": 3, "obs_dim": 4, "batch_size": 16, "n_step": n_step, "seeds": [0, 1]}
    sent, kept = make(**sizes), make(**sizes, rows_on_device=True)
    generator, newest = np.random.default_rng(0), np.zeros((2, 3, 4), np.float32)
    for steps in [1, 1, 2, 5, 1, 9, 1, 1, 3, 12]:
        rows = (steps, 2, 3)
        obs, next_obs = (generator.normal(size=(*rows, 4)).astype(np.float32) for _ in range(2))
        obs[0] = newest
        flags = generator.uniform(size=(3, *rows)) < 0.2
        obs[1:] = np.where((flags[0] | flags[1])[:-1, ..., None], obs[1:], next_obs[:-1])
        block = Transition(obs, generator.normal(size=(*rows, 2)), generator.normal(size=rows), next_obs, *flags)
        newest = np.where((flags[0] | flags[1])[-1, ..., None], generator.normal(size=(2, 3, 4)), next_obs[-1])
        newest = newest.astype(np.float32)
        for replay in (sent, kept):
            replay.add(block)
        if not sent.transitions.all():
            continue
        for one, other in zip(sent.sample(), kept.sample(), strict=True):
            np.testing.assert_array_equal(one, other)
    loaded = make(**sizes, rows_on_device=True)
    loaded.load_state_dict(kept.state_dict())
    for one, other in zip(kept.sample(), loaded.sample(), strict=True):
        np.testing.assert_array_equal(one, other)
