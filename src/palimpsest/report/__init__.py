"""A run as one HTML page, its JSON twin and a table for the terminal. Nothing here reaches torch."""
