"""Prompts beside a frozen model: what all kinds have in common.

    query -> weights -> prompts

The query of an example is what the model without any part says at the token where the class is read, behind the last
block: one more pass in each, without gradients, in eval mode. So it never depends on what is learned in prompts, nor on
the other rows of a batch or its padding. ``share`` makes weights of it, once per pass for all parts of a kind.

What hard choices leave without a gradient is kept in the graph with a factor of 0, so that whoever looks for what a
pass reads finds the keys, too.

Shape legend: B rows, T tokens, D width of the query, M prompts of a part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.data.encode.batch import ExampleSet
from palimpsest.errors import ModelError
from palimpsest.method_card import Config
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked
from palimpsest.models.parts import new_parts_of, off, parts_of
from palimpsest.models.parts.beside_cache import given_to
from palimpsest.models.parts.part import Part
from palimpsest.models.prompt_weights import entropy_of

_READ = ("input_ids", "inputs_embeds", "attention_mask", "token_type_ids", "position_ids", "pixel_values")
"""What of a model's arguments decides the query."""
STD = 0.02
"""Of fresh prompts and keys: a cosine does not mind it, and a step of Adam then turns a key far."""


class PromptConfig(Config):
    """Options of all kinds."""

    query_width: int = Field(ge=1)
    """Numbers of a query: the width of the model."""
    read_at: Literal["first", "last"] = "first"
    """Token that is the query: BERT's and ViT's [CLS], or the last one of a decoder."""


class PromptPart(Part):
    """One kind of prompts. Give ``share``, ``attach`` by way of ``ask_before`` and ``_forget_pass``."""

    Config: ClassVar[type[PromptConfig]] = PromptConfig
    folds_when_saved = False
    rows_M: Tensor

    def __init__(self, config: Any, prompts: int) -> None:
        super().__init__(config)
        self.register_buffer("rows_M", torch.zeros(prompts, dtype=torch.long))
        self.weight_BM: Tensor | None = None
        self.pull_B: Tensor | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Without what belongs to a pass: it is no leaf, and cannot be copied."""
        return {**self.__dict__, "weight_BM": None, "pull_B": None}

    @property
    def asks(self) -> bool:
        """Does it need a query?"""
        return True

    def ask_before(self, model: nn.Module) -> None:
        """Be given weights before every pass of a model."""
        self.holds(model.register_forward_pre_hook(self._begin, with_kwargs=True))

    def _begin(self, model: nn.Module, arguments: Any, options: Any) -> None:
        """The first of the parts that act finds the query for all of them."""
        acting = [part for part in acting_prompts(model) if part.asks]
        if not acting or acting[0] is not self:
            return
        query_BD = query_of(model, given_to(model, arguments, options), self.config.read_at)
        for kind in dict.fromkeys(type(part) for part in acting):
            kind.share([part for part in acting if type(part) is kind], query_BD)

    @classmethod
    def share(cls, parts: Sequence[Any], query_BD: Float[Tensor, "B D"]) -> None:
        """Set ``weight_BM`` and ``pull_B`` of the parts of this kind that act."""
        raise NotImplementedError

    def pull(self) -> Float[Tensor, "B"] | None:
        """Of the last pass: the cosine of each row's query and the keys that it chose; None where nothing pulls."""
        return self.pull_B


def acting_prompts(model: Any) -> list[PromptPart]:
    """The prompts of a model that are on, the oldest first."""
    return [part for part in parts_of(model) if isinstance(part, PromptPart) and not part.is_off]


def new_prompts(model: Any) -> list[PromptPart]:
    """Those that the run at hand trains."""
    return [part for part in new_parts_of(model) if isinstance(part, PromptPart)]


