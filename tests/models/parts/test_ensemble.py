"""An ensemble of adapters: the mean of its members' words, in a pass, in generation, and with a loss."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from palimpsest.errors import ModelError
from palimpsest.models import parts
from palimpsest.models.parts.ensemble import Ensemble, EnsembleConfig, mean_logits
from palimpsest.models.parts.lora import AdaptedLayer
from palimpsest.models.parts.with_parts import folded

PLACES = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.up_proj")
IDS = torch.arange(12).reshape(2, 6)
SIZES = (32, 48)


def ensemble(members: int = 3, mean: str = "probabilities") -> Ensemble:
    layers = tuple(
        AdaptedLayer(at=at, width_in=32, width_out=out, rank=2, scale=2.0)
        for at, out in zip(PLACES, SIZES, strict=True)
    )
    made = Ensemble(EnsembleConfig(layers=layers, members=tuple(range(members)), mean=mean))
    torch.manual_seed(1)
    for parameter in made.parameters():
        parameter.data = 0.5 * torch.randn_like(parameter)
    return made


def said(model: nn.Module, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits.clone()


def each(model: nn.Module, made: Ensemble) -> list[torch.Tensor]:
    """Of every member alone, as a part of its own on the bare model."""
    found = []
    for place in range(len(made.config.members)):
        alone = made.member(place)
        parts.attach(model, [alone])
        found.append(said(model))
        parts.detach(model)
    return found


@pytest.mark.parametrize("mean", ["probabilities", "logits"])
def test_it_is_the_mean_of_members_that_each_answer_alone(tiny_llama, mean):
    made = ensemble(mean=mean)
    alone = each(tiny_llama, made)
    parts.attach(tiny_llama, [made])
    whole = said(tiny_llama)
    wanted = sum(alone) / 3 if mean == "logits" else (sum(one.softmax(-1) for one in alone) / 3).log()
    assert (whole - wanted).abs().max() < 1e-5
    assert (alone[0] - alone[1]).abs().max() > 0.01
    parts.detach(tiny_llama)
    assert "forward" not in vars(tiny_llama)


def test_worked_by_hand():
    """(0.9, 0.1) and (0.5, 0.5): a mean of 0.7 and 0.3; one member alone is itself."""
    sure, unsure = torch.tensor([0.9, 0.1]).log(), torch.tensor([0.5, 0.5]).log()
    assert mean_logits([sure, unsure], "probabilities").exp().tolist() == pytest.approx([0.7, 0.3])
    assert mean_logits([sure, unsure], "logits").tolist() == pytest.approx(((sure + unsure) / 2).tolist())
    assert mean_logits([sure], "probabilities") is sure


def test_it_generates_what_whole_passes_say_and_keeps_no_cache(tiny_llama):
    cached = tiny_llama.generation_config.use_cache
    parts.attach(tiny_llama, [ensemble()])
    greedy = IDS
    for _ in range(4):
        greedy = torch.cat([greedy, said(tiny_llama, greedy)[:, -1].argmax(-1, keepdim=True)], 1)
    how = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    for asked in ({}, {"use_cache": True}, {"num_beams": 1}):
        assert torch.equal(tiny_llama.generate(IDS, attention_mask=torch.ones_like(IDS), **how, **asked), greedy)
    assert tiny_llama(input_ids=IDS, use_cache=True).past_key_values is None
    with pytest.raises(ModelError, match="keeps no keys and values"):
        tiny_llama(input_ids=IDS[:, -1:], attention_mask=torch.ones_like(IDS))
    parts.detach(tiny_llama)
    assert tiny_llama.generation_config.use_cache == cached


def test_its_loss_is_that_of_its_logits(tiny_llama):
    parts.attach(tiny_llama, [ensemble()])
    with torch.no_grad():
        found = tiny_llama(input_ids=IDS, labels=IDS)
    logp = found.logits[:, :-1].log_softmax(-1).gather(-1, IDS[:, 1:, None])
    assert found.loss.item() == pytest.approx(-logp.mean().item(), abs=1e-5)


def test_two_cannot_answer_and_one_member_folds(tiny_llama):
    one = ensemble(members=1)
    parts.attach(tiny_llama, [one])
    with pytest.raises(ModelError, match="bears an ensemble already"):
        parts.attach(tiny_llama, [ensemble()])
    wanted = said(tiny_llama)
    assert folded(tiny_llama, every=True) == (one,)
    assert (said(tiny_llama) - wanted).abs().max() < 1e-4
