"""The rollout: every row once an epoch, whole rows, one generator a learner."""

from typing import NamedTuple

import pytest
import torch

from dsac.memory.rollout import Rollout


class Rows(NamedTuple):
    obs: torch.Tensor
    advantage: torch.Tensor


def block_of(steps=4, learners=2, worlds=3):
    """A block whose values encode (learner, step, world)."""
    step, learner, world = torch.meshgrid(
        torch.arange(steps), torch.arange(learners), torch.arange(worlds), indexing="ij"
    )
    code = (10_000 * learner + 100 * step + world).double()
    return Rows(torch.stack([code, -code], dim=-1), code + 0.5)


def test_every_epoch_holds_every_row_of_its_learner_once():
    """Catches rows mixed between learners or fields, dropped or repeated, and steps confused with worlds."""
    rollout, block = Rollout(epochs=3, minibatch_size=4, seeds=[0, 1]), block_of()
    rollout.add(block)
    minibatches = list(rollout.batches())
    assert len(minibatches) == 9
    orders = []
    for epoch in range(3):
        drawn = Rows(*(torch.cat(field, dim=1) for field in zip(*minibatches[3 * epoch : 3 * epoch + 3], strict=True)))
        assert drawn.obs.shape == (2, 12, 2)
        assert torch.equal(drawn.obs[..., 0], -drawn.obs[..., 1])
        assert torch.equal(drawn.obs[..., 0], drawn.advantage - 0.5)
        for learner in range(2):
            assert torch.equal(
                drawn.advantage[learner].sort().values, block.advantage[:, learner].flatten().sort().values
            )
            orders.append(tuple((drawn.advantage[learner] % 10_000).tolist()))
    assert len(set(orders)) == 6


def test_minibatches_keep_the_type_of_the_block():
    """Catches a memory that knows the fields of one algorithm."""
    rollout = Rollout(epochs=1, minibatch_size=12, seeds=[0, 1])
    rollout.add(block_of())
    (minibatch,) = rollout.batches()
    assert type(minibatch) is Rows


def test_a_block_is_trained_on_once():
    """Catches updates from an old block, and updates from warm-up data."""
    rollout = Rollout(epochs=1, minibatch_size=12, seeds=[0, 1])
    assert list(rollout.batches()) == []
    rollout.add(block_of())
    assert len(list(rollout.batches())) == 1
    assert list(rollout.batches()) == []
    rollout.add(block_of(), counts=False)
    assert list(rollout.batches()) == []


def test_learners_are_shuffled_as_if_alone():
    """Catches a shared generator, by which one learner's order would depend on how many others there are."""
    together, block = Rollout(epochs=2, minibatch_size=6, seeds=[5, 9]), block_of()
    alone = Rollout(epochs=2, minibatch_size=6, seeds=[9])
    together.add(block)
    alone.add(Rows(*(field[:, 1:] for field in block)))
    for both, single in zip(together.batches(), alone.batches(), strict=True):
        assert torch.equal(both.obs[1], single.obs[0])


@pytest.mark.parametrize("minibatches_used", [1, 8])
def test_resumed_shuffles_are_the_same(minibatches_used):
    """Catches generators that are not saved, or that depend on whether an epoch was cut short."""
    rollouts = [Rollout(epochs=2, minibatch_size=3, seeds=[5, 9]) for _ in range(2)]
    rollouts[0].add(block_of())
    rollouts[1].add(block_of())
    for _ in zip(range(minibatches_used), rollouts[0].batches(), strict=False):
        pass
    assert len(list(rollouts[1].batches())) == 8
    resumed = Rollout(epochs=2, minibatch_size=3, seeds=[0, 1])
    resumed.load_state_dict(rollouts[0].state_dict())
    for rollout in (rollouts[1], resumed):
        rollout.add(block_of())
    for one, other in zip(rollouts[1].batches(), resumed.batches(), strict=True):
        assert torch.equal(one.obs, other.obs)


def test_blocks_and_states_that_do_not_fit_are_refused():
    """Catches rows that are dropped in silence, fields of unequal length, and a state of other learners."""
    rollout = Rollout(epochs=1, minibatch_size=5, seeds=[0, 1])
    with pytest.raises(ValueError, match=r"4 steps of 3 envs.* 12 .*minibatch_size 5"):
        rollout.add(block_of())
    with pytest.raises(ValueError, match=r"3 learners.* 2 seeds"):
        rollout.add(block_of(steps=5, learners=3))
    with pytest.raises(ValueError, match=r"advantage starts with \(4, 2, 3\), not \(5, 2, 3\)"):
        rollout.add(Rows(block_of(steps=5).obs, block_of().advantage))
    with pytest.raises(ValueError, match=r"1 learners.* 2 seeds"):
        rollout.load_state_dict(Rollout(epochs=1, minibatch_size=5, seeds=[0]).state_dict())
    with pytest.raises(ValueError, match="at least 1"):
        Rollout(epochs=0, minibatch_size=5, seeds=[0])
