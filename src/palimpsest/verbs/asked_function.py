"""A function of Python that can only be asked, in the place of a model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from palimpsest.files import write_atomic
from palimpsest.models.as_it_was import as_it_was
from palimpsest.models.black_box_file import as_config, facts_from
from palimpsest.verbs.in_memory import Model


class BlackBox(Model):
    """A function that gives probabilities of images, for any verb that only asks.

    It is called with a tensor (B, C, H, W), normalised, and answers with B rows of as many probabilities as labels.
    """

    facts: Any

    @as_it_was()
    def __init__(
        self,
        function: Callable[[Any], Any],
        *,
        labels: Sequence[str],
        image_size: int | tuple[int, int],
        image_mean: Sequence[float] = (0.5,),
        image_std: Sequence[float] = (0.5,),
        price_per_query: float = 0.0,
        budget: int | None = None,
    ) -> None:
        """Describe it; it is not called yet.

        Args:
            function: is asked.
            labels: of its classes, in the order of its probabilities.
            image_size: height and width, or one number for both.
            image_mean: subtracted from each channel of an image in [0, 1]; as many numbers as it has channels.
            image_std: what the difference is divided by.
            price_per_query: of one image.
            budget: queries of one run at most.

        Raises:
            ModelError: one of them cannot be.
        """
        said = {"function": getattr(function, "__name__", type(function).__name__), "labels": tuple(labels)}
        said |= {"image_size": image_size, "image_mean": tuple(image_mean), "image_std": tuple(image_std)}
        facts = facts_from({**said, "price_per_query": price_per_query, "budget": budget}, "BlackBox")
        super().__init__(function, facts=facts)  # type: ignore[arg-type]  # what is known of it is of another kind

    def save_as(self, folder: str | Path, role: str) -> None:
        """Write what is known of it; the function itself is in no file."""
        import torch
        from safetensors.torch import save_file

        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        config = {**as_config(self.facts), "held_as": role, "architectures": ["AskedModel"]}
        write_atomic(place / "config.json", json.dumps(config, indent=2) + "\n")
        save_file({"unit": torch.ones(1)}, place / "model.safetensors", metadata={"format": "pt"})

    def after(self, loaded: Any) -> Model:
        """The model that a run left, which asks the function."""
        return Model(loaded.model)

    def __str__(self) -> str:
        """What it is called in a record."""
        return f"the function {self.facts.function} in memory"
