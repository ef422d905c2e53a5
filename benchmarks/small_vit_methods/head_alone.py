"""The head alone, on frozen features: the baseline of prompt learners, with their loss and without prompts.

Source: none; a control for benchmarks/small_vit.py.

    L = mean CE( current classes )

Departs from the paper: there is none.
Official code: none.
"""

from __future__ import annotations

from palimpsest.contract import Config, Method, Term
from palimpsest.models.current_classes import current_classes_of, task_loss
from palimpsest.models.families import of_model


class HeadAlone(Method):
    """The rows of the task's classes learn."""

    Config = Config
    use_when = "prompts are to be compared with the features that they stand on. Not for use."
    approach = "control"
    kinds = ("learn",)
    needs = ("learn",)
    modalities = ("labels", "image")
    own_schedule = True

    def prepare(self, model, sets):
        """Only the head moves."""
        family = of_model(model)
        head = {id(p) for p in family.head(model).parameters()}
        for parameter in model.parameters():
            parameter.requires_grad_(id(parameter) in head)
        self._current_V = current_classes_of(sets["learn"], family.num_outputs(model))
        return super().prepare(model, sets)

    def loss(self, model, batches, phase):
        """The task over its own classes."""
        said = batches["learn"].predict(model)
        return {"learn": Term(task_loss(said.logits_SV, said.target_S, self._current_V), of="learn")}


METHOD = HeadAlone
