"""Worlds, runs and tables of ``benchmarks/language.py``."""
