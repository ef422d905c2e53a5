"""Tiny models that have half learned a few texts, and the literal definitions of MA and EL_n through ``generate``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoConfig,
    GPTNeoForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from palimpsest.data.encode.batch import TextSet, TokenSequence
from palimpsest.metrics.metric import Facts

VOCABULARY, LENGTH, TEXTS = 64, 20, 3


def new_model(kind: str) -> PreTrainedModel:
    """A random model; the local layers of the GPT-Neo see fewer tokens than the texts have."""
    torch.manual_seed(1)
    no_eos = {"bos_token_id": None, "eos_token_id": None}
    if kind == "gpt_neo":
        types = [[["global", "local"], 1]]
        sizes = {"hidden_size": 32, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 32, "window_size": 9}
        model = GPTNeoForCausalLM(GPTNeoConfig(vocab_size=VOCABULARY, attention_types=types, **sizes, **no_eos))
    elif kind == "gpt2":
        model = GPT2LMHeadModel(
            GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_positions=32, **no_eos)
        )
    else:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        model = LlamaForCausalLM(
            LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, max_position_embeddings=32, **sizes, **no_eos)
        )
    return model.eval()


def new_texts() -> torch.Tensor:
    """Texts of few distinct tokens, so that n-grams repeat and wrong continuations find their way back."""
    return torch.randint(0, 12, (TEXTS, LENGTH), generator=torch.Generator().manual_seed(7))


@pytest.fixture(scope="session")
def texts() -> torch.Tensor:
    """(3, 20) tokens."""
    return new_texts()


@pytest.fixture(scope="session", params=["gpt_neo", "gpt2", "llama"])
def half_learned(request: pytest.FixtureRequest, texts: torch.Tensor) -> PreTrainedModel:
    """A model of each layout that has learned the texts about half."""
    return learn(new_model(request.param), texts)


def learn(model: PreTrainedModel, texts: torch.Tensor, enough: float = 0.72) -> PreTrainedModel:
    """Train until this share of the arg-maxes is right."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(200):
        logits = model(texts).logits[:, :-1]
        if (logits.argmax(-1) == texts[:, 1:]).float().mean() >= enough:
            return model
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), texts[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    raise AssertionError("the tiny model did not learn its texts")


@pytest.fixture(scope="session")
def as_set() -> Callable[..., TextSet]:
    """Rows of tokens -> TextSet; ``prompts`` gives the length of an unscored prompt per row."""

    def build(rows: Sequence[Sequence[int]], prompts: Sequence[int] | None = None, pad_id: int = 0) -> TextSet:
        starts = [1] * len(rows) if prompts is None else prompts
        return TextSet(
            [
                TokenSequence(f"x{k}", tuple(map(int, row)), tuple(t >= start for t in range(len(row))))
                for k, (row, start) in enumerate(zip(rows, starts, strict=True))
            ],
            pad_id,
        )

    return build


def _generate(model: PreTrainedModel, row: Sequence[int], prefix: int, length: int, eos: Sequence[int]) -> list[int]:
    prompt = torch.tensor([list(row[:prefix])])
    options = {"eos_token_id": list(eos), "pad_token_id": min(eos)} if eos else {"pad_token_id": 0}
    out = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_length=length, do_sample=False, **options)
    tokens = out[0].tolist()
    return tokens + [min(eos)] * (length - len(tokens)) if eos else tokens


@pytest.fixture(scope="session")
def literal_ma() -> Callable[..., float]:
    """One ``generate`` call per position."""

    def compute(model: PreTrainedModel, row: Sequence[int], start: int = 1) -> float:
        hits = [_generate(model, row, i, i + 1, ())[i] == row[i] for i in range(start, len(row))]
        return sum(hits) / len(hits)

    return compute


@pytest.fixture(scope="session")
def literal_continuations() -> Callable[..., dict[int, list[int]]]:
    """One ``generate`` call per prefix: prefix length -> the whole text."""

    known: dict[tuple[object, ...], dict[int, list[int]]] = {}

    def compute(model: PreTrainedModel, row: Sequence[int], eos: Sequence[int] = ()) -> dict[int, list[int]]:
        key = (model, *row, "eos", *eos)
        if key not in known:
            known[key] = {i: _generate(model, row, i, len(row), eos) for i in range(1, len(row))}
        return known[key]

    return compute


@pytest.fixture(scope="session")
def literal_el() -> Callable[..., float | None]:
    """The double sum of the definition, with n-grams as tuples."""

    def ngrams(tokens: Sequence[int], n: int) -> list[tuple[int, ...]]:
        return [tuple(tokens[k : k + n]) for k in range(len(tokens) - n + 1)]

    def compute(row: Sequence[int], continuations: dict[int, list[int]], n: int, first: int) -> float | None:
        overlaps = []
        for i in range(first, len(row) - n + 1):
            reference = ngrams(list(row[i:]), n)
            found = [g for g in ngrams(continuations[i][i:], n) if g in set(reference)]
            overlaps.append(len(found) / len(reference))
        return float(np.mean(overlaps)) if overlaps else None

    return compute


@pytest.fixture(scope="session")
def facts_of() -> Callable[..., Facts]:
    """Facts about an example of which only the label tokens matter."""

    def build(right: Sequence[bool], *, logp: Sequence[float] | None = None, ends_with_eos: bool = False) -> Facts:
        tokens = np.arange(len(right) + 1)
        logps = np.zeros(len(right)) if logp is None else np.array(logp)
        return Facts(tokens, tokens[1:], np.array(right, dtype=bool), logps, ends_with_eos)

    return build
