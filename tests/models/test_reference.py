"""The model as it was before the run: three ways to remember it, one answer."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn
from transformers import CohereConfig, CohereForCausalLM, Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from palimpsest.data.encode.batch import TextBatch, TextSet, TokenSequence
from palimpsest.models.reference import AdapterOff, CachedReference, FrozenCopy, Reference, build_reference
from palimpsest.models.scope import Scope, apply_scope, trainable

IDS = ("a", "b/c", "Ä ö", "d", "e")
WIDTH, VOCABULARY = 32, 61


def ragged_set(ids=IDS) -> TextSet:
    """Rows of 4, 5, 6, ... tokens, of which the first two are no labels; ids of any characters."""
    generator = torch.Generator().manual_seed(5)
    sequences = []
    for number, example_id in enumerate(ids):
        tokens = torch.randint(3, VOCABULARY, (4 + number,), generator=generator).tolist()
        sequences.append(TokenSequence(example_id, tuple(tokens), (False, False) + (True,) * (2 + number)))
    return TextSet(sequences, pad_id=0)


@pytest.fixture
def examples() -> TextSet:
    return ragged_set()


def logits_of(model: nn.Module, batch: TextBatch) -> torch.Tensor:
    """What a model says now."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        found = batch.predict(model).logits_SV.clone()
    model.train(was_training)
    return found


def change(model: nn.Module) -> None:
    """What a run does: every trainable weight moves, the head included."""
    with torch.no_grad():
        for parameter in trainable(model).values():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)))


def gemma(soft_cap: float | None, scale: float) -> Gemma2ForCausalLM:
    """Gemma 2 caps its logits after the head: cap · tanh(x / cap)."""
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = Gemma2Config(
        vocab_size=VOCABULARY, num_key_value_heads=2, head_dim=8, final_logit_softcapping=soft_cap, **sizes
    )
    model = Gemma2ForCausalLM(config).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(scale)
    return model


def cohere() -> CohereForCausalLM:
    """Cohere multiplies its logits by a constant after the head."""
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4}
    return CohereForCausalLM(CohereConfig(vocab_size=VOCABULARY, num_key_value_heads=2, logit_scale=0.0625, **sizes))


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=WIDTH, n_layer=1, n_head=4, n_positions=32))


@pytest.mark.parametrize("ids", [IDS, ("e", "a"), ("d", "d", "a")], ids=["all", "some", "one twice"])
def test_the_cache_says_what_the_model_said(tiny_llama, examples, tmp_path, ids):
    batch = examples.batch(ids)
    before = logits_of(tiny_llama, batch)
    reference = build_reference(tiny_llama, {"retain": examples}, tmp_path, batch_size=2)
    assert isinstance(reference, CachedReference)
    change(tiny_llama)
    said = reference.predict(tiny_llama, batch)
    assert torch.allclose(said.logits_SV, before, atol=1e-5)
    assert not torch.allclose(logits_of(tiny_llama, batch), before, atol=0.1)
    assert torch.equal(said.target_S, batch.target_S)
    assert torch.equal(said.owner_S, batch.owner_S)
    assert said.num_examples == len(ids)
    assert not said.logits_SV.requires_grad


def test_the_cache_is_taken_without_dropout(examples, tmp_path):
    model = gpt2()
    assert model.config.resid_pdrop > 0
    before = logits_of(model, examples.batch(IDS))
    model.train()
    reference = build_reference(model, {"forget": examples}, tmp_path)
    assert model.training
    assert torch.allclose(reference.predict(model, examples.batch(IDS)).logits_SV, before, atol=1e-5)


def test_a_head_with_a_bias_is_kept_whole(tiny_llama, examples, tmp_path):
    torch.manual_seed(1)
    tiny_llama.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=True)
    batch = examples.batch(IDS)
    before = logits_of(tiny_llama, batch)
    reference = build_reference(tiny_llama, {"retain": examples}, tmp_path)
    assert isinstance(reference, CachedReference)
    change(tiny_llama)
    assert torch.allclose(reference.predict(tiny_llama, batch).logits_SV, before, atol=1e-5)


def test_the_cache_holds_d_numbers_per_scored_position_and_one_head(tiny_llama, examples, tmp_path):
    build_reference(tiny_llama, {"retain": examples}, tmp_path)
    shapes = {}
    for file in tmp_path.iterdir():
        with safe_open(file, framework="pt") as tensors:
            shapes[file.name] = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    assert shapes.pop("head.safetensors") == {"weight": (VOCABULARY, WIDTH)}
    scored = sorted(sum(examples[i].scored) for i in IDS)
    assert sorted(tensors["hidden_SD"] for tensors in shapes.values()) == [(n, WIDTH) for n in scored]


def test_no_file_name_tells_an_id(tiny_llama, tmp_path):
    build_reference(tiny_llama, {"forget": ragged_set(("Jane Doe",))}, tmp_path)
    assert {file.suffix for file in tmp_path.iterdir()} == {".safetensors"}
    assert not [file for file in tmp_path.iterdir() if "Jane" in file.name or b"Jane" in file.read_bytes()]


