"""Classifiers of texts: BERT, MiniLM, Llama and the like for sequence classification."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from palimpsest.data.read.layout import Layout
from palimpsest.errors import DataError, ModelError
from palimpsest.models.families.family import Family, all_but_last, class_name_of
from palimpsest.models.families.yardsticks import BY_CLASSES
from palimpsest.models.purposes import architectures_in, check_reads_texts
from palimpsest.records import Example, Labelled

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from palimpsest.models.loaded import How, Loaded

_SUFFIX = "ForSequenceClassification"


class TextClassifier(Family):
    """Texts to classes."""

    name = "text_classifier"
    takes = "labels"
    noun = "a classifier of texts"
    wants = "rows of {text, label}"
    metrics = ("accuracy", "prob")
    alone = ("accuracy", "prob")
    level = "classes"
    judging = BY_CLASSES
    method = "grad_diff"
    alternatives: ClassVar[tuple[str, ...]] = ("grad_diff", "salun", "scrub")
    adapts_head = True
    things = "text"

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """By the name of its class."""
        return any(name.endswith(_SUFFIX) for name in architectures_in(config))

    def has_made(self, model: Any) -> bool:
        """By the name of its class."""
        return class_name_of(model).endswith(_SUFFIX)

    def check_config(self, config: Mapping[str, Any], source: str | Path) -> None:
        """Refuse classifiers of something else, and heads that say something else than one class of each text."""
        check_reads_texts(config, source)
        if config.get("problem_type") not in (None, "single_label_classification"):
            raise ModelError(
                f"model {source}: its problem_type is {config['problem_type']}; accepted: a classifier that says one "
                "class of each text (single_label_classification)"
            )
        names = config.get("id2label")
        if isinstance(names, dict) and len(names) == 1:  # one number, which transformers takes for a regression
            raise ModelError(f"model {source}: its head says one number of each text; accepted: two classes or more")

    def load(self, place: str | Path, config: Mapping[str, Any], how: How) -> Loaded:
        """A classifier in fp32."""
        import torch

        from palimpsest.models.loaded import Loaded
        from palimpsest.models.pretrained import whole_model

        auto = "AutoModelForSequenceClassification"
        model = whole_model(place, how.revision, torch.float32, auto, self.noun)
        return Loaded(model.eval(), None, how.source, family=self)

    def check_loaded(self, loaded: Loaded) -> None:
        """Padding may change nothing, and two classes are the least."""
        from palimpsest.models.families.padding import check_padding

        if loaded.num_outputs < 2:
            raise ModelError(f"model {loaded.source}: a head of one output gives no class; accepted: two or more")
        check_padding(loaded)

    def layout(self, layout: Layout) -> Layout:
        """Rows have a text and its label."""
        if layout.token_ids:
            raise DataError(f"--token-ids beside {self.noun}; accepted: {self.wants}, so leave it out")
        return replace(layout, labels=True)

    def fits(self, example: Example) -> bool:
        """Texts with a label."""
        return isinstance(example.content, Labelled)

    def encode(
        self, examples: Sequence[Example], loaded: Loaded, *, max_length: int | None, truncate: bool, separator: str
    ) -> Any:
        """Token sequences, each with its class."""
        from palimpsest.data.encode.labelled import encode_labels
        from palimpsest.models.families.padding import pad_id_of
        from palimpsest.models.text_config import most_tokens

        return encode_labels(
            examples,
            loaded.tokenizer,
            num_classes=loaded.num_outputs,
            class_names=loaded.class_names,
            max_length=max_length or most_tokens(loaded.model),
            truncate=truncate,
            pad_id=pad_id_of(loaded.model),
            read_at="last" if hasattr(loaded.model, "score") else "first",
        )

    def head(self, model: Any) -> nn.Module | None:
        """The last linear layer with as many outputs as classes."""
        from palimpsest.models.families.heads import last_layer

        return last_layer(model, self.num_outputs(model))

    def bottlenecks(self, model: Any) -> tuple[str, ...]:
        """All blocks but the last."""
        return all_but_last(super().bottlenecks(model))

    def probe(self, loaded: Loaded) -> dict[str, Tensor]:
        """Three short rows."""
        from palimpsest.models.families.padding import probe_inputs

        return probe_inputs(loaded.model)


FAMILIES = (TextClassifier(),)
