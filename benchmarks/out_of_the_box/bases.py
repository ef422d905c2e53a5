"""The language models before they learn a world's rows: the published one and two that are trained here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoTokenizer,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

import palimpsest as pal
from out_of_the_box.recipes import SMOOTH, fixed
from out_of_the_box.texts import cut, lines, stories, write_lines
from palimpsest.records import digest
from palimpsest.report.schema import RunResult

REPLAY, GENERAL = (0, 300), (300, 332)  # stories rehearsed and measured; no base of ours was trained on the latter
CHUNK, LONG_TOKEN = 128, 8  # tokens of a row that a base is trained on; characters that hardly any token exceeds
VOCABULARY = 3072


@dataclass(frozen=True)
class Base:
    """A model that has learned no world yet.

    Attributes:
        name: as it stands in a world's name.
        longest: tokens that a world's rows are cut to.
        rate: learning rate at which it learns a world.
        steps: of learning a world; the half more as long as it does not know its rows.
        relearning_rate: of learning again what was forgotten.
        fresh: writes the untrained model and tokenizer; None for the published one.
        training: of the model that is trained here.
    """

    name: str
    longest: int
    rate: float
    steps: int
    relearning_rate: float
    fresh: Callable[[Path, Path], None] | None = None
    training: dict[str, Any] | None = None


def fresh_neox(data: Path, folder: Path) -> None:
    """A GPT-NeoX of a million parameters with the published model's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(data / "llama-stories260k")
    sizes = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 5, "num_attention_heads": 4}
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer), max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=0, **sizes
    )
    torch.manual_seed(0)
    GPTNeoXForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def fresh_llama(data: Path, folder: Path) -> None:
    """A Llama of ten million parameters with a vocabulary of its own."""
    tokenizer = train_tokenizer(corpus(data))
    sizes = {"hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 5}
    heads = {"num_attention_heads": 6, "num_key_value_heads": 6}
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=256, tie_word_embeddings=True, **sizes, **heads, **special
    )
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def train_tokenizer(texts: Iterator[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE of ``VOCABULARY`` tokens that puts ``<bos>`` in front of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<bos>", "<eos>", "<pad>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", 0)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", model_max_length=256
    )


SCHEDULE = {**SMOOTH, "batch_size": 16, "warmup_steps": 50, "checkpoint_steps": 200}
BASES = {
    base.name: base
    for base in (
        Base("260k", 80, 3e-3, 160, 1e-3),
        Base("1m", 80, 3e-3, 240, 1e-3, fresh_neox, {**SCHEDULE, "learning_rate": 4e-3, "max_steps": 1000}),
        Base("10m", 48, 1e-3, 100, 3e-4, fresh_llama, {**SCHEDULE, "learning_rate": 2e-3, "max_steps": 500}),
    )
}


def corpus(data: Path) -> Iterator[str]:
    """General text of several kinds; of the stories all but those that are measured."""
    folder = data / "text-domains"
    for row in lines(folder / "tinystories.jsonl")[: GENERAL[0]] + lines(folder / "tinystories.jsonl")[GENERAL[1] :]:
        yield row["text"]
    for row in lines(folder / "gsm8k_train2500.jsonl")[:600]:
        yield f"{row['question']}\n{row['answer']}"
    for name in ("book_sherlock.txt", "wikitext2_valid.txt"):
        yield from (folder / name).read_text(encoding="utf-8")[:500_000].split("\n\n")


def chunks(data: Path, num_tokens: Callable[[str], int]) -> Iterator[dict[str, str]]:
    """The general text in rows of about ``CHUNK`` tokens."""
    number = 0
    for text in corpus(data):
        rest = text.strip()
        while rest:
            piece = cut(rest[: LONG_TOKEN * CHUNK], CHUNK, num_tokens)  # a book is not counted whole for each row
            if not piece.strip():
                break
            yield {"id": f"c{number}", "text": piece}
            number, rest = number + 1, rest[len(piece) :].lstrip()


def counter(folder: Path) -> Callable[[str], int]:
    """How many tokens a model makes of a text, the one before it left out."""
    tokenizer = AutoTokenizer.from_pretrained(folder, model_max_length=10**9)  # texts are counted before they are cut
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])


def base_folder(name: str, data: Path, cache: Path) -> Path:
    """The base's folder, trained first if it is not there.

    Args:
        name: one of ``BASES``.
        data: where the real inputs are.
        cache: keeps what was trained.
    """
    base = BASES[name]
    if base.fresh is None:
        return data / "llama-stories260k"
    key = digest({"training": base.training, "corpus": digest(list(corpus(data))), "vocabulary": VOCABULARY})[:8]
    folder = cache / "bases" / f"{name}-{key}"
    if not (folder / "trained" / "result.json").is_file():
        train_base(base, data, folder)
    return folder / "trained"


def train_base(base: Base, data: Path, folder: Path) -> None:
    """Write the untrained model, the corpus in rows, and let the ordinary verb learn them."""
    if not (folder / "data" / "general.jsonl").is_file():
        base.fresh(data, folder / "untrained")
        num_tokens = counter(folder / "untrained")
        write_lines(folder / "data" / "learn.jsonl", chunks(data, num_tokens))
        general = [{**row, "text": cut(row["text"], CHUNK, num_tokens)} for row in stories(data, *GENERAL)]
        write_lines(folder / "data" / "general.jsonl", general)
    result = pal.learn(
        folder / "untrained",
        folder / "data" / "learn.jsonl",
        general=folder / "data" / "general.jsonl",
        output=folder / "trained",
        plan=fixed(base.training, {"metrics": ["es"], "limit": 32}),
        threads=1,
    )
    print(f"{folder}: {facts_of(folder / 'trained', result)}", flush=True)


def facts_of(folder: Path, result: RunResult | None = None) -> str:
    """Perplexity on stories it never saw, size and seconds of a base that was trained here, in words."""
    found = RunResult.load(folder / "result.json") if result is None else result
    perplexity = found.scores["after"]["general"]["ppl"].value
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    seconds = found.cost["training"].seconds
    words = f"{config['model_type']}, vocabulary {config['vocab_size']}, perplexity {perplexity:.1f}"
    return f"{words} ({math.log(perplexity):.2f} nats) on stories it never saw, trained in {seconds / 60:.1f} minutes"
