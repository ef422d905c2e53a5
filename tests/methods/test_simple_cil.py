"""SimpleCIL: see tests/methods/counting.py."""
