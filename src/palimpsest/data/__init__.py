"""What is learned and forgotten: files to examples, examples to sets, sets to batches."""
