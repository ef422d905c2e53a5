"""Classifiers of images that somebody else holds: an endpoint or a function that is asked for probabilities."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from palimpsest.errors import ModelError
from palimpsest.models.black_box_file import BLACK_BOX, facts_in
from palimpsest.models.families.image_classifier import ImageClassifier

if TYPE_CHECKING:
    from torch import nn

    from palimpsest.models.loaded import How, Loaded


class BlackBoxImages(ImageClassifier):
    """Images to classes, for a price."""

    name = "black_box"
    noun = "a black box, which can only be asked"
    method = "bar"
    alternatives: ClassVar[tuple[str, ...]] = ("bar",)
    has_gradient = False

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """A description, or the base of a version that was made behind an endpoint."""
        return config.get("model_type") == BLACK_BOX

    def has_made(self, model: Any) -> bool:
        """The module that asks."""
        return getattr(getattr(model, "config", None), "model_type", None) == BLACK_BOX

    def check_config(self, config: Mapping[str, Any], source: str | Path) -> None:
        """Refuse a description that is none, and one whose credential is not there."""
        facts_in(config, source).credential()

    def load(self, place: str | Path, config: Mapping[str, Any], how: How) -> Loaded:
        """A module that asks; nothing is asked yet."""
        from palimpsest.models.asked_model import AskedModel, BlackBoxConfig
        from palimpsest.models.loaded import Loaded
        from palimpsest.models.padded import format_of_black_box
        from palimpsest.models.questions import Questions

        facts = facts_in(config, how.source)
        function = _function_of(config, how.source) if facts.function else None
        questions = Questions(facts, config.get("probe_answers"), function)
        model = AskedModel(BlackBoxConfig(**config), questions).eval()
        model.name_or_path = str(place)
        return Loaded(model, None, how.source, format_of_black_box(facts), family=self)

    def head(self, model: Any) -> nn.Module | None:
        """None of its layers is known."""
        return None


def _function_of(config: Mapping[str, Any], source: str) -> Any:
    """The function that is asked.

    Raises:
        ModelError: nobody holds it.
    """
    from palimpsest.models.at_hand import module_at_hand

    try:
        return module_at_hand(config, source)
    except ModelError:
        raise ModelError(
            f"model {source}: asks a function of Python that is in no file; give it with pal.BlackBox(function, ...), "
            "or serve it and describe it in a blackbox.json"
        ) from None


FAMILIES = (BlackBoxImages(),)
