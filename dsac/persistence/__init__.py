"""What is written to disk: atomic writes, checkpoints, replay segments, locks, policy files."""
