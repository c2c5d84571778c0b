"""What runs beside the training loop: evaluator, checkpointer, logger, divergence check, watchdog."""
