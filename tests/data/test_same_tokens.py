"""One text to forget and to keep, as the model reads it."""

from __future__ import annotations

import pytest

from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.data.encode.same_tokens import check_tokens_apart
from palimpsest.errors import DataError

BOS, EOS, UNKNOWN = 0, 1, 2
SPECIAL = {BOS, EOS, UNKNOWN}


def rows(name: str, *tokens: tuple[int, ...]) -> TextSet:
    flags = [(False, *[True] * (len(row) - 1)) for row in tokens]
    return TextSet([TokenSequence(f"{name}{n}", t, f) for n, (t, f) in enumerate(zip(tokens, flags, strict=True))], 0)


@pytest.mark.parametrize("kept", [(5, 6, 7), (BOS, 5, 6, 7), (5, 6, 7, EOS), (BOS, 5, 6, 7, EOS, EOS)])
def test_the_same_tokens_are_refused_whatever_begins_and_ends_them(kept: tuple[int, ...]) -> None:
    sets = {"forget": rows("f", (4, 4), (5, 6, 7, EOS)), "retain": rows("r", (9, 9), kept)}
    with pytest.raises(DataError, match=r"forget and retain hold 1 row of the same tokens \(first: 'f1' and 'r1'\)"):
        check_tokens_apart(sets, SPECIAL, UNKNOWN)


@pytest.mark.parametrize("kept", [(5, 6), (5, 7, 6), (EOS, EOS), (5, UNKNOWN, 6, 7)])
def test_others_pass(kept: tuple[int, ...]) -> None:
    sets = {"forget": rows("f", (5, 6, 7), (BOS, EOS), (5, UNKNOWN, 6, 7)), "retain": rows("r", kept)}
    check_tokens_apart(sets, SPECIAL, UNKNOWN)
    check_tokens_apart({"retain": rows("r", kept), "learn": rows("l", kept)}, SPECIAL, UNKNOWN)
