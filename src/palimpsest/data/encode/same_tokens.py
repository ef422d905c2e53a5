"""One text to forget and to keep, as the model reads it: whatever the files call it, its tokens are the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from palimpsest.data.encode.batch import TextSet
from palimpsest.data.encode.labelled import LabelSet
from palimpsest.errors import DataError
from palimpsest.in_words import so_many

_Tokenised = TextSet | LabelSet


def check_tokens_apart(sets: Mapping[str, Any], special: Collection[int], unknown: int | None) -> None:
    """Refuse a row of the forget set whose tokens, but for special ones, are those of a row of another set.

    Args:
        sets: name -> as the model takes it; images are left alone.
        special: ids of tokens such as bos and eos, which a row may bring along or be given.
        unknown: what stands for words that the tokenizer does not know; rows with one are left alone.

    Raises:
        DataError: how many, and the first.
    """
    forget = sets.get("forget")
    if not isinstance(forget, _Tokenised):
        return
    own = {tokens: example_id for example_id, tokens in _readings(forget, special, unknown)}
    for name, others in sets.items():
        if name == "forget" or not isinstance(others, _Tokenised):
            continue
        same = [(own[tokens], i) for i, tokens in _readings(others, special, unknown) if tokens in own]
        if same:
            (first, other), count = same[0], so_many(len(same), "row")
            raise DataError(
                f"forget and {name} hold {count} of the same tokens (first: {first!r} and {other!r}), but for special "
                "ones such as eos; accepted: sets without common examples, so remove them from one set"
            )


def _readings(
    examples: TextSet | LabelSet, special: Collection[int], unknown: int | None
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Id and tokens of each row that has any that is not special."""
    for example_id in examples.ids:
        given = examples[example_id].tokens
        tokens = tuple(token for token in given if token not in special)
        if tokens and unknown not in given:
            yield example_id, tokens