def query_of(model: Any, given: Mapping[str, Any], read_at: str) -> Float[Tensor, "B D"]:
    """What a model without its parts says at the token where the class is read.

    Args:
        model: of transformers; its layers' modes and the random state are as before afterwards.
        given: what it is called with, by name.
        read_at: "first", or "last" that is no padding.

    Raises:
        ModelError: a cache stands for a part of the text.
    """
    cache = given.get("past_key_values")
    if cache is not None and cache.get_seq_length():
        raise ModelError("prompts are chosen by the whole text, and a cache stands for its beginning; use no cache")
    inputs = {name: given[name] for name in _READ if given.get(name) is not None}
    with asked(model), off(model):
        hidden_BTD: Tensor = model.base_model(**inputs).last_hidden_state
    if read_at == "first":
        return hidden_BTD[:, 0].detach()
    return hidden_BTD[torch.arange(len(hidden_BTD)), last_tokens(hidden_BTD, inputs.get("attention_mask"))].detach()


def last_tokens(hidden_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
    """Position of each row's last token that is no padding."""
    if mask_BT is None:
        return torch.full((len(hidden_BTD),), hidden_BTD.shape[1] - 1, device=hidden_BTD.device)
    places_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    return (places_T * (mask_BT != 0)).amax(1)


def in_the_graph(tensor: Tensor, *read: Tensor) -> Tensor:
    """A tensor as it is, with others in its graph: 0 times their sum is added.

    >>> in_the_graph(torch.tensor([1.5]), torch.tensor([2.0])).item()
    1.5
    """
    return tensor + 0.0 * sum(other.sum() for other in read)


def one_hot_weights(chosen_Bk: Tensor, prompts: int) -> Float[Tensor, "B M"]:
    """1 for what each row chose, 0 for the rest."""
    return torch.zeros(len(chosen_Bk), prompts, device=chosen_Bk.device).scatter_(1, chosen_Bk, 1.0)


def freeze_beside(model: Any, *modules: nn.Module | None) -> None:
    """Leave nothing of a model to move but its new prompts and some modules; all as it is where it has no new ones."""
    parts = new_prompts(model)
    if not parts:
        return
    kept = {id(p) for module in (*parts, *modules) if module is not None for p in module.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.requires_grad_(False)


def usage_of(weight_BM: Tensor) -> Tensor:
    """By how many rows each prompt is chosen, (M,): of soft weights, whose largest it is in size.

    >>> usage_of(torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])).tolist()
    [0, 1, 2]
    >>> usage_of(torch.tensor([[0.2, -0.9]])).tolist()
    [0, 1]
    """
    if bool(((weight_BM == 0) | (weight_BM == 1)).all()):
        return weight_BM.detach().long().sum(0)
    return torch.bincount(weight_BM.detach().abs().argmax(1), minlength=weight_BM.shape[1])


class Usage:
    """Which prompts the rows of a step chose, over its micro-batches."""

    def __init__(self) -> None:
        self._rows: Tensor | None = None

    def add(self, model: Any) -> None:
        """Count the last pass."""
        found = [usage_of(p.weight_BM).cpu() for p in acting_prompts(model) if p.weight_BM is not None]
        if found:
            rows_M = torch.cat(found)
            self._rows = rows_M if self._rows is None else self._rows + rows_M

    def told(self) -> dict[str, float]:
        """For the log: how many prompts were chosen, the entropy of their shares, each one's rows; then begin anew."""
        rows_M, self._rows = self._rows, None
        if rows_M is None:
            return {}
        each = {f"prompt {number}": float(rows) for number, rows in enumerate(rows_M.tolist())}
        return {"prompts chosen": float((rows_M > 0).sum()), "prompt entropy": entropy_of(rows_M), **each}


def write_usage(model: Any, examples: ExampleSet, *, batch_size: int = 64) -> None:
    """Write into every prompt part of a model by how many examples each of its prompts is chosen (``rows_M``).

    Args:
        model: as it will be saved.
        examples: asked in eval mode, not augmented.
        batch_size: of them per pass.
    """
    parts = acting_prompts(model)
    counts = [torch.zeros_like(part.rows_M) for part in parts]
    with asked(model):
        for batch in in_passes(model, examples.plain(), batch_size, None if parts else ()):
            batch.predict(model)
            for part, seen_M in zip(parts, counts, strict=True):
                if part.weight_BM is not None:
                    seen_M.add_(usage_of(part.weight_BM))
    for part, rows_M in zip(parts, counts, strict=True):
        if part.is_new:
            part.rows_M.copy_(rows_M)
