"""Modules of the caller's: a causal LM or an image classifier whose class is in no file (``models/custom.py``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from palimpsest.models.at_hand import CUSTOM
from palimpsest.models.families.causal_lm import Causal
from palimpsest.models.families.image_classifier import ImageClassifier
from palimpsest.models.images import is_image_config

if TYPE_CHECKING:
    from torch import nn

    from palimpsest.models.loaded import How, Loaded


def _is_custom(config: Mapping[str, Any], *, images: bool) -> bool:
    return config.get("model_type") == CUSTOM and is_image_config(config) == images


class CustomCausal(Causal):
    """Tokens to the next ones, by the caller's module."""

    name = "custom_causal"

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """A folder of such a module."""
        return _is_custom(config, images=False)

    def has_made(self, model: Any) -> bool:
        """The wrapper around such a module."""
        return type(model).__name__ == "CustomForCausalLM"

    def check_config(self, config: Mapping[str, Any], source: str | Path) -> None:
        """Whose module it is, is asked where it is loaded."""

    def load(self, place: str | Path, config: Mapping[str, Any], how: How) -> Loaded:
        """The module that is at hand, with the weights of the folder."""
        from palimpsest.models.custom import load_custom
        from palimpsest.models.loaded import Loaded

        model = load_custom(Path(place), config, how.source).eval()
        return Loaded(model, None, how.source, family=self)


class CustomImages(ImageClassifier):
    """Images to classes, by the caller's module."""

    name = "custom_image_classifier"

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """A folder of such a module."""
        return _is_custom(config, images=True)

    def has_made(self, model: Any) -> bool:
        """The wrapper around such a module."""
        return type(model).__name__ == "CustomForImageClassification"

    def load(self, place: str | Path, config: Mapping[str, Any], how: How) -> Loaded:
        """The module that is at hand, with the weights of the folder and the format of its images."""
        from palimpsest.data.encode.pixels import PixelFormat
        from palimpsest.models.custom import load_custom
        from palimpsest.models.loaded import Loaded

        model = load_custom(Path(place), config, how.source).eval()
        height, width = config["image_size"]
        pixels = PixelFormat(height, width, tuple(config["image_mean"]), tuple(config["image_std"]))
        return Loaded(model, None, how.source, pixels, family=self)

    def head(self, model: Any) -> nn.Module | None:
        """The one that its config names."""
        found: nn.Module | None = model.get_output_embeddings()
        return found


FAMILIES = (CustomCausal(), CustomImages())
