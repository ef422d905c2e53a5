"""Block prompts: what enters and leaves the blocks, masks by brute force, padding changes nothing."""

from __future__ import annotations

import pytest
import torch
from tests.methods.view_runs import logits, pictures, sentences, tiny_bert, tiny_vit

from palimpsest.models.activations import block_names, inputs_seen
from palimpsest.models.parts import attach, off
from palimpsest.models.parts.block_prompts import BlockPrompts, BlockPromptsConfig, first_again, without_prompts


def prompted(make, *, deep):
    torch.manual_seed(1)
    model = make()
    part = BlockPrompts(BlockPromptsConfig(blocks=block_names(model), width=16, tokens=3, deep=deep))
    attach(model, [part])
    return model, part


def test_a_mask_with_room_by_brute_force():
    """A prompt is seen, and sees, as the first token; a mask of one row for all stays one row."""
    mask = torch.rand(2, 1, 4, 4)
    roomy = first_again(first_again(mask, 2, 3), 3, 3)
    origin = [0, 0, 0, 0, 1, 2, 3]
    for i in range(7):
        for j in range(7):
            assert torch.equal(roomy[:, 0, i, j], mask[:, 0, origin[i], origin[j]])
    assert first_again(mask[:, :, :1], 2, 3).shape == (2, 1, 1, 4)


@pytest.mark.parametrize("deep", [False, True])
def test_prompts_enter_behind_the_first_token_and_are_taken_out_at_the_end(deep):
    model, part = prompted(tiny_vit, deep=deep)
    rows = pictures((0, 1))
    with inputs_seen(model, ("vit.layers.0", "vit.layers.1", "vit.layernorm")) as seen:
        logits(model, rows)
    first, second, last = (seen[name][0] for name in seen)
    assert (first.shape[1], second.shape[1], last.shape[1]) == (8, 8, 5)
    assert torch.equal(first[:, 1:4], part.prompts[0].expand(8, -1, -1))
    assert torch.equal(second[0, 1:4], part.prompts[1]) is True if deep else len(part.prompts) == 1
    with off(model), inputs_seen(model, ("vit.layers.0",)) as plain:
        logits(model, rows)
    assert torch.equal(without_prompts(first, 3), plain["vit.layers.0"][0])


@pytest.mark.parametrize("deep", [False, True])
def test_a_padded_text_is_read_as_it_is_alone(deep):
    """The prompts widen the mask; a wrong one would show padding to the tokens."""
    model, _part = prompted(tiny_bert, deep=deep)
    rows = sentences((0, 1))
    together = logits(model, rows)
    for number, one in enumerate(rows.ids):
        assert torch.allclose(logits(model, rows.subset([one]))[0], together[number], atol=1e-6)
    with off(model):
        assert not torch.allclose(logits(model, rows), together, atol=1e-4)
