"""Settings and their checks: ranges, validation, recipes, and files and text that are read as plain data."""
