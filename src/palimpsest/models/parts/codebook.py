"""A codebook bottleneck: the output of a block goes on as the sum of a few codes, and nothing else of it goes on.

Source: "CodeUnlearn: Amortized Zero-Shot Machine Unlearning in Language Models Using Discrete Concept", ICLR 2025
submission; known from notes on the paper and its reviews, not from its text. It sits behind the residual sum of a
block, so that nothing passes it by.

    n = a / rms(a),   h = ReLU(W_e n + b_e),   ids = the S codes c_k of the largest cos(h, c_k)
    q = Σ_{k in ids} (1 − deleted_k) c_k,   ã = length · (W_d ReLU(q) + b_d)
    y <- a + alpha · (ã − a)

A code is deleted as far as ``deleted`` says: 0 not at all, 1 wholly. With "drop" its place stays empty; with "reselect"
the next best code that is not deleted takes it, ``deleted`` times. To the gradient the choice is not there (straight
through): q is h for the encoder, and the sum for the codes.

Departs from the paper: what is coded has length 1, and one learned number gives it back its length (else block and
codes outgrow each other, because the choice looks at directions alone). The encoder begins as (n, −n) and the
decoder as its inverse, where the widths allow it. Where the ReLU of the decoder stands is a reconstruction.
Official code: none.

Shape legend: D width of the block, C of a code, K codes, S of them chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.models.parts.part import Part, PartConfig

COMMITMENT = 0.25
CodeSemantics = Literal["drop", "reselect"]


class CodebookConfig(PartConfig):
    """Options of a codebook."""

    width: int = Field(ge=1)
    """D, of the block's output."""
    code_width: int = Field(ge=1)
    """C, numbers of a code; twice the width lets encoder and decoder begin as each other's inverse."""
    codes: int = Field(ge=1)
    """K, codes in the book."""
    chosen: int = Field(default=8, ge=1)
    """S, codes that stand for a position; 8 in the paper."""

    @model_validator(mode="after")
    def _has_as_many(self) -> CodebookConfig:
        if self.chosen > self.codes:
            raise ValueError(f"{self.chosen} of {self.codes} codes cannot be chosen; accepted: at most codes")
        return self


class CodePass(NamedTuple):
    """What a codebook made of some positions.

    Attributes:
        hidden: (..., C), h.
        ids: (..., S), the codes chosen, the nearest first, deleted ones among them.
        decoded: (..., D), ã.
        off: (...), ‖n − ã / length‖² / D + ‖h − q‖² / C; its gradient is the true one, not straight through.
        size: (...), Σ_{k in ids} ‖c_k‖₁.
    """

    hidden: Tensor
    ids: Tensor
    decoded: Tensor
    off: Tensor
    size: Tensor


def cosines(hidden: Float[Tensor, "... C"], codes_KC: Float[Tensor, "K C"]) -> Float[Tensor, "... K"]:
    """cos(h, c_k); 0 for a vector of zeros.

    >>> cosines(torch.tensor([3.0, 0.0]), torch.tensor([[2.0, 0.0], [0.0, 1.0]])).tolist()
    [1.0, 0.0]
    """
    return F.normalize(hidden, dim=-1) @ F.normalize(codes_KC, dim=-1).T


