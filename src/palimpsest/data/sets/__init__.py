"""The sets of a run: roles and splits."""
