"""What enters a model as numbers: pixels, or the embeddings of its tokens. Moved, and differentiated by.

    x ← x + δ       x the pixels of an image, (B, C, H, W), or the embeddings of a text, (B, T, D)

Methods that look for the nearest example that is told otherwise, or at how strongly outputs answer to what enters, need
both and know no modality: here alone it is told apart where the numbers begin. The model itself is not changed.

Shape legend: B examples, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch, Predictions
from palimpsest.errors import ModelError
from palimpsest.models.hooked import hooked

Move = Callable[[Tensor], Tensor]
"""What enters -> what enters in its place, of the same shape."""
PIXELS = "pixel_values"


@contextmanager
def entered_instead(model: nn.Module, move: Move) -> Iterator[None]:
    """In the block, another input in the place of that of the first forward pass.

    Args:
        model: an image classifier, or one that embeds tokens.
        move: asked once in the block; an encoder and a decoder share embeddings, and the encoder asks first.
    """
    waiting = [move]

    def moved(values: Any) -> Any:
        return waiting.pop()(values) if waiting else values

    with hooked([_at_pixels(model, moved) if _takes_pixels(model) else _at_embeddings(model, moved)]):
        yield


def _takes_pixels(model: nn.Module) -> bool:
    return getattr(model, "main_input_name", None) == PIXELS


def _at_pixels(model: nn.Module, moved: Callable[[Any], Any]) -> Any:
    def hook(_module: nn.Module, arguments: Any, given: dict[str, Any]) -> Any:
        return arguments, {**given, PIXELS: moved(given[PIXELS])}

    return model.register_forward_pre_hook(hook, with_kwargs=True)


def _at_embeddings(model: Any, moved: Callable[[Any], Any]) -> Any:
    table = model.get_input_embeddings()
    return table.register_forward_hook(lambda _module, _arguments, values: moved(values))


def predict_at(model: nn.Module, batch: Batch, change: Tensor | None) -> Predictions:
    """What a model says of a batch whose inputs are moved by ``change``; None = as they are."""
    if change is None:
        return batch.predict(model)
    with entered_instead(model, lambda values: values + _fitting(change, values)):
        return batch.predict(model)


def predict_instead(model: nn.Module, batch: Batch, inputs: Tensor) -> Predictions:
    """What a model says of other inputs in the place of a batch's own."""
    with entered_instead(model, lambda values: _fitting(inputs, values)):
        return batch.predict(model)


def predict_with_entry(model: nn.Module, batch: Batch, change: Tensor | None = None) -> tuple[Predictions, Tensor]:
    """Predictions, and the inputs that they were made of, a leaf to differentiate by."""
    leaves: list[Tensor] = []

    def leaf(values: Tensor) -> Tensor:
        own = values.detach() if change is None else values.detach() + _fitting(change, values)
        leaves.append(own.requires_grad_())
        return own

    with entered_instead(model, leaf), torch.enable_grad():
        said = batch.predict(model)
    return said, leaves[0]


def entry_of(model: nn.Module, batch: Batch) -> Tensor:
    """What enters of a batch, without a graph."""
    with torch.no_grad():
        return predict_with_entry(model, batch)[1].detach()


def _fitting(change: Tensor, values: Tensor) -> Tensor:
    """The change on the device and in the precision of what it is added to.

    A change of embeddings that were padded otherwise is cut or filled at the end, where padding is.

    Raises:
        ModelError: the model reads the rows of a batch in parts.
    """
    if values.dim() == 3 and change.dim() == 3 and change.shape[1] != values.shape[1]:
        change = F.pad(change[:, : values.shape[1]], (0, 0, 0, max(0, values.shape[1] - change.shape[1])))
    if change.shape != values.shape:
        raise ModelError(
            f"inputs of shape {tuple(values.shape)} where {tuple(change.shape)} were to be changed: the model reads "
            "the rows of a batch in parts; accepted: rows that it reads together; give one of a batch to itself with "
            "--set training.batch_size=1"
        )
    return change.to(values.device, values.dtype)
