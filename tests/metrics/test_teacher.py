"""The shared pass keeps keys and values only for who goes on from them; what it reads is the same."""

from __future__ import annotations

import pytest
import torch

from palimpsest.metrics import build
from palimpsest.metrics import evaluate as evaluating
from palimpsest.metrics.greedy.choice import Tally
from palimpsest.metrics.teacher import Extent, read_teacher


@pytest.mark.parametrize("lengths", [[20, 20, 20], [20, 11, 4]], ids=["even", "ragged"])
def test_what_is_read_has_the_same_bits_with_and_without_a_cache(half_learned, texts, as_set, lengths):
    rows = as_set([row[:length] for row, length in zip(texts.tolist(), lengths, strict=True)])
    batch = rows.batch(rows.ids)
    with torch.inference_mode():
        kept, without = (
            read_teacher(half_learned, batch, batch.scored_BT, Tally(), Extent(cached=d, whole=False, fused=True))
            for d in (True, False)
        )
    assert torch.equal(kept.argmax_BT, without.argmax_BT)
    assert torch.equal(kept.logp_BT, without.logp_BT)
    assert kept.cache.get_seq_length() == 20
    assert without.cache is None


@pytest.mark.parametrize(("names", "kept"), [(("prob", "es", "ma"), 0), (("prob", "el"), 20)])
def test_only_a_metric_that_decodes_has_a_cache_kept(half_learned, texts, as_set, monkeypatch, names, kept):
    lengths = []

    def spying(*given, **how):
        reading = read_teacher(*given, **how)
        lengths.append(0 if reading.cache is None else reading.cache.get_seq_length())
        return reading

    monkeypatch.setattr(evaluating, "read_teacher", spying)
    evaluating.evaluate(half_learned, as_set(texts.tolist()), [build(name, {}) for name in names])
    assert lengths == [kept]
