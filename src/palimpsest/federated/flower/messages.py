"""What is asked and answered <-> Flower's messages. What comes from a client is looked at before it is believed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from torch import Tensor

from palimpsest.companions.round_record import Reply, Weights
from palimpsest.errors import RunError
from palimpsest.federated.flower.hello import CONFIG, LONGEST_WHY, Hello, read_hello, wrong_model
from palimpsest.federated.procedure import Errand
from palimpsest.printed import as_line
from palimpsest.untrusted import refusing

ARRAYS, METRICS, EXAMPLES = "arrays", "metrics", "num-examples"
"""Flower's own keys of its records, so that its strategies find what they need."""
WEIGHTS_BESIDE = "beside"
"""Of the record of further weights that some work looks at."""
HEADER = 4096
"""Bytes that an array may have beyond its numbers: numpy's description of them."""

LATE = "it did not answer in time"
EXPIRED = (3, 4)  # Flower's codes where a message, or the reply to it, outlived its time


def as_arrays(tensors: Weights) -> ArrayRecord:
    """Tensors as Flower carries them, in their order."""
    return ArrayRecord({name: Array(tensor.contiguous().numpy()) for name, tensor in tensors.items()})


def as_tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """And back; nothing is unpickled.

    Raises:
        RunError: an array that is none.
    """
    with refusing(lambda reason: RunError(f"an array cannot be read: {reason}")):
        return {str(name): torch.from_numpy(array.numpy().copy()) for name, array in arrays.items()}


def flattened(tensors: Weights) -> np.ndarray[Any, np.dtype[np.float64]]:
    """All tensors as one vector in fp64."""
    return torch.cat([tensor.double().flatten() for tensor in tensors.values()]).numpy()


def unflattened(vector: np.ndarray[Any, Any], like: Weights) -> dict[str, Tensor]:
    """One vector as tensors in fp32, in the shapes of others.

    >>> like = {"w": torch.zeros(1, 2), "v": torch.zeros(())}
    >>> unflattened(flattened({"w": torch.ones(1, 2), "v": torch.tensor(3.0)}), like)
    {'w': tensor([[1., 1.]]), 'v': tensor(3.)}
    """
    sizes = [tensor.numel() for tensor in like.values()]
    parts = torch.split(torch.from_numpy(np.array(vector, dtype=np.float64)), sizes)
    return {name: part.reshape(like[name].shape).float() for name, part in zip(like, parts, strict=True)}


def errand_record(errand: Errand, number: int, client: str, model: str) -> RecordDict:
    """What one client is sent.

    Args:
        errand: of one round.
        number: of the round.
        client: who is meant; a node that has another name refuses.
        model: digest of the model that the weights belong to.
    """
    config = {
        "server-round": number,
        "client": client,
        "model": model,
        "epochs": float(errand.epochs),
        "what": errand.what,
        "loss": errand.loss,
        "setting-names": list(errand.settings),
        "setting-values": [float(value) for value in errand.settings.values()],
    }
    beside = {WEIGHTS_BESIDE: as_arrays(errand.beside)} if errand.beside else {}
    return RecordDict({ARRAYS: as_arrays(errand.weights), CONFIG: ConfigRecord(config), **beside})


def read_errand(content: RecordDict, client: str) -> Errand:
    """What a client was sent, on its side."""
    config = content[CONFIG]
    settings = dict(zip(config["setting-names"], config["setting-values"], strict=True))
    weights = as_tensors(content[ARRAYS])
    errand = Errand(weights, (client,), float(config["epochs"]), str(config["what"]), settings)
    beside = as_tensors(content[WEIGHTS_BESIDE]) if WEIGHTS_BESIDE in content else {}
    return errand._replace(beside=beside, loss=bool(config["loss"]))


def reply_record(told: Reply, model: str) -> RecordDict:
    """A client's answer."""
    metrics = {EXAMPLES: int(told.examples), "loss": float(told.loss), "seconds": float(told.seconds)}
    config = ConfigRecord({"client": told.client, "model": model})
    return RecordDict({ARRAYS: as_arrays(told.delta), METRICS: MetricRecord(metrics), CONFIG: config})


def read_told(message: Message, expected: Hello, errand: Errand) -> Reply:
    """A client's answer, on the server's side.

    Raises:
        RunError: what is wrong with it, in one line.
    """
    if message.has_error():
        if message.error.code in EXPIRED:
            raise RunError(LATE)
        raise RunError(f"it failed: {as_line(_last_line(str(message.error.reason)), LONGEST_WHY)}")
    with refusing(lambda reason: RunError(f"its answer cannot be read: {as_line(reason, LONGEST_WHY)}")):
        content = message.content
        told = _read(content, expected, errand)
    return told


def _read(content: RecordDict, expected: Hello, errand: Errand) -> Reply:
    said = read_hello(content)
    if said.client != expected.client:
        raise RunError(f"it answered under the name {said.client!r}")
    if said.model != expected.model:
        raise RunError(wrong_model(said.model, expected.model))
    metrics = content[METRICS]
    examples, loss, seconds = int(metrics[EXAMPLES]), float(metrics["loss"]), float(metrics["seconds"])
    if examples < 1 or math.isinf(loss) or not 0 <= seconds < math.inf:
        raise RunError(f"it said {examples} rows, a loss of {loss:g} and {seconds:g} seconds")
    return Reply(expected.client, _read_delta(content[ARRAYS], errand), examples, loss, seconds)


def _read_delta(arrays: Mapping[str, Any], errand: Errand) -> dict[str, Tensor]:
    """The tensors of an answer: statistics may have shapes of their own, a change has those of the weights."""
    if errand.what != "statistics":
        _check_shapes(arrays, errand.weights)
    delta = as_tensors(arrays)
    if errand.what != "statistics":
        _check_shapes(delta, errand.weights)  # an array may say one shape and hold another
        delta = {name: delta[name].float() for name in errand.weights}
    broken = next((name for name, tensor in delta.items() if not torch.isfinite(tensor).all()), None)
    if broken is not None:
        raise RunError(f"{broken} has values that are not finite")
    return delta


def _check_shapes(arrays: Mapping[str, Any], weights: Weights) -> None:
    """Refuse names, shapes and sizes that are not those of the weights.

    Raises:
        RunError: which.
    """
    if odd := sorted(set(arrays) ^ set(weights)):
        raise RunError(f"its tensors are not those that it was sent: {as_line(str(odd[0]), LONGEST_WHY)}")
    for name, tensor in weights.items():
        shape, sent = tuple(arrays[name].shape), tuple(tensor.shape)
        if shape != sent:
            raise RunError(f"{name} came back with the shape {list(shape)} and not {list(sent)}")
        data = getattr(arrays[name], "data", None)
        if isinstance(data, bytes) and len(data) > 8 * tensor.numel() + HEADER:
            raise RunError(f"{name} came back with {len(data)} bytes for {tensor.numel()} numbers")


def _last_line(text: str) -> str:
    r"""What went wrong, of Flower's report of an exception.

    >>> _last_line("<class 'E'>:<'\nException E occurred. Message: no rows'>")
    'no rows'
    """
    return text.rpartition("Message: ")[2].strip().removesuffix("'>").strip()
