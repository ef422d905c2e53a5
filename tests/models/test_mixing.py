"""A model between two others: the equation by hand, both ends and the way back to the bit, what cannot be mixed."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from palimpsest.errors import ModelError, PlanError
from palimpsest.models.adapter_deltas import adapter_tensors, only_adds
from palimpsest.models.adapters import quiet_about_ties
from palimpsest.models.load import Loaded, load
from palimpsest.models.mixing import mix_, mixed
from palimpsest.models.stored import StoredTensors, holds, once, stored_files, write_out


def bits(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def moved(model: nn.Module, seed: int = 1) -> nn.Module:
    """Another model of the same shape."""
    other = copy.deepcopy(model)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=source))
    return other


@pytest.fixture
def pair(tiny_llama, tmp_path):
    """Two folders of one shape."""
    tiny_llama.save_pretrained(tmp_path / "before")
    moved(tiny_llama).save_pretrained(tmp_path / "after")
    return tmp_path / "before", tmp_path / "after"


def of(folder) -> Loaded:
    return load(folder, tokenizer_needed=False)


def test_equation_by_hand():
    weight = torch.tensor([1.0, -2.0, 8.0])
    mix_(weight, torch.tensor([3.0, 2.0, 0.0]), 0.25)
    assert weight.tolist() == [0.75 * 1 + 0.25 * 3, 0.75 * -2 + 0.25 * 2, 0.75 * 8]


@pytest.mark.parametrize(("alpha", "expected"), [(0.0, [1.0, 2.0]), (1.0, [torch.inf, -0.0])])
def test_the_ends_are_the_models_themselves_also_where_nothing_is_finite(alpha, expected):
    weight = torch.tensor([1.0, 2.0])
    mix_(weight, torch.tensor([torch.inf, -0.0]), alpha)
    assert torch.equal(weight, torch.tensor(expected))
    assert torch.equal(weight.signbit(), torch.tensor(expected).signbit())


@pytest.mark.parametrize("alpha", [0.0, 1 / 64, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("streamed", [True, False])
def test_every_tensor_is_mixed_and_laid_back_to_the_bit(pair, alpha, streamed):
    before, after = map(of, pair)
    start = bits(before.model)
    theirs = StoredTensors(stored_files(pair[1])) if streamed else after
    own = StoredTensors(stored_files(pair[0])) if streamed else None
    with mixed(before, theirs, alpha, own=own) as model:
        for name, tensor in bits(model).items():
            by_hand = (1 - alpha) * start[name].double() + alpha * after.model.state_dict()[name].double()
            torch.testing.assert_close(tensor.double(), by_hand, rtol=1e-6, atol=1e-6)
        assert same(bits(model), start) == (alpha == 0)
        assert same(bits(model), bits(after.model)) == (alpha == 1)
    assert same(bits(before.model), start)


def test_an_error_in_the_block_lays_back_too(pair):
    before, after = map(of, pair)
    start = bits(before.model)
    with pytest.raises(KeyError), mixed(before, after, 0.5):
        raise KeyError
    assert same(bits(before.model), start)


def test_tied_weights_are_mixed_once(pair):
    before, after = map(of, pair)
    assert any(len(group) > 1 for group in once(before.model))  # else this shows nothing
    embedding, theirs = (m.model.get_input_embeddings().weight.detach().clone() for m in (before, after))
    with mixed(before, after, 0.25) as model:
        torch.testing.assert_close(model.get_output_embeddings().weight, 0.75 * embedding + 0.25 * theirs)


def test_shards_and_rewritten_pieces_give_the_same_bits(pair, tmp_path):
    before, after = map(of, pair)
    after.model.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    assert len({*stored_files(tmp_path / "sharded").values()}) > 1
    pieces = write_out(after.model, tmp_path / "pieces")
    assert len(pieces) == len(once(after.model))
    found = []
    for theirs in (
        after,
        StoredTensors(stored_files(pair[1])),
        StoredTensors(stored_files(tmp_path / "sharded")),
        pieces,
    ):
        with mixed(before, theirs, 0.3) as model:
            found.append(bits(model))
    assert all(same(found[0], other) for other in found[1:])


def test_half_precision_on_disk_is_laid_back_as_it_was_loaded(pair):
    before = of(pair[0])
    halves = pair[0].parent / "halves"
    copy.deepcopy(before.model).to(torch.bfloat16).save_pretrained(halves)
    loaded, own = of(halves), StoredTensors(stored_files(halves))
    assert holds(loaded.model, own)
    start = bits(loaded.model)
    with mixed(loaded, StoredTensors(stored_files(pair[1])), 0.5, own=own) as model:
        assert not same(bits(model), start)
    assert same(bits(loaded.model), start)


def test_what_is_in_memory_must_be_what_is_stored(pair):
    before = of(pair[0])
    assert holds(before.model, StoredTensors(stored_files(pair[0])))
    assert not holds(before.model, StoredTensors(stored_files(pair[1])))


class Normed(nn.Module):
    """Weights, running statistics with a counter, and whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("table", torch.tensor([1, 2]))


