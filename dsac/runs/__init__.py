"""A run: its folder, its record, its sessions of training, resume, fine-tuning, the hardware it uses."""
