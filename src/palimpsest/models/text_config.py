"""What a language model's config says of its text part, wherever in the config that stands.

Checkpoints that also take images or sounds keep vocabulary and length in a config within the config.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from palimpsest.models.parts import parts_of


def text_config(model: Any) -> Any:
    """The config of a model's decoder, through transformers' own accessor; None where it has no config."""
    config = getattr(model, "config", None)
    accessor = getattr(config, "get_text_config", None)
    return config if accessor is None else accessor(decoder=True)


def vocabulary_of(model: Any) -> int | None:
    """Words a causal LM knows: ids from here on have no row in its embedding. None where nobody says.

    A plain module without a config, or one that takes no words (an image classifier), says nothing.
    """
    stated = getattr(text_config(model), "vocab_size", None)
    rows = _embedding_rows(model)
    known = [int(number) for number in (stated, rows) if number is not None]
    return min(known) if stated is not None and known else None


def _embedding_rows(model: Any) -> int | None:
    try:
        weight: Any = getattr(model.get_input_embeddings(), "weight", None)
    except (AttributeError, NotImplementedError):  # modules of the caller's, classes with several embeddings
        return None
    return int(weight.shape[0]) if weight is not None and weight.ndim == 2 else None


def most_tokens(model: Any) -> int | None:
    """Longest text that a causal LM takes, tokens; None for no limit."""
    longest = getattr(text_config(model), "max_position_embeddings", None)
    if not isinstance(longest, int) or longest < 1:
        return None
    return longest - _skipped_positions(model) - sum(part.positions_taken for part in parts_of(model))


def _skipped_positions(model: Any) -> int:
    """Rows of a table of positions that no token gets: RoBERTa and its kin count from behind the padding's own row."""
    tables = (m for n, m in model.named_modules() if n.endswith("position_embeddings")) if callable(model) else ()
    skipped = (getattr(table, "padding_idx", None) for table in tables)
    return max((row + 1 for row in skipped if row is not None), default=0)


def first_inside(candidates: Iterable[Any], vocabulary: int | None) -> int | None:
    """The first candidate that is a token id of a vocabulary.

    >>> first_inside([None, 300, 2], 300), first_inside([300], 300)
    (2, None)
    """
    return next((c for c in candidates if isinstance(c, int) and 0 <= c < (vocabulary or c + 1)), None)
