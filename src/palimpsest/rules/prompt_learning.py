"""What every learner with prompts does around its steps: freeze, the task over its own classes, usage.

L = mean CE( current classes ) − lambda · mean Σ_{k chosen} cos( q(x), K_k )
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from palimpsest.data.encode.batch import Batch, ExampleSet
from palimpsest.models.current_classes import current_classes_of, task_loss
from palimpsest.models.families import of_model
from palimpsest.models.parts.prompting import Usage, freeze_beside, new_prompts, write_usage
from palimpsest.phases import Term


class PromptLearning:
    """The learning of one run, in which new prompts and the head move."""

    def __init__(self, model: nn.Module, learn: ExampleSet) -> None:
        """Freeze all else.

        Args:
            model: bears the prompts.
            learn: what the run learns; its classes are the current ones.
        """
        family = of_model(model)
        freeze_beside(model, family.head(model))
        self._learn, self._usage = learn, Usage()
        self._current_V = current_classes_of(learn, family.num_outputs(model))

    def terms(self, model: nn.Module, batches: Mapping[str, Batch], pull: float = 0.0) -> dict[str, Term]:
        """The task over its own classes and, where keys are chosen, the pull of queries on them.

        Args:
            model: bears the prompts.
            batches: of one step.
            pull: lambda.
        """
        said = batches["learn"].predict(model)
        terms = {"learn": Term(task_loss(said.logits_SV, said.target_S, self._current_V), of="learn")}
        self._usage.add(model)
        for part in new_prompts(model):
            if (pull_B := part.pull()) is not None:
                terms["pull"] = Term(pull_B.sum(), of="learn", per="example", weight=-pull)
        return terms

    def told(self) -> dict[str, float]:
        """By how many rows of the step each prompt was used; then begin anew."""
        return self._usage.told()

    def ended(self, model: nn.Module) -> nn.Module:
        """The model, in which stands by how many rows of the learn set each prompt is used in the end."""
        write_usage(model, self._learn)
        return model
