"""A run: its folder, its record, a session of training, resuming, the hardware it is on."""
