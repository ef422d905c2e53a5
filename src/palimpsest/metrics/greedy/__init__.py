"""Greedy continuations of every prefix of a text, decoded only where they leave the text."""
