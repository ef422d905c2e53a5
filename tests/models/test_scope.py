"""Which parameters may move, and the check that they did."""

from __future__ import annotations

import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from palimpsest.errors import FrozenError, ModelError, PlanError
from palimpsest.models.scope import (
    Scope,
    apply_scope,
    check_changed,
    check_moved,
    leave_scope,
    parameter_digests,
    state_digests,
    tensor_digest,
    trainable,
)

TOKENS = torch.tensor([[3, 4, 5, 6]])
# PEFT 0.21 asks transformers 5.23 for a property under its old name
adapter = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def logits(model):
    with torch.no_grad():
        return model(input_ids=TOKENS).logits


def move(model, names):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in names:
                parameter.add_(0.25)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"kind": "layers"}, "scope 'layers' needs names"),
        ({"kind": "all", "names": ["x"]}, "scope 'all' takes no names"),
        ({"kind": "some"}, "'all', 'lora', 'layers' or 'parts'"),
        ({"kind": "lora", "rank": 0}, "greater than or equal to 1"),
        ({"kind": "lora", "lora_alpha": 0}, "greater than 0"),
        ({"kind": "lora", "r": 4}, "Extra inputs are not permitted"),
    ],
)
def test_a_scope_that_makes_no_sense_is_refused(values, words):
    with pytest.raises(ValidationError, match=words):
        Scope(**values)


def test_all_thaws_what_was_frozen(tiny_llama):
    tiny_llama.requires_grad_(False)
    assert apply_scope(tiny_llama, Scope()) is tiny_llama
    assert trainable(tiny_llama).keys() == {name for name, _ in tiny_llama.named_parameters()}


def test_tied_weights_are_trained_once(tiny_llama):
    names = trainable(tiny_llama).keys()
    assert "model.embed_tokens.weight" in names
    assert "lm_head.weight" not in names


def test_named_layers_thaw_and_the_rest_freezes(tiny_llama):
    apply_scope(tiny_llama, Scope(kind="layers", names=(r"layers\.1\.mlp\.", r"norm\.weight$")))
    everything = [name for name, _ in tiny_llama.named_parameters()]
    mlp = {f"model.layers.1.mlp.{part}_proj.weight" for part in ("gate", "up", "down")}
    assert trainable(tiny_llama).keys() == mlp | {name for name in everything if name.endswith("norm.weight")}


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("layers.7.", ModelError, r"'layers.7.' matches no parameter; the first ones are model.embed_tokens.weight"),
        ("(", PlanError, r"scope name '\(' is not a regular expression"),
    ],
)
def test_a_name_without_a_parameter_is_refused(tiny_llama, name, error, words):
    with pytest.raises(error, match=words):
        apply_scope(tiny_llama, Scope(kind="layers", names=("mlp", name)))
    assert len(trainable(tiny_llama)) == len(list(tiny_llama.parameters())), "refused, and yet something was frozen"


@adapter
def test_an_adapter_starts_as_the_model_and_thaws_alone(tiny_llama):
    before = logits(tiny_llama)
    model = apply_scope(tiny_llama, Scope(kind="lora", rank=3, lora_alpha=6.0)).eval()
    assert torch.equal(logits(model), before)
    moving = trainable(model)
    assert moving
    assert all(".lora_A." in name or ".lora_B." in name for name in moving)
    assert {p.shape[0] for name, p in moving.items() if ".lora_A." in name} == {3}
    linear = 7 * tiny_llama.config.num_hidden_layers
    assert len(moving) == 2 * linear


@adapter
def test_an_adapter_can_be_laid_on_named_modules(tiny_llama):
    model = apply_scope(tiny_llama, Scope(kind="lora", names=("q_proj", "v_proj"), rank=2))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in trainable(model)} == {"q_proj", "v_proj"}


@adapter
@pytest.mark.parametrize("commit", ["0123abc", None])
def test_an_adapter_on_a_hub_model_remembers_its_commit(tiny_llama, commit):
    tiny_llama.config._commit_hash = commit
    assert apply_scope(tiny_llama, Scope(kind="lora")).peft_config["default"].revision == commit


def test_an_adapter_on_modules_that_do_not_exist_is_refused(tiny_llama):
    with pytest.raises(ModelError, match="scope lora: .*no_such_module") as error:
        apply_scope(tiny_llama, Scope(kind="lora", names=("no_such_module",)))
    assert "\n" not in str(error.value)


@adapter
@pytest.mark.parametrize("merge", [True, False])
def test_leaving_merges_the_adapter_or_keeps_it_apart(tiny_llama, merge):
    scope = Scope(kind="lora", rank=2, lora_alpha=4.0, merge=merge)
    before = {name: p.detach().clone() for name, p in tiny_llama.named_parameters()}
    model = apply_scope(tiny_llama, scope).eval()
    move(model, trainable(model))
    a, b = (model.get_parameter(f"base_model.model.model.layers.0.mlp.up_proj.lora_{x}.default.weight") for x in "AB")
    by_hand = before["model.layers.0.mlp.up_proj.weight"] + (4.0 / 2) * (b @ a).detach()
    wanted = logits(model)
    left = leave_scope(model, scope)
    assert torch.allclose(logits(left), wanted, atol=1e-5)
    assert any("lora_" in name for name, _ in left.named_parameters()) is not merge
    if merge:
        assert torch.allclose(left.get_parameter("model.layers.0.mlp.up_proj.weight"), by_hand, atol=1e-6)


