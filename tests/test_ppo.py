"""PPO's own: what acted is what learns, statistics stand still within a block, stops latch for one learner alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import make_algorithm, make_batch, make_block

from dsac.algorithms.ppo import clip_by_norm, clipped_policy_loss
from dsac.updater import StatisticsUpdater


def test_first_minibatch_has_ratio_one():
    """Catches statistics that move between acting and learning, and log-probs of the clipped action."""
    algorithm = make_algorithm("ppo", seeds=(0, 1), horizon=8, observation_normalization=True)
    StatisticsUpdater(algorithm, "eager")(make_block(algorithm, 8, 4, seed=1))
    obs = torch.randn(8, 2, 4, 5) * 3
    noise = torch.randn(8, 2, 4, 3) * 2
    action = torch.stack([algorithm.act(o, n) for o, n in zip(obs, noise, strict=True)])
    assert action.abs().max() > 1, "the unclipped sample is what is stored"
    block = make_block(algorithm, 8, 4, obs=obs.numpy(), action=action.numpy())
    memory = algorithm.memory(4, torch.device("cpu"))
    memory.add(algorithm.process(block))
    metrics = algorithm.update(next(iter(memory.batches())), {}, True)
    assert metrics["kl"].abs().max() < 1e-6
    assert metrics["clip_fraction"].max() == 0


def test_statistics_move_only_after_the_block():
    """Catches normalisers that learn in `process` or in a forward pass on replayed batches."""
    algorithm = make_algorithm("ppo", horizon=8)
    block = make_block(algorithm, 8, 4)
    before = algorithm.observations.mean.clone()
    sample = algorithm.process(block)
    algorithm.update(type(sample)(*(x.transpose(0, 1).flatten(1, 2) for x in sample)), {}, True)
    assert torch.equal(algorithm.observations.mean, before)
    StatisticsUpdater(algorithm, "eager")(block)
    np.testing.assert_allclose(algorithm.observations.mean[0], block.obs.reshape(-1, 5).mean(0), atol=1e-6)
    assert algorithm.observations.moments.count.tolist() == [32]


def test_time_limit_bootstraps_from_the_true_successor():
    """Catches V of the next episode's first observation, and a time limit taken for the end."""
    algorithm = make_algorithm("ppo", horizon=1, reward_normalization=False, observation_normalization=False)
    ended = np.ones((1, 1, 4), bool)
    cut = algorithm.process(make_block(algorithm, 1, 4, truncated=ended))
    done = algorithm.process(make_block(algorithm, 1, 4, terminated=ended))
    block = make_block(algorithm, 1, 4)
    value = algorithm.critic(torch.from_numpy(block.next_obs[0]))[..., 0]
    torch.testing.assert_close((cut.advantage - done.advantage)[0], 0.99 * value)
    torch.testing.assert_close(done.return_, torch.from_numpy(block.reward))


def test_nothing_is_learned_from_a_failed_world():
    """Catches a gradient from a row that is no transition, and an advantage that runs through it."""
    algorithm = make_algorithm("ppo", horizon=4, reward_normalization=False, observation_normalization=False)
    invalid = np.zeros((4, 1, 4), bool)
    invalid[2] = True
    sample = algorithm.process(make_block(algorithm, 4, 4, truncated=invalid, invalid=invalid))
    assert not sample.advantage[2].any()
    assert torch.equal(sample.return_[2], sample.value[2])
    assert sample.advantage[[0, 1, 3]].all()


def test_kl_stop_holds_one_learner_and_not_the_other():
    """Catches zero gradients in place of a skipped step: Adam's momentum and count would move on."""
    algorithm = make_algorithm("ppo", seeds=(0, 1), target_kl=0.05).double()
    batch = make_batch(algorithm, 0)
    current = algorithm.actor(batch.obs)
    from dsac.nn.distributions import normal_log_prob

    near = normal_log_prob(current, algorithm.log_std, batch.action).detach()
    batch = batch._replace(log_prob=torch.stack([near[0] + 1.0, near[1]]))
    before = {name: value.clone() for name, value in algorithm.state_dict().items()}
    algorithm.update(batch, {}, True)
    assert algorithm.stopped.tolist() == [True, False]
    for name, value in algorithm.state_dict().items():
        if name.startswith(("actor", "critic", "log_std", "optimizer.mean", "optimizer.square", "optimizer.count")):
            assert torch.equal(value[0], before[name][0]), name
            assert not torch.equal(value[1], before[name][1]), name


def test_adaptive_penalty_doubles_and_halves():
    """Catches a coefficient that follows the wrong side of the target."""
    algorithm = make_algorithm("ppo", seeds=(0, 1, 2), kl_penalty=0.2, kl_adaptive_target=0.01)
    algorithm.last_kl.copy_(torch.tensor([0.1, 0.001, 0.01]))
    algorithm.optimizer.count.fill_(1)
    StatisticsUpdater(algorithm, "eager")(make_block(algorithm, 2, 4))
    torch.testing.assert_close(algorithm.kl_coefficient, torch.tensor([0.4, 0.1, 0.2]))


def test_the_penalty_waits_for_an_update():
    """Catches an adaptive penalty that is halved by the warm-up, in which the policy cannot have moved."""
    algorithm = make_algorithm("ppo", seeds=(0, 1), kl_penalty=0.2, kl_adaptive_target=0.01)
    StatisticsUpdater(algorithm, "eager")(make_block(algorithm, 2, 4))
    torch.testing.assert_close(algorithm.kl_coefficient, torch.tensor([0.2, 0.2]))


def test_rewards_are_divided_by_the_deviation_of_returns():
    """Catches rewards that are centred, clipped before scaling, or scaled by the reward's own deviation."""
    algorithm = make_algorithm("ppo", horizon=8, gamma=0.9, observation_normalization=False, reward_clip=None)
    block = make_block(algorithm, 8, 4)
    StatisticsUpdater(algorithm, "eager")(block)
    running, returns = np.zeros(4), []
    for reward in block.reward[:, 0]:
        running = 0.9 * running + reward
        returns.append(running)
    assert algorithm.returns.std().item() == pytest.approx(np.std(returns), rel=1e-6)
    ended = make_block(algorithm, 1, 4, terminated=np.ones((1, 1, 4), bool))
    scaled = algorithm.process(ended).return_[0, 0]
    np.testing.assert_allclose(scaled, ended.reward[0, 0] / np.std(returns), rtol=1e-5)


def test_gradients_are_clipped_for_each_learner():
    """Catches a norm over all learners: the small gradients of one would be scaled by the large ones of another."""
    gradients = [torch.tensor([[3.0, 0.0], [0.03, 0.0]]), torch.tensor([[[4.0]], [[0.04]]])]
    clipped = clip_by_norm(gradients, 0.5)
    torch.testing.assert_close(clipped[0], torch.tensor([[0.3, 0.0], [0.03, 0.0]]), rtol=1e-5, atol=0)
    torch.testing.assert_close(clipped[1][:, 0, 0], torch.tensor([0.4, 0.04]), rtol=1e-5, atol=0)


def test_clip_is_pessimistic_on_both_sides():
    """Catches a maximum in place of the minimum, and an asymmetric clip on the wrong side."""
    config = make_algorithm("ppo", clip_low=0.1, clip_high=0.3, advantage_normalization=False).config
    loss = clipped_policy_loss(
        torch.tensor([[1.5], [0.5], [1.5], [0.5]]), torch.tensor([[1.0], [1.0], [-1.0], [-1.0]]), config
    )
    torch.testing.assert_close(loss, torch.tensor([-1.3, -0.5, 1.5, 0.9]))
