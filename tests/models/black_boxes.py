"""A tiny classifier of images, a local server that can fail in every way, and data for them."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import torch

from palimpsest.models.endpoint import decoded
from palimpsest.models.resnet import SmallResNet, SmallResNetConfig

SIDE, INNER, CLASSES = 8, 4, 4


def tiny_net() -> SmallResNet:
    """4 classes of 8 x 8 grey images."""
    torch.manual_seed(0)
    config = SmallResNetConfig(
        widths=(4, 8),
        depths=(1, 1),
        num_channels=1,
        image_size=SIDE,
        image_mean=[0.5],
        image_std=[0.5],
        num_labels=CLASSES,
    )
    return SmallResNet(config).eval()


def probs_of(net: SmallResNet) -> Callable[[Any], torch.Tensor]:
    """A function that answers as the network."""

    def answer(images: Any) -> torch.Tensor:
        with torch.no_grad():
            return net(pixel_values=torch.as_tensor(images)).logits.softmax(-1)

    return answer


def write_rows(path: Path, number: int = 12, side: int = INNER) -> Path:
    """Dark and light pictures, classes 0 and 1, in turn."""
    drawn = np.random.default_rng(0).integers(0, 100, (number, side, side, 1))
    label = np.arange(number) % 2
    np.savez(path, x=(drawn + 155 * label[:, None, None, None]).astype(np.uint8), y=label)
    return path


Reply = tuple[int, dict[str, str], bytes] | float
"""Status, headers and body, or seconds of silence."""


@contextmanager
def scripted(
    replies: list[Reply | None],
    net: SmallResNet,
    seen: list[Any] | None = None,
    certificate: tuple[str, str] | None = None,
) -> Iterator[str]:
    """A real server on this machine that plays one reply after another; None, and what comes after, is right.

    Args:
        replies: taken from the front.
        net: gives the right answers.
        seen: filled with headers and number of images of each request.
        certificate: files of one and of its key: over TLS.
    """
    answer, record = probs_of(net), [] if seen is None else seen

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            values = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            images = decoded(values["inputs"], values["shape"])
            record.append((dict(self.headers), len(images)))
            reply = replies.pop(0) if replies else None
            if isinstance(reply, float):
                stop.wait(reply)
                self.close_connection = True
                return
            right = json.dumps({"probs": answer(images).tolist()}).encode()
            status, headers, body = reply or (200, {}, right)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    stop = Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/probs"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


def description(url: str, **more: Any) -> dict[str, Any]:
    """Fields of a blackbox.json for the tiny network."""
    return {"url": url, "labels": list("abcd"), "image_size": SIDE, "image_mean": [0.5], "image_std": [0.5], **more}


def write_box(path: Path, url: str, **more: Any) -> Path:
    """The file itself."""
    path.write_text(json.dumps(description(url, **more)), encoding="utf-8")
    return path
