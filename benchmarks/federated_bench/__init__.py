"""The parts of ``benchmarks/federated.py``."""
