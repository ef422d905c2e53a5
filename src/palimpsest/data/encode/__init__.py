"""Examples -> batches: tokens, pixels, labels."""
