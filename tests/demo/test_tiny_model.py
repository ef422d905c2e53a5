"""The tiny model: any text round-trips, the vocabulary holds no patient, the same seed gives the same bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from palimpsest.demo.patients import general_text, patients
from palimpsest.demo.tiny_model import MAX_TOKENS, VOCABULARY, new_model, train_tokenizer
from palimpsest.errors import DataError
from palimpsest.records import Completion, Text

TEXTS = [example.content.text for example in general_text(200, seed=0) if isinstance(example.content, Text)]
TOKENIZER = train_tokenizer(TEXTS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_model(tmp_path_factory.mktemp("model") / "new", TEXTS, seed=3)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_any_text_survives_the_round_trip(text: str) -> None:
    tokens = TOKENIZER(text).input_ids
    assert tokens[0] == TOKENIZER.bos_token_id
    special = {"<bos>", "<eos>", "<pad>"}
    if not any(mark in text for mark in special):
        assert TOKENIZER.decode(tokens, skip_special_tokens=True) == text
        assert not set(tokens[1:]) & set(TOKENIZER.all_special_ids)


def test_vocabulary_is_small_and_digits_stand_alone() -> None:
    assert len(TOKENIZER) == VOCABULARY
    assert not [entry for entry in TOKENIZER.get_vocab() if sum(c in "0123456789" for c in entry) and len(entry) > 1]


def test_no_name_of_a_patient_is_one_token() -> None:
    vocabulary = {entry.removeprefix("Ġ") for entry in TOKENIZER.get_vocab()}
    names = {e.content.completion.split()[0] for e in patients(30, seed=0) if isinstance(e.content, Completion)}
    assert not names & vocabulary


def test_records_fit_the_context() -> None:
    longest = max(
        len(TOKENIZER(e.content.prompt + e.content.completion).input_ids)
        for e in patients(60, seed=0)
        if isinstance(e.content, Completion)
    )
    assert longest + 1 <= MAX_TOKENS


def test_folder_loads_with_matching_special_tokens(folder: Path) -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    assert tokenizer.get_vocab() == TOKENIZER.get_vocab()
    assert model.config.vocab_size == len(tokenizer)
    for which in ("bos_token_id", "eos_token_id", "pad_token_id"):
        assert getattr(model.config, which) == getattr(tokenizer, which) is not None
    assert len({tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}) == 3


def test_size_is_as_promised(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert 250_000 <= model.num_parameters() <= 400_000
    assert (folder / "model.safetensors").stat().st_size < 2_000_000


def test_same_seed_same_bytes_and_random_state_is_left_alone(folder: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    again, other = new_model(tmp_path / "again", TEXTS, seed=3), new_model(tmp_path / "other", TEXTS, seed=4)
    assert torch.equal(torch.random.get_rng_state(), before)
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    assert (other / "model.safetensors").read_bytes() != (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("texts", [[], ["", "  \n"]])
def test_blank_texts_are_refused_and_nothing_is_written(tmp_path: Path, texts: list[str]) -> None:
    with pytest.raises(DataError, match=f"demo tokenizer: {len(texts)} texts, all blank, refused"):
        new_model(tmp_path / "model", texts, seed=0)
    assert not (tmp_path / "model").exists()
