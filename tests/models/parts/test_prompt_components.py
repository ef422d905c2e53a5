"""Prompt components: the sum in loops, orthogonal to those before, and each task's its own."""

from __future__ import annotations

import pytest
import torch
from tests.models.small_encoders import alone, encoder, inputs, said, with_prompts

from palimpsest import methods
from palimpsest.errors import ModelError
from palimpsest.models import parts

OPTIONS = {"components": 3, "length": 2}


def test_the_prefix_is_the_weighted_sum_over_all_tasks():
    model, given = encoder("vit"), inputs("vit")
    tasks = [with_prompts(model, "coda_prompt", OPTIONS, seed)[0] for seed in (1, 2)]
    said(model, given)
    with torch.no_grad(), parts.off(model):
        query = model.vit(**given).last_hidden_state[:, 0]
    for layer in range(3):
        keys, values = tasks[0].prefix_at(layer)
        assert tasks[1].prefix_at(layer) is None  # the first one gives it
        for row in range(4):
            wanted = torch.zeros(2, 2, 32)
            for task in tasks:
                for m in range(3):
                    seen = query[row] * task.attention_LMD[layer, m]
                    weight = torch.cosine_similarity(seen, task.key_LMD[layer, m], dim=0)
                    wanted += weight * task.prompt_LM2PW[layer, m]
            assert torch.allclose(torch.stack([keys[row], values[row]]), wanted, atol=1e-5)


def test_padding_changes_nothing():
    model, given = encoder("bert"), inputs("bert")
    with_prompts(model, "coda_prompt", OPTIONS)
    found = said(model, given)
    for row in range(4):
        assert torch.allclose(said(model, alone(given, row))[0], found[row], atol=1e-5)


def test_new_components_begin_orthogonal_to_earlier_ones():
    model = encoder("vit")
    (first,) = with_prompts(model, "coda_prompt", OPTIONS)
    method = methods.load("coda_prompt")(methods.configure("coda_prompt", OPTIONS))
    torch.manual_seed(5)
    (second,) = method.parts(model, {}, 0)
    for name in ("prompt_LM2PW", "key_LMD", "attention_LMD"):
        for layer in range(3):
            old, new = (getattr(part, name)[layer].flatten(1) for part in (first, second))
            assert (new @ old.T).abs().max() < 1e-5
            assert torch.allclose(new @ new.T, torch.eye(3), atol=1e-5)
    assert second.overlap_with([]) < 1e-10
    assert second.overlap_with([first]) > 1e-3  # the first one was moved


def test_a_task_without_its_part_leaves_what_was_before_it():
    model, given = encoder("vit"), inputs("vit")
    with_prompts(model, "coda_prompt", OPTIONS, 1)
    before = said(model, given)
    made = with_prompts(model, "coda_prompt", OPTIONS, 2)
    assert not torch.equal(said(model, given), before)
    with parts.off(model, made):
        assert torch.equal(said(model, given), before)
    parts.detach(model, made)
    assert torch.equal(said(model, given), before)


def test_blocks_that_are_not_there_are_refused():
    with pytest.raises(ModelError, match=r"coda_prompt.layers: .* has blocks 0 to 2, and none of \[7\]"):
        with_prompts(encoder("vit"), "coda_prompt", {"layers": [7]})