def of_length_one(said: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """A / rms(a): a root mean square of 1.

    >>> of_length_one(torch.tensor([3.0, -3.0])).tolist()
    [1.0, -1.0]
    """
    return said / said.square().mean(-1, keepdim=True).add(1e-12).sqrt()


def straight_through(hidden: Float[Tensor, "... C"], quantised: Float[Tensor, "... C"]) -> Float[Tensor, "... C"]:
    """The value of q; its gradient goes to h as if it were h, and to q.

    >>> h = torch.tensor([2.0], requires_grad=True)
    >>> (3 * straight_through(h, torch.tensor([5.0]))).backward()
    >>> h.grad.item()
    3.0
    """
    return quantised + (hidden - hidden.detach())


def held_together(hidden: Float[Tensor, "... C"], quantised: Float[Tensor, "... C"]) -> Float[Tensor, "..."]:
    """‖sg(h) − q‖² / C for the codes, and a quarter of ‖h − sg(q)‖² / C for the encoder, which nothing else holds back.

    >>> held_together(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 3.0])).item()
    2.5
    """
    return (hidden.detach() - quantised).square().mean(-1) + COMMITMENT * (hidden - quantised.detach()).square().mean(
        -1
    )


class Codebook(Part):
    """Codes in the place of a block's output; the deleted ones are told by a mask that can be undone."""

    Config = CodebookConfig
    kind = "codebook"
    folds_when_saved = False
    mixes = ("deleted", "reselects", "request")

    deleted: Tensor
    reselects: Tensor
    request: Tensor
    usage: Tensor

    def __init__(self, config: CodebookConfig) -> None:
        super().__init__(config)
        width, inner = config.width, config.code_width
        self.encoder, self.decoder = nn.Linear(width, inner), nn.Linear(inner, width)
        if inner == 2 * width:
            _become_inverse(self.encoder, self.decoder)
        self.length = nn.Parameter(torch.ones(()))
        self.codes = nn.Parameter(torch.randn(config.codes, inner).abs() / (config.chosen * inner**0.5))
        self.register_buffer("deleted", torch.zeros(config.codes))
        self.register_buffer("reselects", torch.zeros(config.codes, dtype=torch.bool))
        self.register_buffer("request", torch.zeros(config.codes, dtype=torch.int64))
        self.register_buffer("usage", torch.zeros(config.codes, dtype=torch.int64))
        self.hidden, self.chosen, self.terms = nn.Identity(), nn.Identity(), nn.Identity()
        self.lately: list[tuple[Tensor, Tensor]] = []  # (ids, hidden) of the step at hand, for the revival

    @classmethod
    def example(cls, at: str, width: int) -> CodebookConfig:
        """A few codes, two of them chosen."""
        return CodebookConfig(at=at, width=width, code_width=2 * width, codes=12, chosen=2)

    def forward(self, said: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
        """ã."""
        return self.through(said).decoded

    def acting(self, said: Tensor) -> Tensor:
        """Codes in the place of what the block said; ``hidden``, ``chosen`` and ``terms`` can be listened to."""
        made = self.through(said)
        self.hidden(made.hidden)
        self.chosen(made.ids)
        self.terms(torch.stack([made.off, made.size], -1))
        return made.decoded if self.alpha == 1 else said + self.alpha * (made.decoded - said)

    def through(self, said: Float[Tensor, "... D"]) -> CodePass:
        """Encode, choose, sum and decode."""
        unit = of_length_one(said)
        hidden = F.relu(self.encoder(unit))
        with torch.no_grad():
            cosine = cosines(hidden, self.codes)
            ids = cosine.topk(self.config.chosen, dim=-1).indices
        chosen = F.embedding(ids, self.codes)  # (..., S, C); indexing has a gradient that takes ten times as long
        quantised = self._summed(chosen, ids, cosine)
        decoded = self.length * self.decoder(F.relu(straight_through(hidden, quantised)))
        off = (unit.detach() - self.decoder(F.relu(quantised))).square().mean(-1) + held_together(hidden, quantised)
        size = F.embedding(ids, self.codes.abs().sum(-1, keepdim=True)).sum((-1, -2))
        return CodePass(hidden, ids, decoded, off, size)

    def nearest(self, said: Float[Tensor, "... D"], count: int) -> Int[Tensor, "... N"]:
        """The so many codes nearest to what the block said, whether deleted or not."""
        hidden = F.relu(self.encoder(of_length_one(said)))
        found: Tensor = cosines(hidden, self.codes).topk(count, dim=-1).indices
        return found

    def _summed(self, chosen: Tensor, ids: Tensor, cosine: Tensor) -> Tensor:
        if not bool(self.deleted.any()):
            return chosen.sum(-2)
        kept = chosen * (1 - self.deleted[ids])[..., None]
        if not bool((self.reselects & (self.deleted > 0)).any()):
            return kept.sum(-2)
        share, others = replacements(ids, cosine, self.deleted, self.reselects)
        return kept.sum(-2) + (share[..., None] * self.codes[others]).sum(-2)

    @torch.no_grad()
    def delete(self, which: Int[Tensor, "M"], semantics: CodeSemantics) -> int:
        """Delete some codes, and leave those that an earlier request deleted to it; the number of this one, from 1."""
        number, which = int(self.request.max()) + 1, which[self.deleted[which] == 0]
        self.deleted[which] = 1.0
        self.reselects[which] = semantics == "reselect"
        self.request[which] = number
        return number

    def mask(self) -> dict[str, Tensor]:
        """A copy of what says which codes are deleted."""
        return {name: getattr(self, name).clone() for name in self.mixes}

    @torch.no_grad()
    def put_back(self, mask: Mapping[str, Tensor]) -> None:
        """Which codes are deleted as it was when ``mask`` was asked."""
        for name, tensor in mask.items():
            getattr(self, name).copy_(tensor)

    @torch.no_grad()
    def undo(self, request: int) -> None:
        """Bring back what a request deleted, to the bit.

        Raises:
            ModelError: there is no such request.
        """
        which_K = (self.request == request) & (self.request > 0)
        if not bool(which_K.any()):
            there = sorted(set(self.request.tolist()) - {0})
            known = f"accepted: {', '.join(map(str, there))}" if there else "no code of it is deleted"
            raise ModelError(f"codebook at {self.config.at}: request {request} deleted no codes; {known}")
        self.deleted[which_K] = 0.0
        self.reselects[which_K] = False
        self.request[which_K] = 0


def replacements(
    ids: Int[Tensor, "... S"], cosine: Float[Tensor, "... K"], deleted_K: Tensor, reselects_K: Tensor
) -> tuple[Float[Tensor, "... S"], Int[Tensor, "... S"]]:
    """For each place, how much of another code stands in it, and which: the next best ones that are not deleted.

    Args:
        ids: the codes chosen when nothing is deleted.
        cosine: of all codes.
        deleted_K: how far each is deleted, 0 to 1.
        reselects_K: is its place to be taken by another?

    >>> replacements(
    ...     torch.tensor([0, 1]), torch.tensor([0.9, 0.8, 0.1, 0.7]), torch.tensor([1.0, 0, 0, 0]), torch.ones(4).bool()
    ... )
    (tensor([0., 1.]), tensor([1, 3]))
    """
    gone_K = deleted_K > 0
    order = torch.where(gone_K & reselects_K, 1, torch.where(gone_K, 2, 0))[ids]  # kept, to be replaced, left empty
    places = order.argsort(dim=-1, stable=True)
    share = (deleted_K * (gone_K & reselects_K))[ids.gather(-1, places)]
    value, others = cosine.masked_fill(gone_K, -torch.inf).topk(ids.shape[-1], dim=-1)
    return share.masked_fill(value == -torch.inf, 0.0), others


def _become_inverse(encoder: nn.Linear, decoder: nn.Linear) -> None:
    """ReLU(a) and ReLU(−a) say a; their difference is a again."""
    width = encoder.in_features
    with torch.no_grad():
        eye = torch.eye(width)
        encoder.weight.copy_(torch.cat([eye, -eye]))
        decoder.weight.copy_(torch.cat([eye, -eye], 1))
        encoder.bias.zero_()
        decoder.bias.zero_()


def codebooks_of(model: Any) -> list[Codebook]:
    """The codebooks of a model, the oldest first."""
    from palimpsest.models.parts import parts_of

    return [part for part in parts_of(model) if isinstance(part, Codebook)]


PART = Codebook
