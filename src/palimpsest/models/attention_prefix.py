"""Keys and values before those of an attention, through transformers' attention interface.

    attention(Q, [K_p ; K], [V_p ; V]),   every query sees every position of the prefix

Projections reshape by the length of what they are given, so that hooks on them cannot lengthen anything; the interface
is where keys and values can. While a prefix is seated somewhere, the model runs an implementation of ours, which is the
one it had, bit by bit, wherever no prefix is. A prefix has no position and is no padding, and no cache holds it.

Shape legend: B rows, H heads of keys, Q queries, K keys, P positions of a prefix, W = H * numbers of a head.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from palimpsest.errors import ModelError

OURS = "palimpsest_"
"""Before the name of the implementation that the model had."""
KNOWN = ("sdpa", "eager")
_SEATS = "_palimpsest_prefixes"


class Prefixed(Protocol):
    """Who has prefixes."""

    def prefix_at(self, place: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values, (B or 1, P, W) each, of the number of a place; None to leave the attention alone."""


class Seat:
    """A place of a prefix at one attention of a model, until it is removed."""

    def __init__(self, model: Any, module: nn.Module, who: Prefixed, place: int) -> None:
        """Sit down.

        Args:
            model: of transformers, or a part of one; it runs our implementation from now on.
            module: the attention.
            who: is asked for a prefix in every pass.
            place: number by which it is asked.

        Raises:
            ModelError: the model does not ask the interface, or runs another implementation.
        """
        run_ours(model)
        self._model, self._module, self._seat = model, module, (who, place)
        module.__dict__.setdefault(_SEATS, []).append(self._seat)

    def remove(self) -> None:
        """Stand up; behind the last one the model runs its own implementation again."""
        seats = self._module.__dict__.get(_SEATS, [])
        seats[:] = [seat for seat in seats if seat is not self._seat]
        if not seats:
            self._module.__dict__.pop(_SEATS, None)
        if not any(_SEATS in module.__dict__ for module in self._model.modules()):
            run_own(self._model)


def run_ours(model: Any) -> None:
    """Have a model ask for prefixes; nothing where it does already.

    Raises:
        ModelError: it cannot.
    """
    now = getattr(getattr(model, "config", None), "_attn_implementation", None)
    if isinstance(now, str) and now.startswith(OURS):
        return
    if now not in KNOWN or not getattr(type(model), "_can_set_attn_implementation", bool)():
        raise ModelError(
            f"a {type(model).__name__} with attention {now!r} takes no prefix; accepted: a transformer of transformers "
            f"whose attention goes through its interface, with attn_implementation = {' or '.join(KNOWN)}"
        )
    _register(str(now))
    model.set_attn_implementation(f"{OURS}{now}")


def run_own(model: Any) -> None:
    """Have a model run the implementation that it had."""
    now = model.config._attn_implementation
    if now.startswith(OURS):
        model.set_attn_implementation(now.removeprefix(OURS))


def _register(name: str) -> None:
    """Ours, which ends in another one; its masks are that one's, or padding would be seen."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    AttentionInterface.register(f"{OURS}{name}", functools.partial(attend, name))
    AttentionMaskInterface.register(f"{OURS}{name}", ALL_MASK_ATTENTION_FUNCTIONS[name])


def attend(  # noqa: PLR0917 (the order is the interface's)
    name: str,
    module: nn.Module,
    query: Float[Tensor, "B _ Q _"],
    key: Float[Tensor, "B H K _"],
    value: Float[Tensor, "B H K _"],
    attention_mask: Tensor | None,
    **options: Any,
) -> Any:
    """The interface's call: another implementation, over longer keys and values where prefixes are seated.

    Args:
        name: of the implementation.
        module: the attention that asks.
        query: queries.
        key: keys.
        value: values.
        attention_mask: (B or 1, heads or 1, Q, K): True where seen, or what is added to the scores; None = none.
        options: of the interface.
    """
    for who, place in module.__dict__.get(_SEATS, ()):
        prefix = who.prefix_at(place)
        if prefix is None:
            continue
        whole = _whole_mask(module, query, key, attention_mask, options)
        attention_mask = None if whole is None else longer_mask(whole, prefix[0].shape[1])
        key, value = (torch.cat([_by_heads(p, of), of], 2) for p, of in zip(prefix, (key, value), strict=True))
    return _implementation(name, module)(module, query, key, value, attention_mask, **options)


def _implementation(name: str, module: nn.Module) -> Any:
    """Eager attention is each model's own function, beside its class."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if name == "eager":
        return sys.modules[type(module).__module__].eager_attention_forward
    return ALL_ATTENTION_FUNCTIONS[name]


def _by_heads(prefix_BPW: Float[Tensor, "_ P W"], like: Float[Tensor, "B H K D"]) -> Float[Tensor, "B H P D"]:
    """A prefix cut into heads, for every row."""
    rows, heads, _, width = like.shape
    if prefix_BPW.shape[2] != heads * width or prefix_BPW.shape[0] not in (1, rows):
        raise ModelError(
            f"a prefix of {prefix_BPW.shape[0]} rows and width {prefix_BPW.shape[2]} before keys of {rows} rows and "
            f"width {heads * width}; accepted: the width of the keys, and a prefix for each row or one for all"
        )
    cut = prefix_BPW.to(like.dtype).view(*prefix_BPW.shape[:2], heads, width).transpose(1, 2)
    return cut.expand(rows, -1, -1, -1)


def longer_mask(mask: Tensor, more: int) -> Tensor:
    """A mask with positions before the keys that all see.

    >>> longer_mask(torch.tensor([[[[True, False]]]]), 1).tolist()
    [[[[True, True, False]]]]
    >>> longer_mask(torch.tensor([[[[0.0, -9.0]]]]), 1).tolist()
    [[[[0.0, 0.0, -9.0]]]]
    """
    seen = torch.ones if mask.dtype == torch.bool else torch.zeros
    return torch.cat([seen(*mask.shape[:-1], more, dtype=mask.dtype, device=mask.device), mask], -1)


def causal_mask(queries: int, keys: int, device: torch.device | None = None) -> Bool[Tensor, "Q K"]:
    """The last query sees all keys, each one before it one key less.

    >>> causal_mask(2, 3).int().tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def _whole_mask(module: nn.Module, query: Tensor, key: Tensor, mask: Any, options: Mapping[str, Any]) -> Tensor | None:
    """The mask that an implementation understands where none is given: it must not cut a prefix for the future."""
    if mask is not None:
        return _checked(mask)
    said = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if said is None else said
    if not causal or query.shape[2] == 1:
        return None
    seen_QK = causal_mask(query.shape[2], key.shape[2], query.device)
    return seen_QK[None, None]


def _checked(mask: Any) -> Tensor:
    if not isinstance(mask, Tensor) or mask.dim() != 4:
        raise ModelError(
            "a prefix needs a mask (rows, heads, queries, keys) where there is one; accepted: attention sdpa or eager"
        )
    return mask
