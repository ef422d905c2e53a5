"""What is kept beside a model so that it can be deleted from later."""
