"""What outlives the process: atomic writes, checkpoints, replay segments, locks, policies."""
