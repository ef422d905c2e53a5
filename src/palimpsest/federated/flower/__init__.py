"""Federated learning through Flower: client app, server app and strategies over the same engine. Extra ``federated``.

Flower reports what is run with it to its makers, and asks them for newer versions, unless two variables are set before
it is imported: they are set here, which is imported before every file that imports it.
"""

import os

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