def test_floating_buffers_are_mixed_and_the_counter_of_batches_is_taken():
    one, other = Normed(), Normed()
    other.norm.running_mean.fill_(4.0)
    other.norm.num_batches_tracked.fill_(7)
    before, after = Loaded(one, None, "one"), Loaded(other, None, "other")
    with mixed(before, after, 0.25) as model:
        assert model.norm.running_mean.tolist() == [1.0, 1.0]
        assert model.norm.num_batches_tracked.item() == 7
    assert one.norm.num_batches_tracked.item() == 0


def test_whole_numbers_that_differ_are_refused():
    one, other = Normed(), Normed()
    other.table[0] = 5
    with pytest.raises(ModelError, match=r"one .*table holds whole numbers that differ"):
        mixed(Loaded(one, None, "one"), Loaded(other, None, "other"), 0.5).__enter__()


@pytest.mark.parametrize(
    ("other", "why"),
    [(nn.Linear(3, 4), r"weight is \(2, 3\) in one and \(4, 3\)"), (nn.Linear(3, 2, bias=False), "bias is in one")],
)
def test_models_of_different_shapes_are_refused_and_left_alone(other, why):
    one = nn.Linear(3, 2)
    start = bits(one)
    for before, after in ((one, other), (other, one)):
        with (
            pytest.raises(ModelError, match="not of one shape"),
            mixed(Loaded(before, None, "a"), Loaded(after, None, "b"), 0.5),
        ):
            pass
    with pytest.raises(ModelError, match=why), mixed(Loaded(one, None, "a"), Loaded(other, None, "b"), 0.5):
        pass
    assert same(bits(one), start)


def test_a_tensor_tied_in_one_and_not_in_the_other_is_refused(pair, tmp_path):
    before = of(pair[0])
    names = next(group for group in once(before.model) if len(group) > 1)
    untied = {**bits(before.model)}
    untied[names[1]] = untied[names[1]] + 1
    save_file({n: t.clone() for n, t in untied.items()}, tmp_path / "untied.safetensors")
    theirs = StoredTensors(dict.fromkeys(untied, tmp_path / "untied.safetensors"))
    with pytest.raises(ModelError, match="one tensor in one and two in the other"), mixed(before, theirs, 0.5):
        pass


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_shares_that_are_none_are_refused(pair, alpha):
    with pytest.raises(PlanError, match="alpha is .*accepted: 0"), mixed(of(pair[0]), of(pair[1]), alpha):
        pass


@pytest.fixture
def adapter(tiny_llama, tmp_path):
    """A LoRA adapter over a base that is not tied, with a scale of 3/2."""
    from peft import LoraConfig, get_peft_model

    tiny_llama.save_pretrained(tmp_path / "base")
    torch.manual_seed(3)
    config = LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    with quiet_about_ties():
        wrapped = get_peft_model(load(tmp_path / "base", tokenizer_needed=False).model, config)
    wrapped.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    wrapped.save_pretrained(tmp_path / "adapter")
    return tmp_path / "base", tmp_path / "adapter"


def test_an_adapter_is_scaled_and_only_what_it_adapts_is_moved(adapter):
    base, folder = adapter
    assert only_adds(folder, base)
    assert not only_adds(base, base)
    before, merged = of(base), of(folder)
    start = bits(before.model)
    own = StoredTensors(stored_files(base))
    theirs = adapter_tensors(folder, before.model, own)
    assert same(bits(before.model), start)
    assert len(theirs) == 4
    assert {name.split(".")[-2] for name in theirs} == {"q_proj", "down_proj"}
    for alpha in (0.25, 1.0):
        with mixed(before, theirs, alpha, own=own) as scaled:
            found = bits(scaled)
        with mixed(before, merged, alpha) as by_weights:
            assert same(found, bits(by_weights))
        name = "model.layers.0.self_attn.q_proj.weight"
        delta = merged.model.state_dict()[name] - start[name]
        torch.testing.assert_close(found[name], start[name] + alpha * delta)
    assert same(bits(before.model), start)


def test_an_adapter_of_another_base_or_that_does_more_is_not_scaled(adapter, pair):
    base, folder = adapter
    assert not only_adds(folder, pair[1])
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"use_dora": false', '"use_dora": true'))
    assert not only_adds(folder, base)


def test_the_module_in_memory_is_never_another(pair):
    before, after = map(of, pair)
    with mixed(replace(before), after, 0.5) as model:
        assert model is before.model
