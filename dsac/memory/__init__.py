"""What is learned from: the replay with its kernels, and the rollout."""
