"""What stands before every text, whose positions nobody sees: what kinds of such parts share.

    logits(text) <- logits(prefix + text), without the positions of the prefix

Whoever asks sees his own positions only. A cache keeps his tokens alone, in its first layer: each step reads prefix and
text again. So generate works with a cache as without, and is no faster by it.

Shape legend: B rows, P positions of the prefix, T tokens of a text, V vocabulary.
"""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.method_card import Config
from palimpsest.models.parts import parts_of
from palimpsest.models.parts.beside_cache import given_to, kept_in
from palimpsest.models.parts.part import Part
from palimpsest.models.text_config import most_tokens

_TEXT = "input_ids"
_KEEP = "logits_to_keep"
_GONE = ("past_key_values", "position_ids", "cache_position", "token_type_ids", _KEEP)
"""What is said of a text alone, and is made anew, or by us, where a prefix stands before it."""


class BeforeTextConfig(Config):
    """Options of all kinds."""

    length: int = Field(ge=1)
    """Positions of the prefix."""


class BeforeText(Part):
    """A prefix. A kind gives ``led``."""

    Config: ClassVar[type[BeforeTextConfig]] = BeforeTextConfig
    folds_when_saved = False

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._asked: tuple[Any, Tensor, Any] | None = None

    def led(self, model: nn.Module, text_BT: Tensor) -> dict[str, Tensor]:
        """Prefix and text as the model takes them: ``input_ids``, or ``inputs_embeds``."""
        raise NotImplementedError

    def led_by(self, model: nn.Module) -> int:
        """Positions before the text that ``led`` gives."""
        return int(self.config.length)

    @property
    def places(self) -> tuple[str, ...]:
        """None: it acts on the model as a whole."""
        return ()

    @property
    def positions_taken(self) -> int:
        """Of those that the model has for a text."""
        return 0 if self.is_off else int(self.config.length)

    def attach(self, model: nn.Module) -> None:
        """Stand before every text of a model."""
        self.to(device=next(model.parameters()).device)
        self.holds(model.register_forward_pre_hook(self._before, with_kwargs=True))
        self.holds(model.register_forward_hook(self._without, with_kwargs=True, prepend=True))

    def _before(self, model: nn.Module, arguments: Any, options: Any) -> Any:
        """Put the prefix before the text, and the tokens that a cache has before it."""
        self._asked = None
        if self.is_off:
            return None
        given = given_to(model, arguments, options)
        tokens_BT, cache = given.get(_TEXT), given.get("past_key_values")
        if tokens_BT is None:
            raise ModelError(f"part {self.kind!r} reads tokens, and the model was given embeddings; give input_ids")
        text_BT = tokens_BT if cache is None else torch.cat([_kept(cache, tokens_BT, self.kind), tokens_BT], 1)
        self._check_fits(model, text_BT)
        self._asked = (cache, tokens_BT, given.get(_KEEP, 0))
        rest = {name: value for name, value in given.items() if name not in (*_GONE, _TEXT)}
        if _KEEP in inspect.signature(model.forward).parameters:
            rest[_KEEP] = tokens_BT.shape[1]
        return (), {**rest, **self._lengthened(model, text_BT, given.get("attention_mask")), "use_cache": False}

    def _lengthened(self, model: nn.Module, text_BT: Tensor, mask_BT: Tensor | None) -> dict[str, Tensor]:
        """Prefix and text, with what is padding in them."""
        there_BT = torch.ones_like(text_BT) if mask_BT is None else mask_BT
        if there_BT.shape != text_BT.shape:
            raise ModelError(
                f"part {self.kind!r} needs an attention mask of a number for each token of the text so far, and was "
                "given another; accepted: a mask (rows, tokens), and in generate the usual cache"
            )
        whole_mask_BT = torch.cat([there_BT.new_ones(len(text_BT), self.led_by(model)), there_BT], 1)
        left = {} if bool(there_BT[:, :1].all()) else {"position_ids": (whole_mask_BT.cumsum(1) - 1).clamp(min=0)}
        return {**self.led(model, text_BT), "attention_mask": whole_mask_BT, **left}

    def _without(self, _model: nn.Module, _arguments: Any, _options: Any, output: Any) -> Any:
        """Strip the positions of the prefix, and keep the tokens in the cache that was given."""
        asked, self._asked = self._asked, None
        if asked is None:
            return None
        cache, tokens_BT, wanted = asked
        logits_BTV = output.logits[:, -tokens_BT.shape[1] :]
        if isinstance(wanted, Tensor):
            logits_BTV = logits_BTV[:, wanted]
        elif wanted:
            logits_BTV = logits_BTV[:, -wanted:]
        output.logits = logits_BTV
        if cache is not None:
            rows = tokens_BT[:, None, :, None].float()
            cache.update(rows, rows, 0)
            output.past_key_values = cache
        return output

    def _check_fits(self, model: nn.Module, text_BT: Tensor) -> None:
        room = most_tokens(model)  # what the prefixes take is off it
        taken = sum(part.positions_taken for part in parts_of(model))
        if room is not None and text_BT.shape[1] + self.led_by(model) > room + taken:
            raise ModelError(f"a text of {text_BT.shape[1]} tokens does not fit behind the prefix; accepted: {room}")


def _kept(cache: Any, like_BT: Tensor, kind: str) -> Tensor:
    """The tokens that a cache has so far."""
    if not cache.get_seq_length():
        return like_BT[:, :0]
    kept = kept_in(cache.layers[0])
    if kept.dim() != 4 or kept.shape[1] != 1 or kept.shape[3] != 1:
        raise ModelError(
            f"part {kind!r} did not see the beginning of this cache; accepted: a cache that began with the part "
            "on, as generate makes it, or use_cache = False"
        )
    return kept[:, 0, :, 0].to(like_BT.dtype)
