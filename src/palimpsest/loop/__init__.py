"""The only training loop: steps, stopping, checkpoints. It knows methods only through ``contract.py``."""
