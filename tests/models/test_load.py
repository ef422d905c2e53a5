"""What is accepted as a model, and what is refused with which words."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from palimpsest.cli import main
from palimpsest.errors import ModelError
from palimpsest.models import sources
from palimpsest.models.load import (
    CPU_ONE_THREAD_BELOW,
    Loaded,
    check_folder,
    count_parameters,
    load,
    load_tokenizer,
    use_threads,
)
from palimpsest.models.resnet import SmallResNet, resnet_config
from palimpsest.models.sources import is_image_model

# PEFT 0.21 asks transformers 5.23 for a property under its old name
adapter = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")


def word_tokenizer() -> PreTrainedTokenizerFast:
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "ann": 3, "lives": 4, "here": 5}
    inner = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


@pytest.fixture
def folder(tiny_llama, tmp_path) -> Path:
    """A whole model folder."""
    tiny_llama.save_pretrained(tmp_path / "model")
    word_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def logits(model, tokens=(3, 4, 5, 6)):
    with torch.no_grad():
        return model(input_ids=torch.tensor([tokens])).logits


def edit_config(folder: Path, **values) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def edit_weights(folder: Path, change) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def one_line(error: pytest.ExceptionInfo[ModelError]) -> bool:
    return "\n" not in str(error.value)


@pytest.mark.parametrize("as_text", [True, False])
def test_a_folder_loads_in_eval_mode_with_its_tokenizer(folder, tiny_llama, as_text):
    loaded = load(str(folder) if as_text else folder)
    assert torch.equal(logits(loaded.model), logits(tiny_llama))
    assert not loaded.model.training
    assert loaded.tokenizer("ann lives here")["input_ids"] == [3, 4, 5]
    assert loaded.source == str(folder)


def test_half_precision_weights_are_read_in_full_precision_on_a_cpu(folder, tiny_llama):
    tiny_llama.to(torch.bfloat16).save_pretrained(folder)
    assert {p.dtype for p in load(folder).model.parameters()} == {torch.float32}


def test_a_tilde_is_the_home_folder(folder, monkeypatch, tiny_llama):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert torch.equal(logits(load("~/model").model), logits(tiny_llama))


def break_json(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": ')


def break_utf8(folder: Path) -> None:
    (folder / "config.json").write_bytes(b'{"model_type": "\xff"}')


def remove_type(folder: Path) -> None:
    (folder / "config.json").write_text('{"hidden_size": 32}')


def to_list(folder: Path) -> None:
    (folder / "config.json").write_text('["model_type"]')


def pickle_it(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def add_layer(folder: Path) -> None:
    edit_weights(folder, lambda tensors: tensors.update({"model.layers.0.mlp.added.weight": torch.ones(2)}))


def as_kind(kind: torch.dtype):
    """All matrices as other numbers, and a mask beside them, which may be of any."""

    def damage(folder: Path) -> None:
        mask = {"transformer.h.0.attn.bias": torch.ones(1, 1, 2, 2, dtype=torch.bool)}

        def cast(tensors) -> None:
            matrices = {n: w.to(kind) for n, w in tensors.items() if n.endswith("proj.weight")}
            tensors.update(matrices | mask)

        edit_weights(folder, cast)

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (as_kind(torch.int32), r"proj.weight is stored as I32 in model.safetensors; accepted: weights of real numbers"),
        (as_kind(torch.int8), r"proj.weight is stored as I8"),
        (as_kind(torch.complex64), r"proj.weight is stored as C64"),
        (lambda f: (f / "config.json").unlink(), "no config.json; give a folder written by save_pretrained"),
        (break_json, "config.json is not JSON"),
        (break_utf8, "config.json is not JSON"),
        (remove_type, "names no model_type; give the folder of a causal LM"),
        (to_list, "names no model_type"),
        (lambda f: (f / "model.safetensors").unlink(), r"no .safetensors weights; save it with save_pretrained"),
        (pickle_it, r"no .safetensors weights \(found pytorch_model.bin, which is never unpickled\)"),
        (lambda f: (f / "model.safetensors").write_bytes(b"not weights"), "cannot be loaded as a causal LM"),
        (lambda f: edit_config(f, model_type="no_such_type"), "cannot be loaded as a causal LM"),
        (lambda f: edit_config(f, model_type="t5"), "cannot be loaded as a causal LM"),
        (
            lambda f: edit_config(f, vocab_size=70),
            r"missing or misshapen, e.g. \S+, \(\d+, 32\) in its file and \(70, 32\) by its config.json",
        ),
        (lambda f: edit_config(f, num_hidden_layers=3), "9 weights are missing or misshapen, e.g. model.layers.2"),
        (lambda f: edit_weights(f, lambda t: t.pop("model.norm.weight")), "1 weight is missing.*model.norm.weight"),
        (add_layer, r"1 weight of its file has no place in a LlamaForCausalLM, e.g. model.layers.0.mlp.added.weight"),
    ],
    ids=[
        "whole-numbers",
        "bytes",
        "complex",
        "no-config",
        "half-a-config",
        "config-not-text",
        "no-type",
        "config-a-list",
        "no-weights",
        "pickle",
        "not-weights",
        "unknown-type",
        "no-causal-lm",
        "other-vocabulary",
        "more-layers",
        "one-tensor-less",
        "one-tensor-more",
    ],
)
def test_a_damaged_folder_is_refused_by_name(folder, damage, words):
    damage(folder)
    with pytest.raises(ModelError, match=words) as error:
        load(folder)
    assert str(folder) in str(error.value)
    assert one_line(error)


@pytest.mark.parametrize("place", ["nowhere", "nowhere/deeper/still"])
def test_a_folder_that_is_not_there_is_refused(tmp_path, place):
    with pytest.raises(ModelError, match="no such folder; give a folder written by save_pretrained"):
        load(tmp_path / place)


def test_a_file_is_no_folder(folder):
    with pytest.raises(ModelError, match="no such folder"):
        load(folder / "model.safetensors")


def test_a_missing_tokenizer_is_refused_only_where_one_is_needed(tiny_llama, tmp_path):
    tiny_llama.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no tokenizer beside the weights .*save_pretrained") as error:
        load(tmp_path)
    assert one_line(error)
    assert load(tmp_path, tokenizer_needed=False).tokenizer is None


def test_a_folder_with_a_tokenizers_options_alone_has_none(tmp_path):
    """Of Qwen2's class transformers makes one without a word in it."""
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "vocab_size": 6}
    Qwen2ForCausalLM(Qwen2Config(num_attention_heads=2, num_key_value_heads=2, **sizes)).save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "Qwen2Tokenizer"}')
    with pytest.raises(ModelError, match="no tokenizer beside the weights"):
        load(tmp_path)


