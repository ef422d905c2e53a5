"""A function of Python that can only be asked, in the place of a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from palimpsest.errors import ModelError
from palimpsest.files import write_atomic
from palimpsest.models.as_it_was import as_it_was
from palimpsest.models.black_box_file import as_config, facts_from
from palimpsest.verbs.in_memory import Model


class BlackBox(Model):
    """A function that answers as a model would, for any verb that only asks.

    What it is called with and answers, by kind:

    image_classifier: a tensor (B, C, H, W), normalised -> B rows of as many probabilities as labels.
    text_classifier: B lists of token ids -> the same.
    causal_lm: B lists of token ids -> {"logprobs": B rows, "top": B rows} as in docs/black_box.md; where it takes soft
        prompts, it is given a tensor (B, P, D) as a second argument whenever they stand before the texts.
    """

    facts: Any

    @as_it_was()
    def __init__(
        self,
        function: Callable[..., Any],
        *,
        kind: Literal["image_classifier", "text_classifier", "causal_lm"] = "image_classifier",
        labels: Sequence[str] | None = None,
        image_size: int | tuple[int, int] | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        vocabulary: int | None = None,
        longest: int | None = None,
        tokenizer: Any = None,
        prompt_width: int | None = None,
        prompt_scale: float | None = None,
        price_per_query: float = 0.0,
        budget: int | None = None,
    ) -> None:
        """Describe it; it is not called yet. What is left out is as in a ``blackbox.json``.

        Args:
            function: is asked.
            kind: what it stands for.
            labels: of a classifier's classes, in the order of its probabilities.
            image_size: height and width, or one number for both.
            image_mean: subtracted from each channel of an image in [0, 1]; as many numbers as it has channels.
            image_std: what the difference is divided by.
            vocabulary: number of token ids that it knows.
            longest: tokens of a text at most.
            tokenizer: of transformers, or a folder with one; None for rows that are token ids.
            prompt_width: numbers of an embedding of a causal_lm that takes soft prompts.
            prompt_scale: root mean square of one of them.
            price_per_query: of one row.
            budget: queries of one run at most.

        Raises:
            ModelError: one of them cannot be, or is not of this kind.
        """
        in_folder = isinstance(tokenizer, str | Path)
        if not in_folder and tokenizer is not None and not hasattr(tokenizer, "save_pretrained"):
            raise ModelError(
                f"tokenizer is a {type(tokenizer).__name__}; accepted: one of transformers, or a folder with one"
            )
        said = {
            "function": getattr(function, "__name__", type(function).__name__),
            "kind": kind,
            "labels": None if labels is None else tuple(labels),
            "image_size": image_size,
            "image_mean": None if image_mean is None else tuple(image_mean),
            "image_std": None if image_std is None else tuple(image_std),
            "vocabulary": vocabulary,
            "longest": longest,
            "tokenizer": str(tokenizer) if in_folder else None,
            "prompt_width": prompt_width,
            "prompt_scale": prompt_scale,
            "price_per_query": price_per_query,
            "budget": budget,
        }
        facts = facts_from({name: value for name, value in said.items() if value is not None}, "BlackBox")
        held = None if in_folder else tokenizer
        super().__init__(function, held, facts=facts)  # type: ignore[arg-type]  # what is known of it is of another kind

    def save_as(self, folder: str | Path, role: str) -> None:
        """Write what is known of it, and its tokenizer; the function itself is in no file."""
        import torch
        from safetensors.torch import save_file

        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        config = {**as_config(self.facts), "held_as": role, "architectures": ["AskedModel"]}
        write_atomic(place / "config.json", json.dumps(config, indent=2) + "\n")
        save_file({"unit": torch.ones(1)}, place / "model.safetensors", metadata={"format": "pt"})
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(place))

    def after(self, loaded: Any) -> Model:
        """The model that a run left, which asks the function."""
        return Model(loaded.model, loaded.tokenizer)

    def __str__(self) -> str:
        """What it is called in a record."""
        return f"the function {self.facts.function} in memory"
