"""Can the Hugging Face Hub be asked? Its client tries each file six times, for half a minute, before it says no."""

from __future__ import annotations

import os
import socket
from urllib.parse import urlsplit
from urllib.request import getproxies

_PATIENCE = 3.0  # seconds for a first connection
YES = frozenset({"1", "ON", "YES", "TRUE"})
AWAY = (
    "the Hub cannot be reached and what is in its cache is not enough; give a local folder or file (fetched elsewhere "
    "with `hf download`), or try again with a network. HF_HUB_OFFLINE=1 keeps every command to the cache"
)


def is_reachable() -> bool:
    """Would a request get anywhere? Behind a proxy that is not known before, and the answer is yes."""
    if any(os.environ.get(name, "").upper() in YES for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")):
        return False
    if getproxies():
        return True
    endpoint = urlsplit(_endpoint())
    port = endpoint.port or (80 if endpoint.scheme == "http" else 443)
    try:
        socket.create_connection((endpoint.hostname or "", port), timeout=_PATIENCE).close()
    except OSError:
        return False
    return True


def how_to_pin(name: str) -> str:
    """Where the commit of a Hub name is found, in words."""
    return (
        f"a Hub name (owner/name) needs --revision COMMIT, so that it always means the same weights: the newest is the "
        f"hash at {_endpoint()}/{name}/commits/main; a local folder needs none"
    )


def _endpoint() -> str:
    """Address of the Hub, as its client has it."""
    from huggingface_hub.constants import ENDPOINT

    return os.environ.get("HF_ENDPOINT") or str(ENDPOINT)