@pytest.mark.parametrize("model_type", ["llama", "qwen2", "gpt2"])
def test_a_tokenizer_reads_as_it_was_saved(folder, model_type):
    """transformers would take the class of Qwen2, which cuts a number into its digits, for any tokenizer of Qwen2's."""
    inner = Tokenizer(models.BPE({"1": 0, "2": 1, "12": 2}, [("1", "2")]))
    PreTrainedTokenizerFast(tokenizer_object=inner).save_pretrained(folder)
    edit_config(folder, model_type=model_type)
    assert load_tokenizer(folder)("12")["input_ids"] == [2]


@pytest.mark.parametrize(
    ("name", "revision"), [("gpt2", None), ("owner/name", None), ("a/b/c", None), ("a/b/c", "0123abc")]
)
def test_a_hub_name_needs_a_pinned_revision(name, revision):
    with pytest.raises(ModelError, match=rf"'{name}': no such folder; a Hub name .*--revision COMMIT"):
        load(name, revision=revision)


def test_without_a_revision_the_hub_is_not_asked(monkeypatch):
    monkeypatch.setattr(sources, "read_config", lambda *given: pytest.fail("asked"))
    assert not is_image_model("owner/name")


def test_a_hub_name_that_cannot_be_had_is_refused():
    with pytest.raises(
        ModelError, match="owner/no-such-name: (cannot be loaded as a causal LM|the Hub cannot)"
    ) as error:
        load("owner/no-such-name", revision="0123abc")
    assert one_line(error)


@pytest.mark.parametrize("type_field", ["model_type", "peft_type"])
def test_the_check_of_a_folder_reads_no_weights(tmp_path, type_field):
    config = "adapter_config.json" if type_field == "peft_type" else "config.json"
    (tmp_path / config).write_text(json.dumps({type_field: "anything"}))
    (tmp_path / ("adapter_model.safetensors" if type_field == "peft_type" else "any.safetensors")).write_bytes(b"")
    check_folder(tmp_path)


@pytest.fixture
def adapter_folder(folder, tiny_llama, tmp_path) -> tuple[Path, torch.Tensor]:
    """An adapter on the model of ``folder``, and the logits of both together."""
    from peft import LoraConfig, get_peft_model

    tiny_llama.name_or_path = str(folder)
    wrapped = get_peft_model(tiny_llama, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=torch.Generator().manual_seed(1))
    wrapped.eval().save_pretrained(tmp_path / "adapter")
    word_tokenizer().save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", logits(wrapped)


@adapter
def test_an_adapter_folder_is_merged_to_equal_logits(folder, adapter_folder):
    place, wanted = adapter_folder
    merged = load(place).model
    assert not any("lora" in name for name, _ in merged.named_parameters())
    assert torch.allclose(logits(merged), wanted, atol=1e-5)
    assert not torch.allclose(logits(merged), logits(load(folder).model), atol=1e-2)


LORA_A = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"


