"""What runs beside the loop: evaluator, checkpointer, logger, divergence check, watchdog."""
