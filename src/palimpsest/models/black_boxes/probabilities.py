"""Rows of class probabilities, as classifiers answer them.

200        {"probs": [[p, ...], ...], "labels": [...]}            labels may be left out
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, model_validator

from palimpsest.models.black_boxes.box import BlackBoxFacts, Box, Numbers, device_of, rows_of_numbers

if TYPE_CHECKING:
    from torch import Tensor

    from palimpsest.models.loaded import Loaded

_SUM = 1e-2


class LabelledFacts(BlackBoxFacts):
    """What is known of a classifier."""

    labels: tuple[str, ...] = Field(min_length=2)
    """Its classes, in the order of its probabilities."""

    @model_validator(mode="after")
    def _tells_classes_apart(self) -> LabelledFacts:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("a label occurs twice")
        return self


class LabelBox(Box):
    """A classifier of something, which each kind says."""

    things: ClassVar[str]

    def read(self, values: Mapping[str, Any], questions: Sequence[Any], facts: Any) -> Sequence[Numbers]:
        """Rows of probabilities under the labels that were declared."""
        if "probs" not in values:
            raise facts.unusable('no object with "probs"')
        labels = values.get("labels")
        if labels is not None and labels != list(facts.labels):
            raise facts.unusable("the labels are not those that were declared; they changed, or are of another model")
        return self.checked(values["probs"], len(questions), facts)

    def read_of_function(self, said: Any, questions: Sequence[Any], facts: Any) -> Sequence[Numbers]:
        """Rows of probabilities."""
        return self.checked(said.tolist() if hasattr(said, "tolist") else said, len(questions), facts)

    def checked(self, probs: Any, rows: int, facts: Any) -> Sequence[Numbers]:
        """Rows of probabilities, if they are.

        Raises:
            EndpointError: they are not.
        """
        found, classes = rows_of_numbers(probs, facts, "probs"), len(facts.labels)
        if len(found) != rows or any(len(row) != classes for row in found):
            width = len(found[0]) if found else 0
            said = f"{len(found)} x {width} probabilities for {rows} {self.things} and {classes} labels"
            raise facts.unusable(said)
        wrong = next((row for row in found if min(row) < 0 or abs(sum(row) - 1) > _SUM), None)
        if wrong is not None:
            raise facts.unusable(f"a row of probabilities sums to {sum(wrong):.3g}, or one is negative")
        return found

    def logits_of(self, answers: Sequence[Numbers], given: Mapping[str, Any], facts: Any) -> Tensor:
        """Their logarithms, (B, K)."""
        import torch

        probs_BK = torch.tensor(answers, dtype=torch.float32)
        return probs_BK.clamp_min(torch.finfo(torch.float32).tiny).log()


def served_labels(loaded: Loaded) -> list[str]:
    """Names of a model's classes, as far as they have any."""
    names = {number: name for name, number in loaded.class_names.items()}
    return [str(names.get(number, number)) for number in range(loaded.num_outputs)]


def served_probs(loaded: Loaded, **inputs: Tensor) -> list[list[float]]:
    """What a local classifier says of a batch."""
    from palimpsest.models.modes import asked

    model = loaded.model
    with asked(model):
        logits_BK = model(**{name: tensor.to(device_of(model)) for name, tensor in inputs.items()}).logits
    found: list[list[float]] = logits_BK.float().softmax(-1).cpu().numpy().tolist()
    return found
