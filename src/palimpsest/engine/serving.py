"""A local model behind HTTP on this machine, in the protocol of its kind of black box (``models/black_boxes``).

It is a stand-in for somebody else's model: an example runs without a network, and one's own server can be held against
it. It listens on 127.0.0.1 alone. A request with an Idempotency-Key that was answered before is answered the same and
counts once.
"""

from __future__ import annotations

import hmac
import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from palimpsest.errors import ModelError, PlanError
from palimpsest.files import write_atomic
from palimpsest.models.black_boxes import all_boxes
from palimpsest.models.loaded import Loaded

HOST = "127.0.0.1"
_LARGEST = 1 << 28  # bytes of a request
_REMEMBERED = 1024  # answered requests


class ServedModel:
    """A model that counts what it is asked.

    Attributes:
        queries: rows that were answered, each request once.
        box: the kind of black box that it is.
    """

    def __init__(self, loaded: Loaded) -> None:
        """Take a model.

        Raises:
            ModelError: no kind of black box is like it.
        """
        box = next((box for box in all_boxes() if box.serves(loaded)), None)
        if box is None:
            raise ModelError(
                f"model {loaded.source} is {loaded.family.noun}; accepted: {', '.join(box.name for box in all_boxes())}"
            )
        self.loaded, self.box, self.queries = loaded, box, 0
        self._lock = Lock()
        self._answered: OrderedDict[str, bytes] = OrderedDict()

    def answer(self, body: bytes, key: str | None) -> bytes:
        """What is answered to a request.

        Raises:
            ValueError: it is none.
        """
        with self._lock:
            if key is not None and key in self._answered:
                return self._answered[key]
            said, rows = self._said(body)
            made = json.dumps(said).encode()
            self.queries += rows
            if key is not None:
                self._answered[key] = made
                if len(self._answered) > _REMEMBERED:
                    self._answered.popitem(last=False)
            return made

    def forget(self) -> None:
        """Begin to count anew, and know no answered request."""
        with self._lock:
            self.queries = 0
            self._answered.clear()

    def _said(self, body: bytes) -> tuple[dict[str, Any], int]:
        try:
            return self.box.answered(json.loads(body), self.loaded)
        except (KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:
            raise ValueError("the request does not have the fields that are documented") from error


def description_of(served: ServedModel, port: int, token_env: str | None = None) -> dict[str, Any]:
    """Fields of a ``blackbox.json`` for it."""
    said = {"kind": served.box.name, "url": f"http://{HOST}:{port}/", **served.box.described(served.loaded)}
    return said | ({} if token_env is None else {"auth_env": token_env})


def write_description(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write a ``blackbox.json``."""
    write_atomic(Path(path), json.dumps(values, indent=2) + "\n")


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    timeout = 60
    server: _Server

    def do_GET(self) -> None:
        """How many queries were answered."""
        served = self.server.served
        self._say(200, json.dumps({"kind": served.box.name, "queries": served.queries}).encode())

    def do_POST(self) -> None:
        """An answer, to who has the token."""
        body, token = self._body(), self.server.token
        said = self.headers.get("Authorization", "").encode()
        if body is None:
            return
        if token is not None and not hmac.compare_digest(said, f"Bearer {token}".encode()):
            self._say(401, b'{"error": "credential"}')
            return
        try:
            self._say(200, self.server.served.answer(body, self.headers.get("Idempotency-Key")))
        except ValueError as error:
            self._say(400, json.dumps({"error": str(error)}).encode())

    def _body(self) -> bytes | None:
        said = self.headers.get("Content-Length", "")
        length = int(said) if said.isdecimal() else -1
        if not 0 <= length <= _LARGEST:
            self.close_connection = True
            self._say(413 if length > _LARGEST else 411, b'{"error": "length"}')
            return None
        return self.rfile.read(length)

    def _say(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing is logged: what is asked is nobody's business."""


def server_of(served: ServedModel, port: int, token: str | None = None) -> ThreadingHTTPServer:
    """A server on this machine alone; port 0 takes a free one.

    Raises:
        PlanError: the port is taken.
    """
    try:
        made = _Server(served, port, token)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PlanError(f"port {port} of {HOST} cannot be had ({reason}); give another, or 0 for a free one") from None
    return made


class _Server(ThreadingHTTPServer):
    """One that says nothing where a client goes away."""

    daemon_threads = True

    def __init__(self, served: ServedModel, port: int, token: str | None) -> None:
        super().__init__((HOST, port), _Handler)
        self.served, self.token = served, token

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection broke."""


@contextmanager
def serving(served: ServedModel, port: int = 0, token: str | None = None) -> Iterator[int]:
    """Serve in a thread for the time of the block.

    Yields:
        The port.
    """
    server = server_of(served, port, token)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
