"""Families of models that can only be asked: how one is told by its config, and becomes a module that asks.

A description (``blackbox.json``), or the base of a version that was made behind an endpoint, is a config whose
``model_type`` is ``BLACK_BOX`` (``black_box_file.py``). Whose examples it takes, causal texts, labelled texts or
images, the family says that a kind names as its second base: ``class BlackBoxTexts(AskedFamily, TextClassifier)``, in
the file of the kind (``black_boxes/``). Nothing is asked before rows are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from palimpsest.errors import ModelError
from palimpsest.models.black_box_file import BLACK_BOX, facts_in, kind_in
from palimpsest.models.families.family import Family

if TYPE_CHECKING:
    from torch import nn

    from palimpsest.models.loaded import How, Loaded


class AskedFamily(Family):
    """First base of such a family; the second is the one whose examples it takes.

    Class attributes:
        kind: name of the ``Box``.
    """

    kind: ClassVar[str]
    noun = "a black box, which can only be asked"
    has_gradient = False

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """A description, or the base of a version that was made behind an endpoint."""
        return config.get("model_type") == BLACK_BOX and kind_in(config) == self.kind

    def has_made(self, model: Any) -> bool:
        """The module that asks."""
        config = getattr(model, "config", None)
        return getattr(config, "model_type", None) == BLACK_BOX and kind_in(vars(config)) == self.kind

    def check_config(self, config: Mapping[str, Any], source: str | Path) -> None:
        """Refuse a description that is none, and one whose credential is not there.

        Raises:
            ModelError: one of them.
        """
        facts_in(config, source).credential()

    def check_loaded(self, loaded: Loaded) -> None:
        """Nothing: looking at what it answers costs."""

    def load(self, place: str | Path, config: Mapping[str, Any], how: How) -> Loaded:
        """An ``AskedModel``; nothing is asked yet.

        Raises:
            ModelError: a description that is none, a function that nobody holds, or a tokenizer that cannot be loaded.
        """
        from palimpsest.models.asked_model import AskedModel, BlackBoxConfig
        from palimpsest.models.loaded import Loaded
        from palimpsest.models.questions import Questions

        facts = facts_in(config, how.source)
        function = _function_of(config, how.source) if facts.function else None
        questions = Questions(facts, config.get("probe_answers"), function)
        model = AskedModel(BlackBoxConfig(**{**facts.box.config(facts), **config}), questions).eval()
        model.name_or_path = str(place)
        return Loaded(model, self.tokenizer(facts), how.source, self.pixels(facts), family=self)

    def pixels(self, facts: Any) -> Any:
        """How its images are read; of texts nothing."""
        return None

    def tokenizer(self, facts: Any) -> Any:
        """What makes its tokens, as far as the description says."""
        return None

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