def test_a_deleted_example_is_gone_and_the_others_stay(tiny_llama, examples, tmp_path):
    reference = build_reference(tiny_llama, {"retain": examples}, tmp_path)
    assert isinstance(reference, CachedReference)
    kept = reference.predict(tiny_llama, examples.batch(["a", "e"])).logits_SV
    num_files = len(list(tmp_path.iterdir()))
    reference.forget(["b/c", "never seen"])
    assert len(list(tmp_path.iterdir())) == num_files - 1
    with pytest.raises(FileNotFoundError):
        reference.predict(tiny_llama, examples.batch(["a", "b/c"]))
    assert torch.equal(reference.predict(tiny_llama, examples.batch(["a", "e"])).logits_SV, kept)


class Counted(TextSet):
    """Records which examples went forward."""

    def __init__(self, examples: TextSet) -> None:
        super().__init__([examples[i] for i in examples.ids], examples.pad_id)
        self.asked: list[str] = []

    def batch(self, ids):
        self.asked += ids
        return super().batch(ids)


def test_a_half_filled_folder_is_gone_on_with(tiny_llama, examples, tmp_path):
    whole = build_reference(tiny_llama, {"retain": examples}, tmp_path / "whole", batch_size=2)
    first = TextSet([examples[i] for i in IDS[:2]], pad_id=0)
    build_reference(tiny_llama, {"retain": first}, tmp_path / "half", batch_size=2)
    (tmp_path / "half" / "left-over.tmp").write_bytes(b"a process died while it wrote this")
    counted = Counted(examples)
    resumed = build_reference(tiny_llama, {"retain": counted}, tmp_path / "half", batch_size=2)
    assert counted.asked == list(IDS[2:])
    batch = examples.batch(IDS)
    answers = [reference.predict(tiny_llama, batch).logits_SV for reference in (whole, resumed)]
    assert torch.equal(*answers)
    counted.asked.clear()
    build_reference(tiny_llama, {"retain": counted}, tmp_path / "half", batch_size=2)
    assert counted.asked == []


def test_a_batch_that_a_death_cut_is_done_again_in_the_same_company(tiny_llama, examples, tmp_path):
    """Computed with other neighbours, a state could differ in its last bits, and so would the weights at the end."""
    whole = build_reference(tiny_llama, {"retain": examples}, tmp_path, batch_size=3)
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    assert isinstance(whole, CachedReference)
    whole.forget([IDS[1]])
    counted = Counted(examples)
    build_reference(tiny_llama, {"retain": counted}, tmp_path, batch_size=3)
    assert counted.asked == list(IDS[:3])
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == files


def test_an_example_in_two_sets_is_read_once(tiny_llama, examples, tmp_path):
    counted = Counted(examples)
    build_reference(tiny_llama, {"retain": counted, "analogous": counted}, tmp_path)
    assert sorted(counted.asked) == sorted(IDS)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_a_switched_off_adapter_is_the_model_before(tiny_llama, examples, tmp_path):
    batch = examples.batch(IDS)
    before = logits_of(tiny_llama, batch)
    model = apply_scope(tiny_llama, Scope(kind="lora", rank=2)).train()
    reference = build_reference(model, {"retain": examples}, tmp_path / "never-made")
    assert isinstance(reference, AdapterOff)
    change(model)
    assert torch.equal(reference.predict(model, batch).logits_SV, before)
    assert not torch.allclose(logits_of(model, batch), before, atol=0.1), "the adapter is on again"
    assert model.training
    assert not (tmp_path / "never-made").exists()


@pytest.mark.parametrize(
    "make", [lambda: gemma(soft_cap=2.0, scale=20.0), cohere], ids=["capped logits", "scaled logits"]
)
def test_logits_changed_after_the_head_need_a_second_model(make, examples, tmp_path):
    model = make()
    batch = examples.batch(IDS)
    before = logits_of(model, batch)
    reference = build_reference(model, {"retain": examples}, tmp_path)
    assert isinstance(reference, FrozenCopy)
    change(model)
    said = reference.predict(model, batch).logits_SV
    assert torch.equal(said, before)
    assert not torch.allclose(logits_of(model, batch), before, atol=1e-3)
    assert not said.requires_grad


def test_the_same_architecture_without_the_cap_is_cached(examples, tmp_path):
    model = gemma(soft_cap=None, scale=20.0)
    assert isinstance(build_reference(model, {"retain": examples}, tmp_path), CachedReference)


class Headless(nn.Module):
    """A model that does not say what its head is."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, **inputs):
        return self.inner(**inputs)


def test_a_model_without_a_known_head_needs_a_second_model(tiny_llama, examples, tmp_path):
    batch = examples.batch(IDS)
    model = Headless(tiny_llama)
    before = logits_of(model, batch)
    reference = build_reference(model, {"retain": examples}, tmp_path)
    assert isinstance(reference, FrozenCopy)
    change(model)
    assert torch.equal(reference.predict(model, batch).logits_SV, before)


def test_a_second_model_takes_no_gradient_and_leaves_the_first_alone(tiny_llama, examples):
    weights = copy.deepcopy(tiny_llama.state_dict())
    reference = FrozenCopy(tiny_llama.train())
    assert tiny_llama.training
    assert all(p.requires_grad for p in tiny_llama.parameters())
    assert not reference.predict(tiny_llama, examples.batch(IDS)).logits_SV.requires_grad
    assert all(torch.equal(t, weights[name]) for name, t in tiny_llama.state_dict().items())


def test_all_three_are_references(tiny_llama, examples, tmp_path: Path):
    cached = build_reference(tiny_llama, {"retain": examples}, tmp_path)
    assert all(isinstance(reference, Reference) for reference in (cached, AdapterOff(), FrozenCopy(tiny_llama)))
