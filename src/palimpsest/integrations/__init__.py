"""Palimpsest inside other people's training code. Importing this package imports no torch."""
