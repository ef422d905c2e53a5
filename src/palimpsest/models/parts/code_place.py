"""A new codebook for a model: where it sits, how wide it is, and where its codes begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.draws import shuffled
from palimpsest.errors import ModelError, PlanError
from palimpsest.models.families import of_model
from palimpsest.models.modes import asked
from palimpsest.models.parts import detach
from palimpsest.models.parts.code_start import sphere_means
from palimpsest.models.parts.codebook import Codebook, CodebookConfig, codebooks_of, of_length_one
from palimpsest.models.places import module_at
from palimpsest.models.rows_said import said_of_rows

_ROWS = 256  # of the learn set, that the codes begin at
_VECTORS = 16384  # of their tokens, at most
_AT_ONCE = 32
_CARRY = (
    "decoders, models with an encoder and a decoder, transformers that classify texts or images, or a module that "
    "answers with (rows, tokens, width) (code_learn.at); networks of feature maps (CNN, ResNet) carry no codebook"
)


class BookOptions(Protocol):
    """What is said of a codebook that is to be made."""

    @property
    def layer(self) -> int | None:
        """Number of the block."""

    @property
    def at(self) -> str:
        """Name of a module in its place."""

    @property
    def codes(self) -> int:
        """K."""

    @property
    def chosen(self) -> int:
        """S."""

    @property
    def code_width(self) -> int:
        """C, or 0."""

    @property
    def rounds(self) -> int:
        """Of k-means."""


def book_place(model: nn.Module, options: BookOptions) -> str:
    """Name of the module behind which a codebook goes.

    Raises:
        PlanError: the model has no blocks that could be told, or not so many.
        ModelError: a module that was named is not there.
    """
    if options.at:
        module_at(model, options.at, "code_learn.at")
        return options.at
    names = of_model(model).bottlenecks(model)
    if not names:
        raise PlanError(f"code_learn: the model has no list of blocks that answer with tokens; accepted: {_CARRY}")
    layer = options.layer
    if layer is not None and layer >= len(names):
        raise PlanError(
            f"code_learn.layer = {layer}: one can sit behind {len(names)} blocks of the model; accepted: 0 to "
            f"{len(names) - 1}"
        )
    return names[len(names) // 2 if layer is None else layer]


def new_codebook(model: nn.Module, examples: Any, options: BookOptions, seed: int) -> Codebook:
    """A codebook that begins at what a block says of some rows; one that is there already is gone on with.

    Args:
        model: at the weights that the run starts from.
        examples: of the learn set.
        options: where, and how large.
        seed: of the rows and of the centres.
    """
    place = book_place(model, options)
    for book in codebooks_of(model):
        if book.config.at == place:
            detach(model, [book])
            book.continues = True
            return book
    said_ND = _said_of(model, place, examples, seed)
    width = said_ND.shape[-1]
    inner = options.code_width or 2 * width
    try:
        config = CodebookConfig(at=place, width=width, code_width=inner, codes=options.codes, chosen=options.chosen)
    except ValueError:
        raise PlanError(
            f"code_learn.chosen = {options.chosen} of code_learn.codes = {options.codes}; accepted: at most as many as "
            "there are codes"
        ) from None
    book = Codebook(config)
    with torch.no_grad():
        book.length.copy_(said_ND.square().mean(-1).sqrt().median())  # the first token of a text may be a giant
        hidden_NC = F.relu(book.encoder.to(said_ND.device)(of_length_one(said_ND)))
        book.codes.copy_(sphere_means(hidden_NC, options.codes, seed, options.rounds) / options.chosen)
    return book


def _said_of(model: nn.Module, place: str, examples: Any, seed: int) -> Float[Tensor, "N D"]:
    """What a module says of the tokens of some rows, drawn by the seed, in fp32."""
    ids, found = shuffled(examples.plain().ids, seed, "codebook/start", 0)[:_ROWS], []
    with asked(model):
        for _, said, is_token_BT in said_of_rows(model, place, examples, ids, _AT_ONCE):
            found.append(_of_tokens(said, place)[is_token_BT])
    said_ND = torch.cat(found).float()
    kept = shuffled([str(n) for n in range(len(said_ND))], seed, "codebook/tokens", 0)[:_VECTORS]
    return said_ND[torch.tensor([int(n) for n in kept], device=said_ND.device)]


def _of_tokens(said: Any, place: str) -> Tensor:
    if not isinstance(said, Tensor) or said.ndim != 3:
        shape = tuple(said.shape) if isinstance(said, Tensor) else type(said).__name__
        raise ModelError(
            f"code_learn: {place} answers with {shape}, and a codebook stands behind (rows, tokens, width); accepted: "
            f"{_CARRY}"
        )
    return said


def part_name(model: nn.Module, book: Codebook, inner: str) -> str:
    """Name of a module of a codebook in a model, which may be wrapped."""
    module = getattr(book, inner)
    names: Iterator[str] = (name for name, one in model.named_modules() if one is module)
    return next(names)


def state_names(model: nn.Module, book: Codebook, tensors: Sequence[str]) -> list[str]:
    """Names of some tensors of a codebook in the model's state dict."""
    place = next(name for name, one in model.named_modules() if one is book)
    return [f"{place}.{tensor}" for tensor in tensors]
