"""A classifier of texts: token ids to class probabilities.

    POST url   {"tokens": [[id, ...], ...]}
    200        {"probs": [[p, ...], ...], "labels": [...]}            labels may be left out

Shape legend: B texts, T tokens of one, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from palimpsest.models.black_boxes.probabilities import LabelBox, LabelledFacts, served_labels, served_probs
from palimpsest.models.black_boxes.tokens import (
    TokenBox,
    TokenFacts,
    batch_of,
    texts_in,
    token_fields,
    tokenizer_of,
)
from palimpsest.models.families.asked_family import AskedFamily
from palimpsest.models.families.text_classifier import TextClassifier

if TYPE_CHECKING:
    from palimpsest.models.loaded import Loaded


class TextFacts(TokenFacts, LabelledFacts):
    """What is known of a classifier of texts."""

    IDENTITY: ClassVar[tuple[str, ...]] = ("kind", "url", "labels", "vocabulary")

    kind: Literal["text_classifier"]
    """What it is."""


class BlackBoxTexts(AskedFamily, TextClassifier):
    """Texts to classes, for a price."""

    name = "black_box_texts"
    kind = "text_classifier"
    alternatives: ClassVar[tuple[str, ...]] = ()

    def tokenizer(self, facts: Any) -> Any:
        """That of the folder that the description names."""
        return tokenizer_of(facts)


class TextBox(TokenBox, LabelBox):
    """A question is the tokens of one text."""

    name = "text_classifier"
    family = BlackBoxTexts()
    Facts = TextFacts
    things = "texts"

    def serves(self, loaded: Loaded) -> bool:
        """A classifier of texts."""
        return loaded.family.takes == "labels" and loaded.family.has_gradient

    def described(self, loaded: Loaded) -> dict[str, Any]:
        """Its words and its labels."""
        return token_fields(loaded) | {"labels": served_labels(loaded)}

    def answered(self, values: Mapping[str, Any], loaded: Loaded) -> tuple[dict[str, Any], int]:
        """Probabilities of the texts of a request."""
        texts = texts_in(values, loaded)
        return {"labels": served_labels(loaded), "probs": served_probs(loaded, **batch_of(texts, loaded))}, len(texts)


BOX = TextBox()
