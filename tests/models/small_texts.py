"""Tiny models of the families that take texts, each with a tokenizer of a few words, as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as T
from tokenizers import Tokenizer, models, pre_tokenizers, processors

WORDS = [
    *("ann", "bob", "cid", "dora", "eve", "lives", "works", "plays", "at", "in", "on", "the", "a", "team", "sings"),
    *("sells", "where", "does", "city", "song", "farm", "bank", "lake", "river", "hill"),
]
SPECIAL = ["<pad>", "</s>", "<unk>", "<cls>", "<sep>"]
SMALL: dict[str, Any] = {"vocab_size": len(SPECIAL) + len(WORDS), "pad_token_id": 0}
LABELS = ("sport", "music", "trade")


def tokenizer(*, closes: str) -> Any:
    """A word a token; texts end in ``closes``."""
    ids = {word: number for number, word in enumerate([*SPECIAL, *WORDS])}
    made = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    begins = "<cls> " if closes == "<sep>" else ""
    template = processors.TemplateProcessing(
        single=f"{begins}$A {closes}", special_tokens=[(token, ids[token]) for token in SPECIAL]
    )
    made.post_processor = template
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return T.PreTrainedTokenizerFast(tokenizer_object=made, **names, cls_token="<cls>", sep_token="<sep>")


def t5() -> Any:
    """An encoder and a decoder of a block each."""
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "dropout_rate": 0.0}
    return T.T5ForConditionalGeneration(T.T5Config(**SMALL, **sizes, eos_token_id=1, decoder_start_token_id=0))


def classifier(layout: str) -> Any:
    """A classifier of texts of three classes: "bert", or "llama" with its class at the last token."""
    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: n for n, name in enumerate(LABELS)}}
    if layout == "bert":
        sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
        still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "max_position_embeddings": 32}
        return T.BertForSequenceClassification(T.BertConfig(**SMALL, **sizes, **still, **names))
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    config = T.LlamaConfig(**SMALL, **sizes, **names, num_key_value_heads=2, max_position_embeddings=32, eos_token_id=1)
    return T.LlamaForSequenceClassification(config)


def saved(kind: str, folder: Path) -> Path:
    """A folder of one of "t5", "bert", "llama", with its tokenizer."""
    model = t5() if kind == "t5" else classifier(kind)
    model.eval().save_pretrained(folder)
    tokenizer(closes="<sep>" if kind == "bert" else "</s>").save_pretrained(folder)
    return folder


def labelled_rows() -> list[dict[str, Any]]:
    """Texts with the name of a class that no word of them tells, each with a subject."""
    said = {"city": "sings a song in the", "river": "works at the", "hill": "lives on the", "lake": "plays at the"}
    people = ("ann", "bob", "cid", "dora", "eve")
    return [
        {
            "id": f"{person}-{place}",
            "text": f"{person} {words} {place}",
            "label": LABELS[(number * number + 2 * k + number * k) % len(LABELS)],
            "subject": person,
        }
        for number, person in enumerate(people)
        for k, (place, words) in enumerate(said.items())
    ]


def pair_rows() -> list[dict[str, Any]]:
    """Questions with an answer, each with a subject."""
    places = ("city", "river", "hill", "lake", "farm")
    people = ("ann", "bob", "cid", "dora", "eve")
    return [
        {"id": f"{p}-{k}", "prompt": f"where does {p} {verb}", "completion": f"{p} {verb} at the {place}", "subject": p}
        for number, p in enumerate(people)
        for k, (verb, place) in enumerate(zip(("lives", "works", "sings"), places[number:] + places, strict=False))
    ]
