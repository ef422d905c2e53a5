"""A local classifier of images behind HTTP on this machine, in the protocol of ``models/endpoint.py``.

It is a stand-in for somebody else's model: an example runs without a network, and one's own server can be held against
it. It listens on 127.0.0.1 alone. A request with an Idempotency-Key that was answered before is answered the same and
counts once.

Shape legend: B images, C channels, H height, W width, K classes.
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

import numpy as np
import torch

from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.errors import ModelError, PlanError
from palimpsest.files import write_atomic
from palimpsest.models.endpoint import decoded
from palimpsest.models.loaded import Loaded
from palimpsest.models.modes import asked

HOST = "127.0.0.1"
_LARGEST = 1 << 28  # bytes of a request
_REMEMBERED = 1024  # answered requests


class ServedClassifier:
    """A classifier that counts what it is asked.

    Attributes:
        queries: images that were answered, each request once.
    """

    def __init__(self, loaded: Loaded) -> None:
        """Take a model.

        Raises:
            ModelError: it is no classifier of images.
        """
        if loaded.pixels is None or not loaded.family.has_classes:
            raise ModelError(f"model {loaded.source} is {loaded.family.noun}; accepted: a classifier of images")
        self.loaded, self.pixels = loaded, loaded.pixels
        self.labels = _labels_of(loaded)
        self.queries = 0
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
            images = self._images(body)
            made = json.dumps({"labels": self.labels, "probs": self._probs(images).tolist()}).encode()
            self.queries += len(images)
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

    def _images(self, body: bytes) -> np.ndarray:
        try:
            values = json.loads(body)
            images = decoded(values["inputs"], values["shape"])
        except (KeyError, TypeError) as error:
            raise ValueError("no shape and inputs") from error
        height, width, channels = self.pixels.shape
        if images.ndim != 4 or images.shape[1:] != (channels, height, width):
            raise ValueError(f"images of {channels} x {height} x {width} are taken")
        return images

    def _probs(self, images: np.ndarray) -> np.ndarray:
        model = self.loaded.model
        with asked(model):
            logits = model(pixel_values=torch.from_numpy(images).to(next(model.parameters()).device)).logits
        probs: np.ndarray = logits.float().softmax(-1).cpu().numpy()
        return probs


def _labels_of(loaded: Loaded) -> list[str]:
    """Names of the classes, as far as they have any."""
    names = {number: name for name, number in loaded.class_names.items()}
    return [str(names.get(number, number)) for number in range(loaded.num_outputs)]


def _normalisation(pixels: PixelFormat, source: str) -> dict[str, Any]:
    if pixels.levels is not None:
        raise ModelError(f"model {source} has another normalisation than mean and std, which a description cannot say")
    return {"image_mean": list(pixels.mean), "image_std": list(pixels.std)}


def description_of(served: ServedClassifier, port: int, token_env: str | None = None) -> dict[str, Any]:
    """Fields of a ``blackbox.json`` for it."""
    size = {"image_size": [served.pixels.height, served.pixels.width]}
    said = {"url": f"http://{HOST}:{port}/probs", "labels": served.labels, **size}
    said |= _normalisation(served.pixels, served.loaded.source)
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
        self._say(200, json.dumps({"labels": served.labels, "queries": served.queries}).encode())

    def do_POST(self) -> None:
        """Probabilities, to who has the token."""
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


def server_of(served: ServedClassifier, port: int, token: str | None = None) -> ThreadingHTTPServer:
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

    def __init__(self, served: ServedClassifier, port: int, token: str | None) -> None:
        super().__init__((HOST, port), _Handler)
        self.served, self.token = served, token

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection broke."""


@contextmanager
def serving(served: ServedClassifier, port: int = 0, token: str | None = None) -> Iterator[int]:
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
