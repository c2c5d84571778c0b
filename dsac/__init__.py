"""Distributional actor-critic control: DSAC-T beside tuned SAC, TD3, DDPG and PPO baselines."""
