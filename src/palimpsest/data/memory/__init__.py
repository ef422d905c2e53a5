"""What is kept of earlier examples, deletable by id."""
