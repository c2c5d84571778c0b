"""The replay against a plain list of episodes, under random blocks, episode ends, wrap-arounds and resumes."""

from typing import NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dsac.data import Transition
from dsac.replay import Replay

GAMMA = 0.9
# Enough that a transition which is never drawn is no accident: fewer than 24 share the odds.
DRAWS = 800


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
        self.settings = {
            "capacity": capacity,
            "num_envs": worlds,
            "obs_dim": 4,
            "action_dim": 2,
            "batch_size": DRAWS,
            "updates_per_env_step": 1,
            "gamma": GAMMA,
            "n_step": n_step,
        }
        self.replay = Replay(**self.settings, seeds=range(learners))
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

    @rule(data=st.data(), steps=st.integers(1, 6))
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
        self.replay.add(Transition(*fields))

    @rule()
    def resume(self):
        """Continue from a copy of the state, in a replay that started from other seeds."""
        state = {name: np.copy(value) for name, value in self.replay.state_dict().items()}
        self.replay = Replay(**self.settings, seeds=range(50, 50 + self.learners))
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

    settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
