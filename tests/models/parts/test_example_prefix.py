"""A prefix: the same as writing it before the text and looking away; positions, padding and caches as without."""

from __future__ import annotations

import pytest
import torch

from palimpsest.data.encode.batch import TokenSequence, collate
from palimpsest.errors import ModelError
from palimpsest.models.parts import attach, off
from palimpsest.models.parts.example_prefix import ExamplePrefix, ExamplePrefixConfig
from palimpsest.models.text_config import most_tokens

PREFIX = (11, 12, 13)


@pytest.fixture
def prefixed(tiny_llama):
    part = ExamplePrefix(ExamplePrefixConfig(length=len(PREFIX)))
    part.tokens_P.copy_(torch.tensor(PREFIX))
    attach(tiny_llama, [part])
    return tiny_llama


def test_stripped_it_gathers_what_stands_behind_the_prefix_written_out(prefixed):
    rows = [TokenSequence("a", (5, 6, 7, 8), (False, False, True, True)), TokenSequence("b", (9, 4), (False, True))]
    batch = collate(rows, 0)
    longer = collate([TokenSequence(r.id, (*PREFIX, *r.tokens), (False,) * 3 + r.scored) for r in rows], 0)
    with torch.no_grad():
        found = batch.predict(prefixed)
        logits = prefixed(**batch.inputs()).logits
        with off(prefixed):
            wanted = longer.predict(prefixed)
            plain = prefixed(**batch.inputs()).logits
    assert logits.shape == plain.shape
    assert torch.allclose(found.logits_SV, wanted.logits_SV, atol=1e-5)
    assert torch.equal(found.target_S, wanted.target_S)
    assert not torch.allclose(found.logits_SV, batch.predictions(plain).logits_SV, atol=1e-2)


def test_only_the_last_logits_and_a_cache_that_grows(prefixed):
    ids = torch.tensor([[5, 6, 7, 8, 9]])
    with torch.no_grad():
        whole = prefixed(input_ids=ids).logits
        last = prefixed(input_ids=ids, logits_to_keep=2).logits
        from transformers import DynamicCache

        cache = DynamicCache()
        first = prefixed(input_ids=ids[:, :3], past_key_values=cache, use_cache=True)
        second = prefixed(input_ids=ids[:, 3:], past_key_values=first.past_key_values, use_cache=True)
    assert torch.allclose(last, whole[:, -2:], atol=1e-5)
    assert torch.allclose(torch.cat([first.logits, second.logits], 1), whole, atol=1e-5)
    assert cache.get_seq_length() == 5


def test_two_prefixes_stand_one_before_the_other(prefixed):
    second = ExamplePrefix(ExamplePrefixConfig(length=1))
    second.tokens_P.fill_(20)
    attach(prefixed, [second])
    with torch.no_grad():
        found = prefixed(input_ids=torch.tensor([[5, 6]])).logits
        with off(prefixed):
            wanted = prefixed(input_ids=torch.tensor([[20, *PREFIX, 5, 6]])).logits[:, -2:]
    assert torch.allclose(found, wanted, atol=1e-5)


def test_its_length_is_off_what_the_model_has_and_longer_texts_are_refused(prefixed):
    assert most_tokens(prefixed) == 61
    prefixed(input_ids=torch.ones(1, 61, dtype=torch.long))
    with pytest.raises(ModelError, match="a text of 62 tokens does not fit behind the prefix; accepted: 61"):
        prefixed(input_ids=torch.ones(1, 62, dtype=torch.long))
    with off(prefixed):
        assert most_tokens(prefixed) == 64
