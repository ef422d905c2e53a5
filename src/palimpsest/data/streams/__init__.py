"""Request streams and their tasks, as ids."""
