"""A part that watches what a text is about, and acts from there on: what all guards with a detector share.

It reads one module's output, keeps the running mean of a linear score of it, and has fired from the first position on
where that is above its threshold, to the end of the text. Nothing of it looks at later tokens, and what it needs to go
on is kept in the model's own cache, so that a text is guarded alike token by token and at once, alone and in a batch.
Fresh it fires on everything: a guard that was fitted to nothing lets nothing through.

Shape legend: B rows, T tokens of a pass, D width of the module, R of the refusal, F numbers kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.models.parts import parts_of
from palimpsest.models.parts.beside_cache import given_to, keep, last_of
from palimpsest.models.parts.part import Part, PartConfig
from palimpsest.models.parts.topic_score import running_mean
from palimpsest.models.places import module_at
from palimpsest.models.text_config import text_config


class WatchingConfig(PartConfig):
    """Options of a part that watches."""

    width: int = Field(ge=1)
    """Numbers that leave the module that is read."""
    least: int = Field(default=1, ge=1)
    """Tokens of a text before which it never fires."""


@dataclass
class Watch:
    """One pass, as far as it went.

    Attributes:
        tokens_BT: its tokens; None where the model is given embeddings.
        there_BT: which of them are no padding.
        before_BF: what was kept after the last position before it; None at the beginning of a text.
        cache: of the model, or None.
        fired_BT: from where on it has fired.
        kept: columns of what is kept, each (B, T).
    """

    tokens_BT: Tensor | None
    there_BT: Bool[Tensor, "B T"]
    before_BF: Tensor | None
    cache: Any
    fired_BT: Bool[Tensor, "B T"] | None = None
    kept: list[Tensor] = field(default_factory=list)

    def earlier(self, column: int) -> Tensor:
        """A column of what was kept, (B,); zeros at the beginning."""
        if self.before_BF is None:
            return torch.zeros(len(self.there_BT), device=self.there_BT.device)
        return self.before_BF[:, column]


class WatchingPart(Part):
    """Fires from where on a text is about what was forgotten."""

    Config: ClassVar[type[WatchingConfig]] = WatchingConfig
    folds_when_saved = False
    hides = True
    direction_D: Tensor
    offset: Tensor
    threshold: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("direction_D", torch.zeros(config.width))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("threshold", torch.tensor(-1.0))
        self._watch: Watch | None = None
        self._told: list[Tensor] | None = None

    def attach(self, model: nn.Module) -> None:
        """Watch a model: its inputs, the module that is read, its answer."""
        module = module_at(model, self.config.at, f"part {self.kind!r}")
        self.to(device=next(model.parameters()).device)
        self.holds(model.register_forward_pre_hook(self._begin, with_kwargs=True))
        self.holds(module.register_forward_hook(self._after))
        self.holds(model.register_forward_hook(self._end, with_kwargs=True, prepend=True))  # the newest part first

    def set_score(self, direction_D: Float[Tensor, "D"], offset: float, threshold: float) -> None:
        """What ``topic_score`` fitted."""
        self.direction_D.copy_(direction_D)
        self.offset.fill_(offset)
        self.threshold.fill_(threshold)

    def answered(self, watch: Watch, logits_BTV: Tensor, fired_BT: Tensor) -> Tensor:
        """What the logits of a pass become, of as many of its last positions as the model gave; default: they stay."""
        return logits_BTV

    def changed(self, watch: Watch, said_BTD: Tensor) -> Tensor:
        """What the output of the module becomes that is read; default: it stays."""
        return said_BTD

    @contextmanager
    def telling(self) -> Iterator[list[Tensor]]:
        """Collect where it has fired in the passes of the block, (B, T) each."""
        self._told, outer = [], self._told
        try:
            yield self._told
        finally:
            self._told = outer

    def _begin(self, model: nn.Module, arguments: Any, options: Any) -> None:
        """Before a pass."""
        self._watch = None
        if self.is_off:
            return
        given = given_to(model, arguments, options)
        tokens_BT, cache = given.get("input_ids"), given.get("past_key_values")
        if tokens_BT is None:
            raise ModelError(f"part {self.kind!r} reads tokens, and the model was given embeddings; give input_ids")
        there_BT = _no_padding(given.get("attention_mask"), tokens_BT, self.kind)
        self._watch = Watch(tokens_BT, there_BT, last_of(cache, self._layer(model), f"part {self.kind!r}"), cache)

    def _after(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """The module that is read has answered."""
        watch = self._watch
        if watch is None or self.is_off:
            return None
        whole_BTD = output[0] if isinstance(output, tuple) else output
        said_BTD = whole_BTD[:, -watch.there_BT.shape[1] :]
        self._look(watch, said_BTD)
        changed_BTD = self.changed(watch, said_BTD)
        if changed_BTD is said_BTD:
            return None
        said = torch.cat([whole_BTD[:, : whole_BTD.shape[1] - said_BTD.shape[1]], changed_BTD], 1)
        return (said, *output[1:]) if isinstance(output, tuple) else said

    def _look(self, watch: Watch, said_BTD: Float[Tensor, "B T D"]) -> None:
        """Score the positions of a pass, and find from where on it has fired."""
        values_BT = said_BTD.detach().float() @ self.direction_D.float()
        mean_BT, sums_BT, counts_BT = running_mean(values_BT, watch.there_BT, watch.earlier(0), watch.earlier(1))
        above_BT = (mean_BT + self.offset.float() > self.threshold.float()) & (counts_BT >= self.config.least)
        fired_BT = (above_BT & watch.there_BT).cummax(1).values | (watch.earlier(2) > 0)[:, None]
        watch.fired_BT, watch.kept = fired_BT, [sums_BT, counts_BT, fired_BT.float()]

    def _end(self, model: nn.Module, arguments: Any, options: Any, output: Any) -> Any:
        """The model has answered."""
        watch, self._watch = self._watch, None
        if watch is None or watch.fired_BT is None or self.is_off:
            return None
        if self._told is not None:
            self._told.append(watch.fired_BT)
        asked = options.get("logits_to_keep", 0)
        fired_BT = watch.fired_BT[:, asked] if isinstance(asked, Tensor) else watch.fired_BT
        self.follow(watch)
        if bool(fired_BT.any()):
            output.logits = self.answered(watch, output.logits, fired_BT[:, -output.logits.shape[1] :])
        cache = getattr(output, "past_key_values", None)
        keep(watch.cache if cache is None else cache, self._layer(model), torch.stack(watch.kept, -1))
        return output

    def follow(self, watch: Watch) -> None:
        """Add what else must be kept to ``watch.kept``; default: nothing."""

    def _layer(self, model: nn.Module) -> int:
        """Number of its layer in a cache: behind the model's own, in the order of the parts."""
        others = [part for part in parts_of(model) if isinstance(part, WatchingPart) and not part.is_off]
        before = next((n for n, part in enumerate(others) if part is self), 0)
        return int(getattr(text_config(model), "num_hidden_layers", 0) or 0) + before


def _no_padding(mask: Any, tokens_BT: Tensor, kind: str) -> Bool[Tensor, "B T"]:
    """Which tokens of a pass are true ones."""
    if mask is None:
        return torch.ones_like(tokens_BT, dtype=torch.bool)
    if not isinstance(mask, Tensor) or mask.dim() != 2:
        raise ModelError(
            f"part {kind!r} needs an attention mask of a number for each token, and was given another; accepted: a "
            "mask (rows, tokens), and in generate the usual cache (no cache_implementation)"
        )
    return mask[:, -tokens_BT.shape[1] :].bool()
