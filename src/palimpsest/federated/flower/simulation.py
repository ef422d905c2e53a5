"""Flower's simulation: the clients in processes of this machine (Ray), the server in this one."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from palimpsest.errors import RunError
from palimpsest.federated.flower.client_app import Node, client_app
from palimpsest.printed import as_line
from palimpsest.untrusted import refusing

Result = TypeVar("Result")
OF_RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""It reports nothing to its makers, and leaves the visible accelerators alone."""
CLIENTS_AT_ONCE = 2
"""Clients that work at the same time, each in a process of its own with one thread."""


def simulated(names: tuple[str, ...], node_of: Callable[[str], Node], serve: Callable[[Grid], Result]) -> Result:
    """Do the server's part with clients that Flower simulates.

    Args:
        names: of the clients, sorted.
        node_of: a client as a process has it; called in that process.
        serve: the server's part, called in this process with Flower's grid.

    Returns:
        What ``serve`` returns.

    Raises:
        RunError: Flower's simulation broke down.
        Exception: whatever ``serve`` raises.
    """
    app, ended = ServerApp(), list[Result | BaseException]()

    def main(grid: Grid, context: Context) -> None:
        try:
            ended.append(serve(grid))
        except BaseException as error:  # of another thread: it is raised in the caller's below
            ended.append(error)

    app.main()(main)

    def of_context(context: Context) -> Node:
        return node_of(names[int(context.node_config["partition-id"])])

    with quiet(), refusing(lambda reason: RunError(f"Flower's simulation broke down: {as_line(reason)}")):
        _run(app, client_app(of_context), len(names))
    return _outcome(ended)


def _run(server: ServerApp, client: Any, num_clients: int) -> None:
    from flwr.simulation import run_simulation  # imports Ray, which takes seconds

    resources = {"num_cpus": 1, "num_gpus": 0.0}
    machine = {"num_cpus": min(CLIENTS_AT_ONCE, num_clients), "include_dashboard": False, "log_to_driver": False}
    how = {"init_args": machine, "client_resources": resources}
    try:
        run_simulation(server, client, num_clients, backend_config=how)
    except RuntimeError as error:  # Flower's own word of it is that there was an error
        raise RuntimeError(f"{_first_cause(error)}; the same command goes on from there") from error


def _first_cause(error: BaseException) -> BaseException:
    """What an error came from in the end."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _outcome(ended: list[Result | BaseException]) -> Result:
    if not ended:
        raise RunError("Flower's simulation ended before the server's part did")
    if isinstance(ended[0], BaseException):
        raise ended[0]
    return ended[0]


@contextmanager
def quiet() -> Iterator[None]:
    """In the block, what Flower and Ray would print goes nowhere: who was left out and why is in the ledger."""
    os.environ.update(OF_RAY)
    loggers = [logging.getLogger(name) for name in ("flwr", "ray")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)
