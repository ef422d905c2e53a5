"""Sets that are made from other sets or by the model: one way per file."""