@adapter
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.update({LORA_A.replace("layers.0", "layers.9"): torch.ones(4, 32)}),
            "1 weight .*layers.9.*lora_A",
        ),
        (lambda t: t.update({"base_model.model.added.weight": torch.ones(2)}), "1 weight .* no place .*added.weight"),
        (lambda t: t.pop(LORA_A), "1 weight is missing or misshapen, e.g. .*layers.0.mlp.up_proj.lora_A"),
        (lambda t: t.update({LORA_A: torch.ones(5, 32)}), "its adapter cannot be loaded: "),
    ],
    ids=["a-layer-too-many", "a-module", "one-less", "other-rank"],
)
def test_an_adapter_that_does_not_land_whole_is_refused(adapter_folder, change, words):
    place, _ = adapter_folder
    tensors = load_file(place / "adapter_model.safetensors")
    change(tensors)
    save_file(tensors, place / "adapter_model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=words) as error:
        load(place)
    assert one_line(error)


@adapter
def test_the_base_of_an_adapter_is_looked_at_as_any_model(folder, adapter_folder):
    add_layer(folder)
    with pytest.raises(
        ModelError, match=r"the base of its adapter cannot be loaded: .* no place in a LlamaForCausalLM"
    ):
        load(adapter_folder[0])


def test_an_adapter_without_its_base_is_refused(tmp_path):
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "gone"), "task_type": "CAUSAL_LM"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    save_file({"x": torch.zeros(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="the base of its adapter cannot be loaded: .*no such folder") as error:
        load(tmp_path)
    assert one_line(error)


def test_a_stranger_in_the_file_is_one_line_and_exit_2(folder, tmp_path, capfd):
    """Transformers' own table of it is not shown beside."""
    add_layer(folder)
    (tmp_path / "rows.jsonl").write_text('{"id": "a", "text": "ann lives here"}\n')
    assert main(["measure", "--model", str(folder), "--data", str(tmp_path / "rows.jsonl")]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if "Loading weights" not in line]
    assert len(said) == 1
    assert "has no place in a LlamaForCausalLM" in said[0]


def test_an_image_classifier_with_a_stranger_is_refused(tmp_path):
    SmallResNet(resnet_config("resnet20", 3, widths=(2, 2, 2), image_size=8)).save_pretrained(tmp_path)
    edit_weights(tmp_path, lambda tensors: tensors.update({"layer1.0.added.weight": torch.ones(2)}))
    with pytest.raises(ModelError, match="1 weight of its file has no place in a SmallResNet, e.g. layer1.0.added"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("generation", "config", "tokenizer", "expected"),
    [
        ([7, 8], 2, 1, {7, 8}),
        (7, 2, 1, {7}),
        (0, 2, 1, {0}),
        (None, [2, 3], 1, {2, 3}),
        (None, None, 1, {1}),
        (None, None, None, set()),
    ],
    ids=["list", "one", "token-zero", "from-config", "from-tokenizer", "none"],
)
def test_what_ends_a_generation(generation, config, tokenizer, expected):
    model = SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=generation), config=SimpleNamespace(eos_token_id=config)
    )
    assert Loaded(model, SimpleNamespace(eos_token_id=tokenizer), "x").eos_ids == frozenset(expected)


@pytest.mark.parametrize("eos", [[[1]], 10**30, "2", 1.5, [2, None]])
def test_what_ends_a_generation_is_tokens(folder, eos):
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token_id": eos}))
    with pytest.raises(ModelError, match="eos_token_id|cannot be loaded") as error:
        load(folder)
    assert one_line(error)


def test_a_list_of_eos_tokens_survives_saving(folder, tiny_llama):
    tiny_llama.generation_config = GenerationConfig(eos_token_id=[2, 9])
    tiny_llama.save_pretrained(folder)
    assert load(folder).eos_ids == {2, 9}


def test_no_tokenizer_and_no_generation_config_leave_the_config(tiny_llama):
    model = SimpleNamespace(config=tiny_llama.config)
    assert Loaded(model, None, "x").eos_ids == {2}


def test_tied_weights_are_counted_once(tiny_llama):
    tensors = {p.data_ptr(): p.numel() for p in tiny_llama.state_dict().values()}
    assert count_parameters(tiny_llama) == sum(tensors.values())
    assert tiny_llama.lm_head.weight is tiny_llama.model.embed_tokens.weight


@pytest.fixture
def three_threads(monkeypatch) -> list[int]:
    """Three threads in use; what is set instead is recorded and the process keeps its own number."""
    in_use = [3]
    monkeypatch.setattr(torch, "set_num_threads", in_use.append)
    monkeypatch.setattr(torch, "get_num_threads", lambda: in_use[-1])
    return in_use


@pytest.mark.parametrize(
    ("parameters", "asked", "expected"),
    [
        (CPU_ONE_THREAD_BELOW - 1, None, 1),
        (CPU_ONE_THREAD_BELOW, None, 3),
        (CPU_ONE_THREAD_BELOW - 1, 2, 2),
        (CPU_ONE_THREAD_BELOW, 2, 2),
    ],
)
def test_a_small_model_gets_one_thread_unless_asked(three_threads, parameters, asked, expected):
    model = torch.nn.Module()
    model.weight = torch.nn.Parameter(torch.empty(parameters, device="meta"))
    assert use_threads(model, asked) == expected
    assert torch.get_num_threads() == expected
