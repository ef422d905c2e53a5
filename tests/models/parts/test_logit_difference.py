"""A logit difference: by hand, without a factor, and alone."""

from __future__ import annotations

import torch

from palimpsest.models.parts import attach
from palimpsest.models.parts.logit_difference import LogitDifference, LogitDifferenceConfig, assistant_logits

IDS = torch.arange(12).reshape(2, 6)


def assisted(model) -> LogitDifference:
    torch.manual_seed(0)
    part = LogitDifference(LogitDifferenceConfig(at="lm_head", width_in=32, width_out=61, inner=4))
    attach(model, [part])
    return part


def said(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_fresh_and_without_a_factor_it_is_the_model_to_the_bit(tiny_llama):
    plain = said(tiny_llama)
    part = assisted(tiny_llama)
    assert torch.equal(said(tiny_llama), plain)
    torch.nn.init.normal_(part.up)
    assert not torch.equal(said(tiny_llama), plain)
    part.beta.zero_()
    assert torch.equal(said(tiny_llama), plain)


def test_it_takes_off_what_it_says_alone(tiny_llama):
    plain = said(tiny_llama)
    part = assisted(tiny_llama)
    torch.nn.init.normal_(part.up)
    part.beta.fill_(0.75)
    with part.alone():
        alone = said(tiny_llama)
    states = []
    handle = tiny_llama.lm_head.register_forward_hook(lambda _m, inputs, _o: states.append(inputs[0]))
    found = said(tiny_llama)
    handle.remove()
    assert torch.equal(alone, assistant_logits(states[0], part.down, part.up))
    assert torch.equal(found, plain - 0.75 * alone)
