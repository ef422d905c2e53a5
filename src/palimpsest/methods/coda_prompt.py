"""CODA-Prompt: prefixes that are sums of components, weighed by an attention on the query; a task adds components.

Source: Smith et al. 2023, "CODA-Prompt: COntinual Decomposed Attention-based Prompting for Rehearsal-Free Continual
Learning", arXiv:2211.13218; sizes and rate as in the notes on the toolbox PILOT, in which we read it, not in the paper.

    w_m = cos( q(x) ⊙ A_m , K_m )      [P_K ; P_V] = Σ_m w_m P_m      attention of a block:  Q, [P_K ; K], [P_V ; V]
    L = mean CE( current classes ) + mu · mean ( V Vᵀ − 1 )²   over V = P, K, A of each block

q(x) is what the model without prompts says at the token where it reads the class. Each learn run is a task and adds
components, which begin orthogonal to all earlier ones (Gram-Schmidt); only they learn, with the rows of the head of the
task's classes. Nothing of an earlier task moves, and no choice is made: the weights are smooth.

Deleting a task: ``palimpsest parts DIR --remove N`` takes its components out of the sum. What later components learned
beside them, and the rows of the head, stay; a class that two tasks taught stays with the other. Where that must go:
ug_clu, scrub or salun on the learned version.

Departs from the paper: components belong to runs, so their number need not be known before; orthogonality is a mean,
and off by default, as PILOT has it. Where a narrow model has no room for more orthogonal vectors, new ones are just of
length 1.
Official code: github.com/GT-RIPL/CODA-Prompt (MIT); not read for this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.parts import parts_of_kind
from palimpsest.models.parts.prefixing import check_same_prefixes, no_layers, prefix_options
from palimpsest.models.parts.prompt_components import PromptComponents, PromptComponentsConfig
from palimpsest.models.prompt_places import encoder_blocks, layers_in
from palimpsest.rules.prompt_learning import PromptLearning


class CODAPromptConfig(Config):
    """Options of CODA-Prompt."""

    layers: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Blocks with a prefix, from 0; those that the model has not are left out."""
    components: int = Field(default=10, ge=1)
    """Of a task; 100 over ten tasks in the paper."""
    length: int = Field(default=4, ge=1)
    """Positions of a prefix; a component has as many for keys and for values, together 8 in the paper."""
    orthogonality: float = Field(default=0.0, ge=0)
    """mu, factor of how far the components of all tasks are from orthogonal."""


class CODAPrompt(Method):
    """Components of this task beside the frozen ones of earlier tasks."""

    Config = CODAPromptConfig
    use_when = (
        "tasks of classes follow each other on a good, frozen model. "
        "Not where a task must leave no trace: its components go, the head's rows stay."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    modalities = ("labels", "image")
    defaults = {"learning_rate": 1e-3, "lr_scheduler_type": "cosine", "batch_size": 16, "num_train_epochs": 20.0}
    adds_parts = True
    tunes_alone = True
    moves_all = True
    own_schedule = True

    def check(self, model: nn.Module) -> None:
        """There are such blocks, and the components of earlier tasks sit at the same ones."""
        check_same_prefixes(model, PromptComponents, self._options(model), "coda_prompt")

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """Components of this task, orthogonal to those of earlier ones."""
        made = PromptComponents(self._options(model))
        made.begin_beside(parts_of_kind(model, PromptComponents))
        return [made]

    def _options(self, model: Any) -> PromptComponentsConfig:
        depth = len(encoder_blocks(model))
        layers = layers_in(self.config.layers, depth)
        if not layers:
            raise no_layers(model, self.config.layers, depth, "coda_prompt.layers")
        options = prefix_options(model, layers, self.config.length)
        return PromptComponentsConfig(**options, components=self.config.components)

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """The new components and the head move."""
        self._run = PromptLearning(model, sets["learn"])
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The task over its own classes, and orthogonality where it has a factor."""
        terms = self._run.terms(model, batches)
        components = parts_of_kind(model, PromptComponents)
        if self.config.orthogonality and components and components[-1].is_new:
            off = components[-1].overlap_with(components[:-1])
            weight = self.config.orthogonality
            terms["orthogonality"] = Term(off * len(batches["learn"]), of="learn", per="example", weight=weight)
        return terms

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """For how many rows of the step each component weighs most."""
        return self._run.told()

    def finish(self, model: nn.Module) -> nn.Module:
        """Write for how many rows of the learn set each component weighs most."""
        return self._run.ended(model)


METHOD = CODAPrompt
