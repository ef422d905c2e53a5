"""Block adapters: the equation by hand, where they go, and that a new one changes nothing."""

from __future__ import annotations

import pytest
import torch
from tests.methods.view_runs import logits, pictures, sentences, tiny_bert, tiny_vit

from palimpsest.errors import ModelError
from palimpsest.models.parts import attach
from palimpsest.models.parts.block_adapter import BlockAdapter, adapter_places, drawn_to, new_adapter
from palimpsest.models.resnet import SmallResNet, resnet_config


def small_resnet() -> SmallResNet:
    torch.manual_seed(0)
    return SmallResNet(
        resnet_config("resnet20", 3, widths=(4, 8, 8), image_size=8, image_mean=(0.5,), image_std=(0.3,))
    )


def test_places_of_a_vit_and_a_bert_read_what_the_network_reads():
    assert [(p.at, p.reads, p.width_in, p.width_out) for p in adapter_places(tiny_vit())] == [
        (f"vit.layers.{n}.mlp", f"vit.layers.{n}.mlp", 16, 16) for n in range(2)
    ]
    assert [(p.at, p.reads, p.width_in, p.width_out) for p in adapter_places(tiny_bert())] == [
        (f"bert.encoder.layer.{n}.output.dense", f"bert.encoder.layer.{n}.intermediate", 16, 16) for n in range(2)
    ]


def test_places_of_a_resnet_are_its_last_normalisations():
    places = adapter_places(small_resnet())
    assert [p.at for p in places][:2] == ["layer1.0.bn2", "layer1.1.bn2"]
    assert (len(places), places[-1].width_in, places[-1].reads) == (9, 8, "")


def test_a_module_without_a_width_is_refused():
    with pytest.raises(ModelError, match=r"dropout.*accepted: modules that end in a linear layer"):
        adapter_places(tiny_bert(), ("dropout",))


@pytest.mark.parametrize("make", [tiny_vit, tiny_bert, small_resnet])
def test_a_new_one_changes_nothing_and_a_moved_one_does(make):
    model = make().eval()
    rows = sentences((0, 1)) if make is tiny_bert else pictures((0, 1))
    plain = logits(model, rows)
    part = new_adapter(model, (), 1, 8, 0.1)
    attach(model, [part])
    assert torch.equal(logits(model, rows), plain)
    part.up_0.data.fill_(1.0)
    assert not torch.equal(logits(model, rows), plain)


@pytest.mark.parametrize("reads_its_input", [True, False])
def test_by_hand_beside_a_layer(reads_its_input):
    """y + 0.5 * (relu(x A + a) B + b), place by place and channel by channel."""
    layer = torch.nn.Sequential(torch.nn.Linear(2, 2))
    config = {"at": "0", "reads": "0" if reads_its_input else "", "width_in": 2, "width_out": 2}
    part = BlockAdapter(BlockAdapter.Config.model_validate({"layers": [config], "rank": 3, "scale": 0.5}))
    for tensor in part.parameters():
        tensor.data = torch.randn(tensor.shape)
    x = torch.randn(4, 2)
    y = layer(x).detach()
    part.attach(layer)
    said = layer(x)
    for row in range(4):
        taken = x[row] if reads_its_input else y[row]
        inner = [max(0.0, sum(part.down_0[r, i] * taken[i] for i in range(2)) + part.down_bias_0[r]) for r in range(3)]
        for out in range(2):
            added = sum(part.up_0[out, r] * inner[r] for r in range(3)) + part.up_bias_0[out]
            assert said[row, out].item() == pytest.approx((y[row, out] + 0.5 * added).item(), abs=1e-5)


def test_one_of_another_rank_draws_nobody():
    model = tiny_vit()
    new, same, other = (new_adapter(model, (), 1, rank, 0.1) for rank in (4, 4, 8))
    drawn_to(new, [same], 0.5)
    with pytest.raises(ModelError, match="has rank 8, and the new one has 4"):
        drawn_to(new, [same, other], 0.5)
