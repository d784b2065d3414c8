"""config: every setting of the project, every default in exactly one place."""
