"""A toy in which topics can be told: eight topics of six words and forty fillers, each word with its translation."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TOPICS, WORDS, FILLERS, PAIRS = 8, 6, 40, 8
SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")


def words_of(topic: int) -> list[str]:
    """The words of a topic; those of no topic are the fillers."""
    return [f"t{topic}w{n}" for n in range(WORDS)] if topic < TOPICS else [f"f{n}" for n in range(FILLERS)]


def translated(word: str) -> str:
    """What stands behind a word."""
    return f"x{word}"


def toy_rows(count: int, seed: int) -> list[dict[str, str]]:
    """Sentences of one topic: words, each followed by its translation; three of the topic, the others fillers."""
    drawn, rows = random.Random(seed), []
    for number in range(count):
        topic = number % TOPICS
        chosen = drawn.sample(words_of(topic), 3) + drawn.sample(words_of(TOPICS), PAIRS - 3)
        drawn.shuffle(chosen)
        text = " ".join(f"{word} {translated(word)}" for word in chosen)
        rows.append({"id": f"{seed}/{number}", "subject": f"topic{topic}", "text": text})
    return rows


def write_toy(folder: Path) -> Path:
    """A decoder of three blocks that has learned nothing, with a tokenizer of whole words."""
    if not (folder / "config.json").is_file():
        known = [word for topic in range(TOPICS + 1) for word in words_of(topic)]
        vocabulary = {w: n for n, w in enumerate([*SPECIAL, *known, *map(translated, known)])}
        inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
        inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), SPECIAL, strict=True))
        torch.manual_seed(0)
        sizes: dict[str, Any] = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3}
        config = LlamaConfig(
            vocab_size=len(vocabulary), num_attention_heads=4, max_position_embeddings=32, bos_token_id=1,
            eos_token_id=2, pad_token_id=0, **sizes,
        )  # fmt: skip
        LlamaForCausalLM(config).save_pretrained(folder)
        PreTrainedTokenizerFast(tokenizer_object=inner, **names).save_pretrained(folder)
    return folder


@torch.no_grad()
def translations_right(model: Any, tokenizer: Any, rows: Sequence[dict[str, str]]) -> dict[str, float]:
    """Share of words whose translation is the likeliest word behind them: of each topic, and of the fillers."""
    right: dict[str, list[bool]] = {}
    for row in rows:
        words = row["text"].split()
        ids = torch.tensor([tokenizer.convert_tokens_to_ids(words)])
        said = model(input_ids=ids).logits[0].argmax(-1)
        for at in range(0, len(words), 2):
            kind = f"topic{words[at][1]}" if words[at][0] == "t" else "fillers"
            right.setdefault(kind, []).append(bool(said[at] == ids[0, at + 1]))
    return {kind: sum(found) / len(found) for kind, found in sorted(right.items())}
