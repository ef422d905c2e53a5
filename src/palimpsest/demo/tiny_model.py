"""A language model of our own, small enough to train while one waits.

A byte-level BPE tokenizer is trained on general text only, so that no personal datum is baked into the vocabulary,
which no unlearning could reach; then a Llama of about 350,000 random parameters is laid beside it. Training it is left
to the ordinary verb: ``palimpsest.verbs.learn``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from palimpsest.durable import put, with_usual_modes
from palimpsest.errors import DataError

VOCABULARY = 512
MAX_TOKENS = 128
BOS, EOS, PAD = "<bos>", "<eos>", "<pad>"


def new_model(folder: Path, texts: Sequence[str], seed: int) -> Path:
    """Write a fresh, untrained model with its tokenizer.

    Args:
        folder: made if it does not exist; loads with ``from_pretrained``.
        texts: what the tokenizer's merges are learned from; at least one that is not blank. Use general text.
        seed: of the random weights. Same seed and texts, same bytes; the caller's random state is left as it was.

    Returns:
        The folder.

    Raises:
        DataError: every text is blank.
    """
    tokenizer = train_tokenizer(texts)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=80,
        intermediate_size=216,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=MAX_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    with_usual_modes(folder)
    return folder


def new_model_whole(folder: Path, texts: Sequence[str], seed: int) -> None:
    """Make the model of ``new_model`` in a folder that is whole or not there."""
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as place:
        put(new_model(Path(place) / folder.name, texts, seed), folder)


def train_tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer: any text survives the round trip, whatever it was trained on.

    Args:
        texts: at least one that is not blank.

    Returns:
        Tokenizer with at most ``VOCABULARY`` entries. It puts ``<bos>`` in front of a text and nothing behind it.

    Raises:
        DataError: every text is blank.
    """
    if not any(text.strip() for text in texts):
        raise DataError(f"demo tokenizer: {len(texts)} texts, all blank, refused; accepted: at least one with words")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        # Digits stand alone: a number is then spelled, not looked up, and numbers of one kind are equally long.
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[BOS, EOS, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=MAX_TOKENS,
    )
