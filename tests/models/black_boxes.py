"""Tiny models of every kind of black box, a local server that can fail in every way, and data for them.

A new kind of black box is tested by one more ``Stand`` in ``STANDS``.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import ascii_lowercase
from threading import Event, Thread
from typing import Any

import numpy as np
import torch
from tests.contract.letters import letters
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

from palimpsest.models.black_boxes import box_named
from palimpsest.models.families import of_model
from palimpsest.models.families.image_classifier import ImageClassifier
from palimpsest.models.loaded import Loaded
from palimpsest.models.resnet import SmallResNet, SmallResNetConfig

SIDE, INNER, CLASSES, WORDS = 8, 4, 4, 35


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


def tiny_lm() -> LlamaForCausalLM:
    """35 words of width 8, 64 positions."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


def tiny_texts() -> BertForSequenceClassification:
    """4 classes of texts of 35 words."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        num_labels=CLASSES,
        initializer_range=0.5,
    )
    return BertForSequenceClassification(config).eval()


@dataclass(frozen=True)
class Stand:
    """What stands in for one kind of black box.

    Attributes:
        kind: its name.
        model: makes a tiny one.
        fields: of its description, but for kind and url.
        wrong: right answer of ``ROWS`` probes -> answers that are none, with what is said of them.
    """

    kind: str
    model: Callable[[], Any]
    fields: Mapping[str, Any]
    wrong: Sequence[tuple[Callable[[dict[str, Any]], Any], str]]

    def loaded(self, model: Any) -> Loaded:
        """The model as one that is served."""
        if self.kind == "image_classifier":
            return ImageClassifier().loaded(model, "tiny")
        return Loaded(model, None, "tiny", family=of_model(model))

    def answer(self, model: Any, values: Mapping[str, Any]) -> dict[str, Any]:
        """What is right, without labels, which may be left out."""
        said = box_named(self.kind).answered(values, self.loaded(model))[0]
        return {name: value for name, value in said.items() if name != "labels"}


ROWS = 3
_HALF = [[0.5, 0.5, 0.0, 0.0]] * ROWS
_LABELS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda right: {"probs": [[0.5, 0.5]] * ROWS}, f"3 x 2 probabilities for 3 .* and {CLASSES} labels"),
    (lambda right: {"probs": _HALF[:2]}, "2 x 4 probabilities for 3"),
    (lambda right: {"probs": [[0.5, 0.5, 0.0, float("nan")]] * ROWS}, "not a number"),
    (lambda right: {"probs": [[0.9, 0.9, 0.0, 0.0]] * ROWS}, "sums to 1.8"),
    (lambda right: {"probs": [[1.5, -0.5, 0.0, 0.0]] * ROWS}, "or one is negative"),
    (lambda right: {"probs": _HALF, "labels": ["a", "b", "c", "x"]}, "labels are not those that were declared"),
    (lambda right: {"probs": "no"}, "no list of lists"),
    (lambda right: {"probs": ["1000", "0100", "0010"]}, "no list of lists"),
    (lambda right: {"probs": [{"0": 0.2, "1": 0.8, "0.0": 0, "0e0": 0}] * ROWS}, "no list of lists"),
    (lambda right: {"probs": [[10**400, 0, 0, 0]] * ROWS}, "no list of lists of numbers"),
    (lambda right: {}, 'no object with "probs"'),
]
_LANGUAGE: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda right: right | {"logprobs": right["logprobs"][:2]}, "lengths of the 3 rows"),
    (lambda right: right | {"top": [row[:-1] for row in right["top"]]}, "lengths of the 3 rows"),
    (lambda right: right | {"logprobs": [[float("nan")] * 7] * ROWS}, "not a number"),
    (lambda right: right | {"logprobs": [[0.5] * 7] * ROWS}, "above 0"),
    (lambda right: right | {"top": [[WORDS] * 8] * ROWS}, "no token id; they go from 0 to 34"),
    (lambda right: right | {"top": [[0.5] * 8] * ROWS}, "no token id"),
    (lambda right: right | {"top": [[(t + 1) % WORDS for t in row] for row in right["top"]],
                            "logprobs": [[-0.01] * 7] * ROWS}, "not the most likely one"),
    (lambda right: right | {"vocabulary": WORDS + 1}, "vocabulary is not the one that was declared"),
    (lambda right: right | {"top": "no"}, "no list of lists"),
    (lambda right: right | {"top": [{str(n): 0.5 for n in range(8)}] * ROWS}, "no list of lists"),
    (lambda right: right | {"top": [[10**400] * 8] * ROWS}, "no list of lists of numbers"),
    (lambda right: {"top": right["top"]}, 'no object with "logprobs" and "top"'),
]  # fmt: skip

STANDS = (
    Stand(
        "image_classifier",
        tiny_net,
        {"labels": list("abcd"), "image_size": SIDE, "image_mean": [0.5], "image_std": [0.5]},
        _LABELS,
    ),
    Stand(
        "causal_lm",
        tiny_lm,
        {"vocabulary": WORDS, "longest": 64, "prompt_width": 8, "prompt_scale": 0.5},
        _LANGUAGE,
    ),
    Stand(
        "text_classifier",
        tiny_texts,
        {"labels": [f"LABEL_{n}" for n in range(CLASSES)], "vocabulary": WORDS, "longest": 64},
        _LABELS,
    ),
)


def stand(kind: str) -> Stand:
    """That of a kind."""
    return next(one for one in STANDS if one.kind == kind)


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


def write_texts(path: Path, number: int = 6, tag: str = "r") -> Path:
    """Questions of 4 letters with answers of 3 to 5, drawn by the tag."""
    drawn = np.random.default_rng(list(tag.encode()))
    words = ["".join(drawn.choice(list(ascii_lowercase), size)) for n in range(number) for size in (4, 3 + n % 3)]
    rows = [{"id": f"{tag}{n}", "prompt": words[2 * n], "completion": words[2 * n + 1]} for n in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_labelled(path: Path, number: int = 6) -> Path:
    """Texts of 6 letters with classes 0 and 1 in turn."""
    drawn = np.random.default_rng(0)
    rows = [{"id": f"l{n}", "text": "".join(drawn.choice(list("abcdef"), 6)), "label": n % 2} for n in range(number)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


Reply = tuple[int, dict[str, str], bytes] | float
"""Status, headers and body, or seconds of silence."""


@contextmanager
def scripted(
    replies: list[Any],
    model: Any,
    seen: list[Any] | None = None,
    certificate: tuple[str, str] | None = None,
    *,
    kind: str = "image_classifier",
) -> Iterator[str]:
    """A real server on this machine that plays one reply after another; None, and what comes after, is right.

    Args:
        replies: taken from the front: a ``Reply``, or a function of the right answer.
        model: gives the right answers.
        seen: filled with headers and number of rows of each request.
        certificate: files of one and of its key: over TLS.
        kind: of black box.
    """
    made, record = stand(kind), [] if seen is None else seen

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            values = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            right = made.answer(model, values)
            record.append((dict(self.headers), len(right.get("probs", right.get("top", ())))))
            reply = replies.pop(0) if replies else None
            if isinstance(reply, float):
                stop.wait(reply)
                self.close_connection = True
                return
            if reply is None or callable(reply):
                reply = (200, {}, json.dumps(reply(right) if reply else right).encode())
            status, headers, body = reply
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)
            self.close_connection = self.close_connection or "Content-Length" in headers

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
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


def description(url: str, kind: str = "image_classifier", **more: Any) -> dict[str, Any]:
    """Fields of a blackbox.json for a tiny model."""
    return {"kind": kind, "url": url, **stand(kind).fields, **more}


def write_box(path: Path, url: str, kind: str = "image_classifier", **more: Any) -> Path:
    """The file itself, and a tokenizer of letters beside it where it needs one."""
    if box_named(kind).reads_tokens:
        letters().save_pretrained(path.parent / "letters")
        more = {"tokenizer": str(path.parent / "letters"), **more}
    path.write_text(json.dumps(description(url, kind, **more)), encoding="utf-8")
    return path
