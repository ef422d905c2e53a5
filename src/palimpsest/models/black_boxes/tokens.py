"""Texts as token ids: what kinds of black boxes that are asked about texts share. The tokenizer stays on this side.

Shape legend: B texts, T tokens of one, P positions of a soft prompt, D width of an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import Field

from palimpsest.models.black_boxes.box import NUM_PROBES, BlackBoxFacts, Box, question_digest
from palimpsest.records import digest

if TYPE_CHECKING:
    from torch import Tensor

    from palimpsest.models.loaded import Loaded

READER_WIDTH = 512
"""Numbers that ``token_reader.py`` gives for each token."""
_PROBE_TOKENS = 8
_OF_THE_MODEL = ("model.", "adapter_", "config.", "generation_")


class TokenFacts(BlackBoxFacts):
    """What is known of a model that takes token ids."""

    vocabulary: int = Field(ge=2, le=10_000_000)
    """Token ids that it knows: 0 up to here."""
    longest: int | None = Field(default=None, ge=2)
    """Tokens of a text at most; None = no limit is known."""
    tokenizer: str = ""
    """Folder with its tokenizer; "" for rows that are token ids."""

    @property
    def source_digest(self) -> str:
        """With its tokenizer, by content: another one asks other questions of the same rows."""
        from palimpsest.models.deciding import decides, file_digest

        folder = Path(self.tokenizer).expanduser()
        files = sorted(folder.iterdir()) if self.tokenizer and folder.is_dir() else []
        read = [file for file in files if decides(file.name) and not file.name.startswith(_OF_THE_MODEL)]
        return digest({"endpoint": self.identity, "tokenizer": {file.name: file_digest(file) for file in read}})


class AskedText(NamedTuple):
    """One question.

    Attributes:
        tokens: T ids.
        prompt_PD: embeddings that stand before them; None = nothing does.
    """

    tokens: tuple[int, ...]
    prompt_PD: np.ndarray | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over both.

        >>> AskedText((1, 2)).digest == AskedText((1, 2), np.zeros((1, 2))).digest
        False
        """
        tokens = np.asarray(self.tokens, dtype=np.int64)
        prompt = () if self.prompt_PD is None else (self.prompt_PD.astype(np.float32),)
        return question_digest(("text", len(tokens), *(one.shape for one in prompt)), tokens, *prompt)


class TokenBox(Box):
    """A question is an ``AskedText``."""

    main_input = "input_ids"
    reads_tokens = True

    def config(self, facts: Any) -> dict[str, Any]:
        """Words and positions."""
        longest = {} if facts.longest is None else {"max_position_embeddings": facts.longest}
        return {"vocab_size": facts.vocabulary, "hidden_size": READER_WIDTH, "num_hidden_layers": 0, **longest}

    def probes(self, facts: Any) -> Sequence[AskedText]:
        """The same short texts of drawn tokens for every model of a vocabulary, without a soft prompt."""
        length = min(_PROBE_TOKENS, facts.longest or _PROBE_TOKENS)
        drawn = np.random.default_rng(16).integers(0, facts.vocabulary, (NUM_PROBES, length))
        return [AskedText(tuple(row)) for row in drawn.tolist()]

    def digest(self, question: Any) -> str:
        """Over tokens and soft prompt."""
        return str(question.digest)

    def content(self, questions: Sequence[Any]) -> dict[str, Any]:
        """Lists of tokens."""
        return {"tokens": self.asked_of_function(questions)[0]}

    def asked_of_function(self, questions: Sequence[Any]) -> tuple[Any, ...]:
        """Lists of token ids."""
        return ([list(text.tokens) for text in questions],)

    def questions_of(self, given: Mapping[str, Any], facts: Any) -> Sequence[AskedText]:
        """The rows of a batch."""
        return texts_of(given)


def token_fields(loaded: Loaded) -> dict[str, Any]:
    """Fields of a description of a local model."""
    from palimpsest.models.text_config import most_tokens, vocabulary_of

    folder = Path(loaded.source).expanduser()
    has_one = loaded.tokenizer is not None and folder.is_dir()
    tokenizer = {"tokenizer": str(folder.resolve())} if has_one else {}
    return {"vocabulary": vocabulary_of(loaded.model), "longest": most_tokens(loaded.model), **tokenizer}


def tokenizer_of(facts: TokenFacts) -> Any:
    """The tokenizer that a description names; None where it names none, as a version that has its own beside it.

    Raises:
        ModelError: there is none.
    """
    from palimpsest.models.load import tokenizer_in

    return tokenizer_in(Path(facts.tokenizer).expanduser()) if facts.tokenizer else None


def texts_of(given: Mapping[str, Any]) -> list[AskedText]:
    """The rows of a forward pass, without their padding, which stands behind them."""
    tokens_BT, mask_BT = given["input_ids"].cpu(), given.get("attention_mask")
    lengths = [tokens_BT.shape[1]] * len(tokens_BT) if mask_BT is None else mask_BT.sum(1).tolist()
    prompt_BPD = given.get("soft_prompt")
    prompts = [None] * len(tokens_BT) if prompt_BPD is None else list(prompt_BPD.detach().float().cpu().numpy())
    return [
        AskedText(tuple(row[:length]), prompt)
        for row, length, prompt in zip(tokens_BT.tolist(), lengths, prompts, strict=True)
    ]


def texts_in(values: Mapping[str, Any], loaded: Loaded) -> list[tuple[int, ...]]:
    """The tokens in a request.

    Raises:
        ValueError, KeyError, TypeError: there are none, or they are none of the model's.
    """
    from palimpsest.models.text_config import most_tokens, vocabulary_of

    vocabulary, longest = vocabulary_of(loaded.model) or 0, most_tokens(loaded.model)
    rows = [tuple(map(int, row)) for row in values["tokens"]]
    if not rows or not all(rows) or not all(0 <= token < vocabulary for row in rows for token in row):
        raise ValueError(f"token ids from 0 to {vocabulary - 1} are taken, at least one in each row")
    if longest is not None and max(map(len, rows)) > longest:
        raise ValueError(f"texts of at most {longest} tokens are taken")
    return rows


def batch_of(rows: Sequence[Sequence[int]], loaded: Loaded) -> dict[str, Tensor]:
    """Texts, padded on the right."""
    import torch

    from palimpsest.models.families.padding import pad_id_of

    longest = max(map(len, rows))
    tokens_BT = torch.full((len(rows), longest), pad_id_of(loaded.model))
    for number, row in enumerate(rows):
        tokens_BT[number, : len(row)] = torch.tensor(row)
    lengths_B = torch.tensor([len(row) for row in rows])
    return {"input_ids": tokens_BT, "attention_mask": (torch.arange(longest) < lengths_B[:, None]).long()}
