"""What may come in: ranges, validation, the config of a run, recipes, files and text as plain data."""
