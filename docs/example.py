"""The whole way from Python: train with a task of your own, score, load the policy and act. Runs in seconds.

python docs/example.py [folder for the run]
"""

from __future__ import annotations

import sys

import numpy as np

from dsac import evaluate, load_policy, train
from dsac.trainer import Trainer, every

ENOUGH = 50.0


def stop_when_good_enough(trainer: Trainer) -> None:
    """Early stopping: the scores are those of the latest evaluation, one a learner."""
    if trainer.scores and min(trainer.scores) >= ENOUGH:
        trainer.stop(f"return {min(trainer.scores):.0f}")


outcome = train(
    env="InvertedPendulum",
    algo="ppo",
    seed=1,
    total_env_steps=40_000,
    eval_every_env_steps=2_048,
    runs=sys.argv[1] if len(sys.argv) > 1 else "runs",
    callbacks=[every(2_048, stop_when_good_enough)],
    **{"algo.hidden_sizes": [32, 32], "eval.episodes": 5},
)
print(f"{outcome.run}: {outcome.env_steps} env steps, scores {outcome.scores}, exit code {outcome.exit_code}")

report = evaluate(outcome.run, episodes=10)
print(f"best policy: {report['mean']:.1f}, 95% interval {report['interval_95']}")

policy = load_policy(outcome.run)
obs = np.array([0.0, 0.05, 0.0, 0.0])  # the pole leans by 0.05 rad
print(f"force of the cart: {policy.act(obs)}")
