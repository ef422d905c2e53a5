"""What a node says of itself, and why it is left out; a node that is asked who it is need not import torch for it."""

from __future__ import annotations

from typing import NamedTuple

from flwr.app import ConfigRecord, RecordDict

from palimpsest.errors import PalimpsestError, RunError
from palimpsest.printed import as_line
from palimpsest.untrusted import refusing

CONFIG = "config"
"""Flower's own key of a record of what is no array and no number."""
LONGEST_WHY = 200  # characters of what a client says of itself


class Hello(NamedTuple):
    """What a node says of itself before the first round.

    Attributes:
        client: its name.
        model: digest of the model that it trains.
        rows: number of its rows.
    """

    client: str
    model: str
    rows: int = 0


def hello_record(hello: Hello) -> RecordDict:
    """A node's word of itself."""
    return RecordDict({CONFIG: ConfigRecord(hello._asdict())})


def read_hello(content: RecordDict) -> Hello:
    """A node's word of itself, on the server's side; its name as it can be printed.

    Raises:
        RunError: it says something else.
    """
    with refusing(lambda reason: RunError(f"a node did not say who it is: {reason}")):
        said = content[CONFIG]
        return Hello(as_line(str(said["client"]), LONGEST_WHY), str(said["model"]), int(said.get("rows", 0)))


def wrong_model(got: str, expected: str) -> str:
    """That a client trains another model."""
    return f"it trains another model ({as_line(got[:12])}, not {expected[:12]})"


def refusal_of(error: PalimpsestError) -> str:
    """An error of ours as the reason for which a client is left out."""
    return as_line(str(error), LONGEST_WHY)
