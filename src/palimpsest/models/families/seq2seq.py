"""Sequence-to-sequence models: an encoder reads a prompt, a decoder writes the completion (T5, BART)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from palimpsest.errors import DataError, ModelError
from palimpsest.models.families.family import Family, class_name_of
from palimpsest.models.families.yardsticks import BY_TOKENS
from palimpsest.models.purposes import architectures_in
from palimpsest.records import Completion, Example

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from palimpsest.models.loaded import How, Loaded


class SeqToSeq(Family):
    """Prompts to completions; what is written so far is seen by the decoder alone."""

    name = "seq2seq"
    takes = "text"
    noun = "a sequence-to-sequence model"
    wants = "rows of {prompt, completion}"
    metrics = ("es", "ma", "prob")
    alone = ("ma", "es", "prob")
    joins = False
    level = "shadow"
    judging = BY_TOKENS
    method = "grad_diff"
    alternatives = ("grad_diff", "npo", "scrub")

    @property
    def adapter_task(self) -> str | None:
        """Generation goes through the adapter."""
        return "SEQ_2_SEQ_LM"

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """An encoder and a decoder whose class is no classifier."""
        classifies = any("Classification" in name for name in architectures_in(config))
        return config.get("is_encoder_decoder") is True and not classifies

    def has_made(self, model: Any) -> bool:
        """An encoder and a decoder whose class is no classifier."""
        both = getattr(getattr(model, "config", None), "is_encoder_decoder", False) is True
        return both and "Classification" not in class_name_of(model)

    def check_config(self, config: Mapping[str, Any], source: str | Path) -> None:
        """Refuse weights for something else."""
        from palimpsest.models.purposes import check_purpose

        check_purpose(config, source)

    def load(self, place: str | Path, config: Mapping[str, Any], how: How) -> Loaded:
        """A model in fp32."""
        import torch

        from palimpsest.models.loaded import Loaded
        from palimpsest.models.pretrained import whole_model

        model = whole_model(place, how.revision, torch.float32, "AutoModelForSeq2SeqLM", self.noun)
        return Loaded(model.eval(), None, how.source, family=self)

    def check_loaded(self, loaded: Loaded) -> None:
        """It says with which token its decoder starts."""
        _start_of(loaded)

    def num_outputs(self, model: Any) -> int:
        """Words of the vocabulary."""
        return int(model.config.vocab_size)

    def fits(self, example: Example) -> bool:
        """Prompts with a completion."""
        return isinstance(example.content, Completion)

    def encode(
        self, examples: Sequence[Example], loaded: Loaded, *, max_length: int | None, truncate: bool, separator: str
    ) -> Any:
        """Prompts for the encoder, completions for the decoder."""
        from palimpsest.data.encode.pairs import encode_pairs
        from palimpsest.models.families.padding import pad_id_of
        from palimpsest.models.text_config import most_tokens

        if separator:
            raise DataError(
                f"encoding.separator: model {loaded.source} is {self.noun}, which is given prompt and completion "
                "apart; leave it out"
            )
        return encode_pairs(
            examples,
            loaded.tokenizer,
            max_length=max_length or most_tokens(loaded.model),
            truncate=truncate,
            pad_id=pad_id_of(loaded.model),
            start_id=_start_of(loaded),
        )

    def head(self, model: Any) -> nn.Module | None:
        """The output embedding."""
        found: nn.Module | None = model.get_output_embeddings()
        return found

    def bottlenecks(self, model: Any) -> tuple[str, ...]:
        """Of each block of the encoder the module that ends in the sum with its attention (T5), else the block."""
        from palimpsest.models.activations import block_names

        names = block_names(model, side="encoder")
        inner = [f"{name}.layer.0" for name in names]
        return tuple(inner) if set(inner) <= {name for name, _ in model.named_modules()} else names

    def mask_at(self, place: str) -> str:
        """Prompts at the encoder, completions at the decoder."""
        return "decoder_attention_mask" if "decoder" in place.split(".") else "attention_mask"

    def probe(self, loaded: Loaded) -> dict[str, Tensor]:
        """Three short rows for the encoder, and the same for the decoder."""
        from palimpsest.models.families.padding import probe_inputs

        inputs = probe_inputs(loaded.model)
        return {**inputs, "decoder_input_ids": inputs["input_ids"]}


def _start_of(loaded: Loaded) -> int:
    """The token with which the decoder starts.

    Raises:
        ModelError: the config does not say.
    """
    config, generation = loaded.model.config, getattr(loaded.model, "generation_config", None)
    for holder in (config, generation):
        found = getattr(holder, "decoder_start_token_id", None)
        if isinstance(found, int):
            return found
    raise ModelError(
        f"model {loaded.source}: its config.json names no decoder_start_token_id, with which its decoder starts; add it"
    )


FAMILIES = (SeqToSeq(),)
