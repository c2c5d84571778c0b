"""What the algorithms learn from: the replay buffer with its kernels, and PPO's rollout."""
