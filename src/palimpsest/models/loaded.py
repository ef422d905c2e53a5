"""A model ready to run, with what belongs to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.data.read.classes import ClassNames, names_of_config
from palimpsest.errors import ModelError
from palimpsest.models import families
from palimpsest.models.families.family import Family
from palimpsest.models.images import Preprocessor
from palimpsest.models.text_config import text_config
from palimpsest.printed import short

LARGEST_ID = 2**63
"""Of a token, in int64."""


@dataclass(frozen=True)
class Loaded:
    """A model ready to run.

    Attributes:
        model: of its family, in eval mode, fp32 on a CPU.
        tokenizer: its tokenizer, or None when the folder has none.
        source: the folder or Hub name.
        pixels: how it wants its images; None for a model of texts.
        preprocessor: of a transformers image model, to be saved beside a changed one; None for all others.
        family: what kind of model it is; told from the model where nobody says.
    """

    model: Any
    tokenizer: Any
    source: str
    pixels: PixelFormat | None = None
    preprocessor: Preprocessor | None = None
    family: Family = field(default=None)  # type: ignore[assignment]  # filled in below

    def __post_init__(self) -> None:
        if self.family is None:
            told = families.of_model(self.model)
            sees = self.pixels is not None and told.takes != "image"
            object.__setattr__(self, "family", families.family_that_takes("image") if sees else told)

    @property
    def num_outputs(self) -> int:
        """Words or classes it chooses from."""
        return self.family.num_outputs(self.model)

    @property
    def class_names(self) -> ClassNames:
        """Name -> class, as far as the model's config names its classes."""
        return names_of_config(vars(self.model.config))

    @property
    def companion(self) -> Any:
        """What is saved beside a changed model, by ``save_pretrained``: tokenizer or preprocessor, or None."""
        return self.tokenizer if self.pixels is None else self.preprocessor

    @property
    def eos_ids(self) -> frozenset[int]:
        """Tokens that end a generation, from the generation config, else the model's, else the tokenizer's.

        Raises:
            ModelError: they are no token ids. One that the vocabulary does not have is taken: it is never said.
        """
        holders = getattr(self.model, "generation_config", None), text_config(self.model), self.tokenizer
        for holder in holders:
            eos = getattr(holder, "eos_token_id", None)
            if eos is not None:
                ids = eos if isinstance(eos, list | tuple) else [eos]
                if not all(isinstance(token, int) and abs(token) < LARGEST_ID for token in ids):
                    raise ModelError(
                        f"model {self.source}: eos_token_id = {short(eos)}; accepted: the id of a token, or a list"
                    )
                return frozenset(ids)
        return frozenset()


class How(NamedTuple):
    """How a model is loaded: as ``load`` says.

    Attributes:
        source: what to call it.
        revision: the commit of a Hub name.
        beside: where lies what says how its images are read: with it, or with the version that it is the base of.
        tokenizer_needed: refuse a model of texts without a tokenizer.
        as_stored: keep half-precision weights where that can be.
        parts: with the parts of a version with parts, and an adapter.
        adapter_beside: an adapter stays beside the weights as a part.
    """

    source: str
    revision: str | None
    beside: str | Path
    tokenizer_needed: bool = True
    as_stored: bool = False
    parts: bool = True
    adapter_beside: bool = False
