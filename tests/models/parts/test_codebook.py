"""A codebook: what is chosen by brute force, straight through to the bit, and what deleting leaves of it."""

from __future__ import annotations

import math
from operator import mul

import pytest
import torch

from palimpsest.errors import ModelError
from palimpsest.models.parts.codebook import Codebook, CodebookConfig, straight_through

WIDTH, INNER, K, S = 4, 8, 10, 3


@pytest.fixture
def book() -> Codebook:
    torch.manual_seed(3)
    made = Codebook(CodebookConfig(at="here", width=WIDTH, code_width=INNER, codes=K, chosen=S))
    with torch.no_grad():
        made.codes.copy_(torch.randn(K, INNER).abs())
        for layer in (made.encoder, made.decoder):
            layer.weight.add_(0.3 * torch.randn(layer.weight.shape))
            layer.bias.add_(0.1)
        made.length.fill_(1.7)
    return made


@pytest.fixture
def said() -> torch.Tensor:
    return torch.randn(2, 5, WIDTH, generator=torch.Generator().manual_seed(1))


def by_hand(book: Codebook, a: list[float], gone: dict[int, str]) -> tuple[list[int], list[float]]:
    """One position with Python's loops: the codes that stand for it and their decoded sum."""
    rms = math.sqrt(sum(x * x for x in a) / WIDTH)
    weight, bias = book.encoder.weight.tolist(), book.encoder.bias.tolist()
    h = [
        max(0.0, sum(w * x / rms for w, x in zip(row, a, strict=True)) + b) for row, b in zip(weight, bias, strict=True)
    ]
    codes = book.codes.tolist()

    def cosine(k: int) -> float:
        dot = sum(map(mul, h, codes[k]))
        return dot / math.sqrt(sum(x * x for x in h) * sum(y * y for y in codes[k]))

    order = sorted(range(K), key=cosine, reverse=True)
    first = order[:S]
    others = [k for k in order[S:] if k not in gone]
    kept = [k for k in first if k not in gone]
    kept += others[: sum(gone.get(k) == "reselect" for k in first)]
    q = [max(0.0, sum(codes[k][c] for k in kept)) for c in range(INNER)]
    outward, shift = book.decoder.weight.tolist(), book.decoder.bias.tolist()
    decoded = [
        1.7 * (sum(w * x for w, x in zip(row, q, strict=True)) + b) for row, b in zip(outward, shift, strict=True)
    ]
    return kept, decoded


@pytest.mark.parametrize(
    "gone", [{}, {0: "drop", 4: "drop"}, {0: "reselect", 4: "reselect"}, {0: "drop", 4: "reselect"}]
)
@torch.no_grad()
def test_it_answers_as_a_brute_force_over_all_codes(book, said, gone):
    ids = book.through(said).ids.flatten().tolist()
    gone = {ids[k % len(ids)] if k == 0 else sorted(set(ids))[k % len(set(ids))]: how for k, how in gone.items()}
    for k, how in gone.items():
        book.delete(torch.tensor([k]), how)
    found = book.acting(said).reshape(-1, WIDTH)
    for row, a in enumerate(said.reshape(-1, WIDTH).tolist()):
        kept, decoded = by_hand(book, a, gone)
        assert not set(kept) & set(gone)
        assert found[row].tolist() == pytest.approx(decoded, abs=1e-5)


def test_the_gradient_goes_through_the_choice_as_if_there_were_none():
    hidden = torch.randn(5, INNER, requires_grad=True)
    wanted = torch.randn(5, INNER)
    (straight_through(hidden, torch.randn(5, INNER)) * wanted).sum().backward()
    assert torch.equal(hidden.grad, wanted)


def test_dropped_codes_contribute_exactly_zero(book, said):
    """All chosen ones dropped: the decoder's bias is all that goes on, and no gradient reaches a deleted code."""
    every = torch.arange(K)
    book.delete(every, "drop")
    out = book.acting(said)
    assert torch.equal(out, (book.length * book.decoder(torch.zeros(2, 5, INNER))))
    out.sum().backward()
    assert not book.codes.grad.any()


@torch.no_grad()
def test_one_request_after_the_other_is_undone_to_the_bit(book, said):
    before = {name: tensor.clone() for name, tensor in book.state_dict().items()}
    plain = book.acting(said)
    ids = book.through(said).ids
    assert book.delete(ids[0, 0, :1], "drop") == 1
    first = book.acting(said)
    other = next(k for k in ids.flatten().tolist() if k != ids[0, 0, 0])
    assert book.delete(torch.tensor([other, int(ids[0, 0, 0])]), "reselect") == 2  # the first one has gone already
    assert not torch.equal(book.acting(said), first)
    book.undo(2)
    assert torch.equal(book.acting(said), first)
    book.undo(1)
    assert torch.equal(book.acting(said), plain)
    assert all(torch.equal(tensor, before[name]) for name, tensor in book.state_dict().items())
    with pytest.raises(ModelError, match="request 1 deleted no codes; no code of it is deleted"):
        book.undo(1)


@pytest.mark.parametrize("semantics", ["drop", "reselect"])
@torch.no_grad()
def test_half_deleted_is_half_way(book, said, semantics):
    """What calibrate mixes. Codes are not negative here, so that the decoder is linear in their sum."""
    book.delete(book.through(said).ids[0, 0, :2], semantics)
    ends = []
    for strength in (0.0, 0.5, 1.0):
        book.deleted[book.request > 0] = strength
        ends.append(book.acting(said))
    assert torch.allclose(ends[1], (ends[0] + ends[2]) / 2, atol=1e-5)
    assert not torch.allclose(ends[0], ends[2])


def test_more_chosen_than_there_are_codes_is_refused():
    with pytest.raises(ValueError, match="11 of 10 codes cannot be chosen"):
        CodebookConfig(at="here", width=4, code_width=8, codes=10, chosen=11)
