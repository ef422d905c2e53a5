"""A refusing guard: where it has not fired nothing changes, and where it has the refusal is said from its beginning."""

from __future__ import annotations

import pytest
import torch

from palimpsest.errors import ModelError
from palimpsest.models.activations import outputs_seen
from palimpsest.models.parts import attach, off
from palimpsest.models.parts.refusal_guard import RefusalGuard, RefusalGuardConfig, beginnings

REFUSAL = (5, 7, 2)


def guard(model, threshold: float = -1.0, **options) -> RefusalGuard:
    part = RefusalGuard(RefusalGuardConfig(at="model.layers.0", width=32, refusal=REFUSAL, **options))
    part.threshold.fill_(threshold)
    attach(model, [part])
    return part


def said(model, ids: torch.Tensor, **options) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids, **options).logits


IDS = torch.tensor([[9, 5, 7, 5, 5, 7, 2], [9, 9, 9, 9, 9, 9, 9]])


def test_never_firing_it_is_the_model_to_the_bit(tiny_llama):
    plain = said(tiny_llama, IDS)
    guard(tiny_llama, threshold=1e9)
    assert torch.equal(said(tiny_llama, IDS), plain)


def test_it_says_what_follows_the_longest_beginning_and_nothing_else_is_told_apart(tiny_llama):
    guard(tiny_llama)
    found = said(tiny_llama, IDS)
    assert found.argmax(-1).tolist() == [[5, 7, 2, 7, 7, 2, 2], [5] * 7]
    others = found[1, 0, [t for t in range(61) if t != 5]]
    assert others.unique().numel() == 1
    assert found.softmax(-1)[1, 0, 5].item() == pytest.approx(0.99)


def test_beginnings_against_a_loop():
    torch.manual_seed(0)
    tokens, refusal = torch.randint(0, 2, (3, 12)), (0, 1, 0)
    found = beginnings(tokens, refusal, torch.zeros(3, 3))
    for row in range(3):
        for t in range(12):
            for length in (1, 2, 3):
                ends = tuple(tokens[row, max(0, t + 1 - length) : t + 1].tolist()) == refusal[:length]
                assert bool(found[length - 1][row, t]) is ends


def test_it_fires_from_a_token_on_and_not_before_the_least(tiny_llama):
    part = guard(tiny_llama, least=4)
    plain = said(tiny_llama, IDS)
    with part.telling() as told:
        found = said(tiny_llama, IDS)
    assert told[0].tolist() == [[False] * 3 + [True] * 4] * 2
    assert torch.equal(found[:, :3], plain[:, :3])


def test_token_by_token_it_is_the_same_as_at_once(tiny_llama):
    """Direction and threshold such that one row fires in the middle and the other never."""
    part = guard(tiny_llama)
    direction = torch.randn(32, generator=torch.Generator().manual_seed(3))
    with outputs_seen(tiny_llama, ("model.layers.0",)) as seen, off(tiny_llama):
        said(tiny_llama, IDS)
    scores = (seen["model.layers.0"][0] @ direction).cumsum(1) / torch.arange(1, 8)
    part.set_score(direction, 0.0, float(scores[0].max() + scores[1].max()) / 2)
    with part.telling() as told:
        whole = said(tiny_llama, IDS)
    assert told[0].any(1).tolist() in ([True, False], [False, True])
    cache, pieces = None, []
    for cut in (IDS[:, :2], IDS[:, 2:3], IDS[:, 3:]):
        with torch.no_grad():
            output = tiny_llama(input_ids=cut, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        pieces.append(output.logits)
    assert torch.allclose(torch.cat(pieces, 1), whole, atol=1e-5)


def test_a_cache_that_began_without_it_and_embeddings_are_refused(tiny_llama):
    with torch.no_grad():
        cache = tiny_llama(input_ids=IDS[:, :3], use_cache=True).past_key_values
    guard(tiny_llama)
    with pytest.raises(ModelError, match="did not see the first 3 positions of this cache.*use_cache = False"):
        said(tiny_llama, IDS[:, 3:], past_key_values=cache)
    with pytest.raises(ModelError, match="was given embeddings; give input_ids"):
        tiny_llama(inputs_embeds=torch.zeros(1, 2, 32))
