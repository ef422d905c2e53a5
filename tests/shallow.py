"""The demo's model without its upper half: what a run does around a model costs a test less time then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import LlamaForCausalLM

from palimpsest.demo.tiny_model import new_model

LAYERS = 2


def shallow_model(folder: Path, texts: Sequence[str], seed: int) -> Path:
    """A folder as ``new_model`` makes it, of a model with two of its four layers; the tokenizer is the same."""
    model = LlamaForCausalLM.from_pretrained(new_model(folder, texts, seed))
    model.model.layers = model.model.layers[:LAYERS]
    model.config.num_hidden_layers = LAYERS
    model.save_pretrained(folder)
    return folder