def test_leaving_other_scopes_changes_nothing(tiny_llama):
    assert leave_scope(tiny_llama, Scope()) is tiny_llama


@pytest.fixture
def second_layer(tiny_llama):
    """The model with only its second layer thawed."""
    return apply_scope(tiny_llama, Scope(kind="layers", names=(r"layers\.1\.",)))


def test_a_run_that_moved_what_it_should_passes(second_layer):
    before = parameter_digests(second_layer)
    move(second_layer, trainable(second_layer))
    check_moved(second_layer, before)


def test_a_trainable_tensor_that_did_not_move_is_named(second_layer):
    before = parameter_digests(second_layer)
    names = sorted(trainable(second_layer))
    move(second_layer, names[1:])
    assert check_moved(second_layer, before) == [names[0]]


def test_a_run_that_moved_nothing_is_refused(second_layer):
    before = parameter_digests(second_layer)
    with pytest.raises(FrozenError, match="none of the 9 trainable tensors moved, e.g. .*no gradient reached"):
        check_moved(second_layer, before)


def test_a_frozen_tensor_that_moved_is_named(second_layer):
    before = parameter_digests(second_layer)
    move(second_layer, {*trainable(second_layer), "model.layers.0.mlp.up_proj.weight"})
    with pytest.raises(FrozenError, match=r"1 frozen tensors moved, e.g. model.layers.0.mlp.up_proj.weight"):
        check_moved(second_layer, before)


def test_an_edit_of_one_tensor_is_a_change_and_none_is_not(second_layer):
    before = state_digests(second_layer)
    with pytest.raises(FrozenError, match="the run changed nothing: every weight is as it was.*; give the method more"):
        check_changed(second_layer, before)
    move(second_layer, {"model.layers.1.mlp.up_proj.weight"})
    check_changed(second_layer, before)


def test_an_edit_of_what_is_frozen_is_named(second_layer):
    before = state_digests(second_layer)
    move(second_layer, {"model.layers.1.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"})
    with pytest.raises(FrozenError, match=r"1 frozen tensors moved, e.g. model.layers.0.mlp.up_proj.weight"):
        check_changed(second_layer, before)


def test_two_tensors_that_change_places_are_a_change(second_layer):
    before = state_digests(second_layer)
    one, other = second_layer.model.layers[1].mlp.up_proj, second_layer.model.layers[1].mlp.gate_proj
    one.weight, other.weight = other.weight, one.weight
    check_changed(second_layer, before)


def test_an_edited_buffer_is_a_change():
    layer = torch.nn.BatchNorm1d(2)
    before = state_digests(layer)
    layer.running_mean.add_(1)
    check_changed(layer, before)


@pytest.mark.parametrize("edits", [False, True])
def test_what_is_only_wrapped_did_not_change(tiny_llama, edits):
    before = state_digests(tiny_llama)
    wrapper = torch.nn.Module()
    wrapper.inner = tiny_llama
    if edits:
        move(tiny_llama, {"model.norm.weight"})
        check_changed(wrapper, before)
    else:
        with pytest.raises(FrozenError, match="the run changed nothing"):
            check_changed(wrapper, before)


def test_the_smallest_move_of_one_number_counts(tiny_llama):
    before = parameter_digests(tiny_llama)
    with torch.no_grad():
        weight = tiny_llama.model.norm.weight
        weight[3] = torch.nextafter(weight[3], torch.tensor(9.0))
    after = parameter_digests(tiny_llama)
    assert {name for name in before if before[name] != after[name]} == {"model.norm.weight"}


def test_zero_and_minus_zero_have_two_digests():
    assert torch.equal(torch.tensor([0.0]), torch.tensor([-0.0]))
    assert tensor_digest(torch.tensor([0.0])) != tensor_digest(torch.tensor([-0.0]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64])
def test_every_dtype_has_a_digest(dtype):
    one, other = torch.tensor([[1, 2], [3, 4]], dtype=dtype), torch.tensor([[1, 2], [3, 5]], dtype=dtype)
    assert tensor_digest(one) == tensor_digest(one.clone()) != tensor_digest(other)


def test_layout_in_memory_does_not_count():
    table = torch.arange(12.0).reshape(3, 4)
    assert tensor_digest(table.T) == tensor_digest(table.T.contiguous()) != tensor_digest(table)


@settings(deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=6), st.lists(st.floats(width=32), min_size=1, max_size=6))
def test_digests_agree_exactly_when_the_bytes_do(left, right):
    pack = [struct.pack(f"<{len(values)}f", *values) for values in (left, right)]
    digests = [tensor_digest(torch.frombuffer(bytearray(data), dtype=torch.float32)) for data in pack]
    assert (digests[0] == digests[1]) == (pack[0] == pack[1])
