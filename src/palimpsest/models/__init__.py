"""Language models: loading, scope, reference, encoders."""
