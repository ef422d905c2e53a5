"""Federated learning over the engine, and taking a client out again."""
