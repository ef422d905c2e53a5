"""Prompts that are keys and values before those of some attentions: what their kinds share.

    [K_p ; V_p] of a row = Σ_parts Σ_m w_m P_m

Parts of a kind act as one: the prefix has the length of one of them, however many tasks there are, and the first of
them gives it. ``alpha`` scales the values of a part, so that at 0 it is not there.

Shape legend: B rows, L layers, M prompts of a part, P positions of a prefix, W width of a key over all heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from palimpsest.errors import ModelError, PlanError
from palimpsest.models.attention_prefix import Seat
from palimpsest.models.parts import parts_of
from palimpsest.models.parts.part import PartConfig
from palimpsest.models.parts.prompting import PromptConfig, PromptPart, in_the_graph
from palimpsest.models.prompt_places import attention_at, attention_places, hidden_width, key_width, reads_last


class PrefixConfig(PromptConfig):
    """Options of all kinds."""

    layers: tuple[PartConfig, ...] = Field(min_length=1)
    """The attentions at which it sits."""
    width: int = Field(ge=1)
    """Numbers of a key, over all heads."""
    length: int = Field(default=5, ge=1)
    """Positions of the prefix."""


class PrefixPart(PromptPart):
    """Gives prefixes by the weights of a pass. A kind gives ``prompt_LM2PW`` and ``share``."""

    prompt_LM2PW: nn.Parameter

    def __init__(self, config: Any, prompts: int) -> None:
        super().__init__(config, prompts)
        self._team: tuple[PrefixPart, ...] = ()
        self._weights: tuple[Tensor, ...] = ()
        self._read: tuple[Tensor, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to a pass."""
        return {**super().__getstate__(), "_team": (), "_weights": (), "_read": ()}

    @property
    def places(self) -> tuple[str, ...]:
        """The attentions."""
        return tuple(layer.at for layer in self.config.layers)

    def attach(self, model: nn.Module) -> None:
        """Sit before the keys and values of every place."""
        modules = [attention_at(model, place, f"part {self.kind!r}") for place in self.places]
        like = next(model.parameters())
        self.to(device=like.device, dtype=like.dtype)
        for number, module in enumerate(modules):
            self.holds(Seat(model, module, self, number))
        if self.asks:
            self.ask_before(model)

    def acts_with(self, team: Sequence[Any], weights: Sequence[Tensor], read: Sequence[Tensor] = ()) -> None:
        """What a pass gives it.

        Args:
            team: the parts that act as one, this one among them.
            weights: (B, M) for each layer, or one for all.
            read: tensors that a choice was made by, kept in the graph.
        """
        self._team, self._weights, self._read = tuple(team), tuple(weights), tuple(read)

    def prefix_at(self, place: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the whole team, if this is its first part."""
        if self.is_off or (self.asks and (not self._team or self._team[0] is not self)):
            return None
        found = [part.given_at(place) for part in self._team or (self,)]
        keys, values = (torch.stack(of).sum(0) if len(of) > 1 else of[0] for of in zip(*found, strict=True))
        return keys, values

    def given_at(self, place: int) -> tuple[Tensor, Tensor]:
        """Its own share, (B or 1, P, W) each."""
        prompt_M2PW = self.prompt_LM2PW[place]
        if self._weights:
            weight_BM = self._weights[place if len(self._weights) > 1 else 0]
            prompt_B2PW = torch.einsum("bm,mkpw->bkpw", weight_BM.to(prompt_M2PW.dtype), prompt_M2PW)
        else:
            prompt_B2PW = prompt_M2PW.sum(0, keepdim=True)
        values_BPW = prompt_B2PW[:, 1] if self.alpha == 1 else self.alpha * prompt_B2PW[:, 1]
        return in_the_graph(prompt_B2PW[:, 0], *self._read), values_BPW


def prefix_options(model: Any, numbers: Sequence[int], length: int) -> dict[str, Any]:
    """Options of a prefix at some blocks of a model.

    Args:
        model: a transformer.
        numbers: of its blocks.
        length: positions of the prefix.
    """
    places = [attention_places(model)[number] for number in numbers]
    return {
        "layers": tuple(PartConfig(at=place) for place in places),
        "width": key_width(model, places[0]),
        "length": length,
        "query_width": hidden_width(model),
        "read_at": "last" if reads_last(model) else "first",
    }


def check_same_prefixes(model: Any, kind: type[PrefixPart], options: Any, who: str) -> None:
    """Refuse prompts that cannot act as one with those of earlier tasks.

    Raises:
        PlanError: they sit elsewhere, or are longer or shorter.
    """
    for part in parts_of(model):
        other = part.config
        if isinstance(part, kind) and part.asks and (other.layers, other.length) != (options.layers, options.length):
            raise PlanError(
                f"{who}: prompts of earlier tasks have length {other.length} at {len(other.layers)} attentions from "
                f"{other.layers[0].at} on, and new ones {options.length} at {len(options.layers)} from "
                f"{options.layers[0].at} on; accepted: the same layers and length for all tasks"
            )


def no_layers(model: Any, asked: Sequence[int], depth: int, who: str) -> ModelError:
    """The refusal of blocks that a model does not have."""
    return ModelError(
        f"{who}: a {type(model).__name__} has blocks 0 to {depth - 1}, and none of {list(asked)}; accepted: numbers of "
        "its blocks"
    )
