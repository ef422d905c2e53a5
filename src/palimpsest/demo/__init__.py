"""What `palimpsest demo` works on: records of invented patients and a model small enough to train on the spot."""
