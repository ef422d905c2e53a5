"""DualPrompt: prefixes that all tasks share in the first blocks, and prefixes of one task each in later ones.

Source: Wang et al. 2022, "DualPrompt: Complementary Prompting for Rehearsal-free Continual Learning", arXiv:2204.04799;
blocks, lengths, factor and rate as in the notes on the toolbox PILOT, in which we read it, not in the paper.

    L = mean CE( current classes ) − lambda · mean cos( q(x), K_t )
    attention of a block:  Q, [P_K ; K], [P_V ; V]

Each learn run is a task t. It goes on training the shared prefix (blocks 0 and 1) and trains a prefix with a key of its
own (blocks 2 to 4), which all its rows are given; earlier ones are frozen. When the model is asked, an example is given
the prefix whose key is nearest to its query, which is what the model without prompts says at the token where it reads
the class. The head learns, too, in the rows of the task's classes.

Deleting a task: ``palimpsest parts DIR --remove N`` takes its prefix and its key away; its rows then get the nearest of
the others. What the shared prefix and the rows of the head hold of it stays, and a class that two tasks taught stays
with the other: where that must go, ug_clu, scrub or salun on the learned version. ``prefix=own`` has no shared prefix.

Departs from the paper: no pool of a fixed size, one prefix for each run; prompts and keys begin at a standard deviation
of 0.02. A model of few blocks has what there is of 0 to 1 and 2 to 4, and of one or two the task's in the last.
Official code: github.com/google-research/l2p (JAX, Apache-2.0); not read for this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.errors import PlanError
from palimpsest.models.parts import parts_of_kind, taken_up
from palimpsest.models.parts.prefix_prompt import PrefixPrompt, PrefixPromptConfig
from palimpsest.models.parts.prefixing import check_same_prefixes, no_layers, prefix_options
from palimpsest.models.prompt_places import encoder_blocks, layers_in
from palimpsest.rules.prompt_learning import PromptLearning


class DualPromptConfig(Config):
    """Options of DualPrompt."""

    shared_layers: tuple[int, ...] = (0, 1)
    """Blocks with the prefix of all tasks, from 0; those that the model has not are left out."""
    own_layers: tuple[int, ...] = (2, 3, 4)
    """Blocks with the prefix of a task; of a model without any of them its last block."""
    length: int = Field(default=5, ge=1)
    """Positions of a prefix; 5 in the paper."""
    pull: float = Field(default=0.1, ge=0)
    """lambda, factor of the cosine between a query and the key of its task; PILOT's value."""
    prefix: Literal["both", "own"] = "both"
    """Prefixes: the shared one and that of the task, or "own" alone, so that nothing but the head is shared."""


class DualPrompt(Method):
    """One prefix for all tasks, one for each."""

    Config = DualPromptConfig
    use_when = (
        "tasks follow each other on a frozen model, and one may have to go. "
        "Not where tasks look alike: which is which is told by keys."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    modalities = ("labels", "image")
    defaults = {"learning_rate": 1e-3, "batch_size": 16, "num_train_epochs": 5.0}
    adds_parts = True
    tunes_alone = True
    moves_all = True
    own_schedule = True

    def check(self, model: nn.Module) -> None:
        """There are such blocks, and the prompts of earlier tasks sit at the same ones."""
        shared, own = self._layers(model)
        check_same_prefixes(model, PrefixPrompt, self._options(model, own), "dual_prompt")
        for part in shared_prompts(model):
            if shared and part.config != self._options(model, shared, matched=False):
                raise PlanError(
                    f"dual_prompt: the shared prefix of earlier tasks has length {part.config.length} at "
                    f"{', '.join(part.places)}; accepted: the same length and shared_layers"
                )

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """The shared prefix, that of earlier tasks or a new one, and a new one of the task."""
        shared, own = self._layers(model)
        task = PrefixPrompt(self._options(model, own))
        earlier = shared_prompts(model)
        if not shared or not earlier:
            return [*([PrefixPrompt(self._options(model, shared, matched=False))] if shared else []), task]
        return [*taken_up(model, earlier), task]

    def _layers(self, model: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Blocks of the shared prefix and of that of a task."""
        depth = len(encoder_blocks(model))
        if not self.config.own_layers or min(self.config.own_layers) < 0:
            raise no_layers(model, self.config.own_layers, depth, "dual_prompt.own_layers")
        own = layers_in(self.config.own_layers, depth) or (depth - 1,)
        shared = layers_in(self.config.shared_layers, depth) if self.config.prefix == "both" else ()
        return tuple(number for number in shared if number not in own), own

    def _options(self, model: Any, layers: Sequence[int], *, matched: bool = True) -> PrefixPromptConfig:
        return PrefixPromptConfig(**prefix_options(model, layers, self.config.length), matched=matched)

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """The prefixes and the head move."""
        self._run = PromptLearning(model, sets["learn"])
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The task over its own classes, and the pull of queries on its key."""
        return self._run.terms(model, batches, self.config.pull)

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """By how many rows of the step each task's prefix was used."""
        return self._run.told()

    def finish(self, model: nn.Module) -> nn.Module:
        """Write how many rows of the learn set find the prefix of their task."""
        return self._run.ended(model)


def shared_prompts(model: Any) -> list[PrefixPrompt]:
    """The prefix of all tasks, if a model has one."""
    return [part for part in parts_of_kind(model, PrefixPrompt) if not part.asks]


METHOD = DualPrompt
