"""Gradient-level pieces that several methods share."""
