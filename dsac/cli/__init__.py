"""What every command shares: exit codes, signals, progress bars."""
