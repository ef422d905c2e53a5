"""A function of Python that can only be asked, in the place of a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

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
        labels: Sequence[str] | None = None,
        image_size: int | tuple[int, int] | None = None,
        image_mean: Sequence[float] | None = None,
        image_std: Sequence[float] | None = None,
        texts: Mapping[str, Any] | None = None,
        price_per_query: float = 0.0,
        budget: int | None = None,
    ) -> None:
        """Describe it; it is not called yet.

        Args:
            function: is asked.
            labels: of a classifier's classes, in the order of its probabilities.
            image_size: height and width, or one number for both.
            image_mean: subtracted from each channel of an image in [0, 1]; as many numbers as it has channels.
            image_std: what the difference is divided by.
            texts: of a model of texts its ``kind`` and what else a ``blackbox.json`` says of one (``vocabulary``,
                ``longest``, ``tokenizer``, ``prompt_width``, ``prompt_scale``); as tokenizer also one of transformers.
            price_per_query: of one row.
            budget: queries of one run at most.

        Raises:
            ModelError: one of them cannot be, or is not of this kind.
        """
        if not callable(function):
            raise ModelError(f"BlackBox was given a {type(function).__name__}; accepted: a function that can be called")
        fields = dict(texts or {})
        held = _taken_tokenizer(fields)
        said = {
            "function": getattr(function, "__name__", type(function).__name__),
            "labels": None if labels is None else tuple(labels),
            "image_size": image_size,
            "image_mean": image_mean,
            "image_std": image_std,
            "price_per_query": price_per_query,
            "budget": budget,
        } | fields
        facts = facts_from({name: _plain(value) for name, value in said.items() if value is not None}, "BlackBox")
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


def _taken_tokenizer(fields: dict[str, Any]) -> Any:
    """The tokenizer itself, taken out of the fields; None where a folder is named, or nothing.

    Raises:
        ModelError: it is none.
    """
    given = fields.get("tokenizer")
    if given is None or isinstance(given, str | Path):
        return None
    if not hasattr(given, "save_pretrained"):
        raise ModelError(f"tokenizer is a {type(given).__name__}; accepted: one of transformers, or a folder with one")
    return fields.pop("tokenizer")


def _plain(value: Any) -> Any:
    """A value as JSON could hold it: paths are text, sequences are tuples."""
    if isinstance(value, Path):
        return str(value)
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
