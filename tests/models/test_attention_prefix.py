"""Prefixes: equal to attention with more keys and values, worked out in loops; nothing where there are none."""

from __future__ import annotations

import math

import pytest
import torch
from tests.models.small_encoders import encoder, inputs, said
from torch import nn

from palimpsest.errors import ModelError
from palimpsest.models.attention_prefix import Seat, attend, causal_mask


class Bearer:
    """Gives one prefix."""

    def __init__(self, keys: torch.Tensor | None, values: torch.Tensor | None = None) -> None:
        self.pair = None if keys is None else (keys, values)

    def prefix_at(self, place: int):
        return self.pair


class Attention(nn.Module):
    """What the interface asks of a module."""

    is_causal = False
    scaling = None


def by_loops(query, key, value, seen, prefix):
    """Row by row, head by head, query by query: softmax over the prefix and what is seen."""
    rows, heads, queries, width = query.shape
    out = torch.zeros(rows, queries, heads, width)
    for b in range(rows):
        for h in range(heads):
            cut = slice(h * width, (h + 1) * width)
            extra = [] if prefix is None else [(k[cut], v[cut]) for k, v in zip(*(p[b] for p in prefix), strict=True)]
            for q in range(queries):
                pairs = extra + [(key[b, h, k], value[b, h, k]) for k in range(key.shape[2]) if seen(b, q, k)]
                scores = [float(query[b, h, q] @ one) / math.sqrt(width) for one, _ in pairs]
                total = sum(math.exp(s) for s in scores)
                for score, (_, one) in zip(scores, pairs, strict=False):
                    out[b, q, h] += math.exp(score) / total * one
    return out


@pytest.mark.parametrize("form", ["none", "bool", "float", "causal"])
def test_it_is_attention_with_more_keys_and_values(form):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 2, 3, 4) for _ in range(3))
    prefix = torch.randn(2, 2, 8), torch.randn(2, 2, 8)
    module, lengths = Attention(), (3, 2)
    module.is_causal = form == "causal"
    module.__dict__["_palimpsest_prefixes"] = [(Bearer(*prefix), 0), (Bearer(None), 1)]
    mask = torch.tensor([[k < n for k in range(3)] for n in lengths])[:, None, None].expand(2, 1, 3, 3)
    given = {"bool": mask, "float": torch.zeros(2, 1, 3, 3).masked_fill(~mask, -1e9)}.get(form)
    rule = {"none": lambda b, q, k: True, "causal": lambda b, q, k: k <= q}.get(form, lambda b, q, k: k < lengths[b])
    found, _ = attend("sdpa", module, query, key, value, given)
    assert torch.allclose(found, by_loops(query, key, value, rule, prefix), atol=1e-5)
    module.__dict__["_palimpsest_prefixes"] = []
    found, _ = attend("sdpa", module, query, key, value, given)
    assert torch.allclose(found, by_loops(query, key, value, rule, None), atol=1e-5)


def test_the_newest_query_sees_the_whole_cache():
    assert causal_mask(1, 4).tolist() == [[True] * 4]


@pytest.mark.parametrize("layout", ["vit", "deit", "bert", "llama"])
@pytest.mark.parametrize("how", ["sdpa", "eager"])
def test_without_a_prefix_it_is_the_same_to_the_bit(layout, how):
    model, given = encoder(layout), inputs(layout)
    model.set_attn_implementation(how)
    plain = said(model, given)
    place = next(m for m in model.modules() if hasattr(m, "is_causal") and len(list(m.children())) > 2)
    seat = Seat(model, place, Bearer(None), 0)
    assert model.config._attn_implementation == f"palimpsest_{how}"
    assert torch.equal(said(model, given), plain)
    seat.remove()
    assert model.config._attn_implementation == how
    assert torch.equal(said(model, given), plain)


def test_both_implementations_give_the_same_prefix():
    found = []
    for how in ("sdpa", "eager"):
        model, given = encoder("bert"), inputs("bert")
        model.set_attn_implementation(how)
        torch.manual_seed(3)
        Seat(model, model.bert.encoder.layer[0].attention.self, Bearer(torch.randn(1, 2, 32), torch.randn(1, 2, 32)), 0)
        found.append(said(model, given))
    assert (found[0] - found[1]).abs().max() < 1e-5
    assert (found[0] - said(encoder("bert"), given)).abs().max() > 1e-2


def test_what_does_not_fit_is_refused():
    model, given = encoder("bert"), inputs("bert")
    place = model.bert.encoder.layer[0].attention.self
    Seat(model, place, Bearer(torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)), 0)
    with pytest.raises(ModelError, match="width 5 before keys of 4 rows and width 32"):
        said(model, given)
    with pytest.raises(ModelError, match="takes no prefix; accepted: .*sdpa or eager"):
        Seat(nn.Linear(2, 2), nn.Linear(2, 2), Bearer(None), 0)
