"""L2P, learning to prompt: a frozen model, and a pool of prompts from which every example takes its own.

Source: Wang et al. 2022, "Learning to Prompt for Continual Learning", arXiv:2112.08654, its loss (5); sizes, rates and
the vote by batch as in the notes on the toolbox PILOT, in which we read it, not in the paper.

    L = mean CE( current classes ) − lambda · mean Σ_{k chosen} cos( q(x), K_k )

q(x) is what the model without prompts says at the token where it reads the class; an example takes the prompts with the
nearest keys. They are tokens before its own, and the head reads the mean of what they say. Pool and head learn, nothing
else; only the classes of the learn set enter the softmax, so that no row of the head of an earlier class moves.

A later run goes on with the same pool. So what an example taught it is spread over prompts that others share: removing
it is work for ug_clu, scrub or salun on the learned version, and no prompt can be dropped for a task.

Departs from the paper: examples choose for themselves by default, so that no answer depends on the rest of a batch;
``by_batch`` has the rows vote. Prompts and keys begin at a standard deviation of 0.02; prompts have no position.
Official code: github.com/google-research/l2p (JAX, Apache-2.0); not read for this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.errors import ModelError, PlanError
from palimpsest.models.parts import parts_of_kind, taken_up
from palimpsest.models.parts.part import PartConfig
from palimpsest.models.parts.prompt_pool import PromptPool, PromptPoolConfig
from palimpsest.models.prompt_places import encoder_blocks, hidden_width, last_with_tokens, reads_last
from palimpsest.rules.prompt_learning import PromptLearning


class L2PConfig(Config):
    """Options of L2P."""

    prompts: int = Field(default=10, ge=1)
    """Prompts in the pool; 10 in the paper."""
    length: int = Field(default=5, ge=1)
    """Tokens of a prompt; 5 in the paper."""
    chosen: int = Field(default=5, ge=1)
    """Prompts of an example; 5 in the paper."""
    pull: float = Field(default=0.1, ge=0)
    """lambda, factor of the cosine between a query and the keys that it chose; PILOT's value."""
    reads: Literal["prompts", "tokens"] = "prompts"
    """What the head reads: the mean of what the prompts say, or the model's own token."""
    by_batch: bool = False
    """Do the rows of a batch vote and all take the same prompts? Then an answer depends on the rows beside it."""


class L2P(Method):
    """A pool that every task goes on training."""

    Config = L2PConfig
    use_when = (
        "tasks of classes follow each other on a good, frozen model. "
        "Not where a task must go later: its prompts are shared (dual_prompt, coda_prompt)."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    modalities = ("labels", "image")
    defaults = {"learning_rate": 1.875e-3, "batch_size": 16, "num_train_epochs": 5.0}
    adds_parts = True
    tunes_alone = True
    moves_all = True
    own_schedule = True

    def check(self, model: nn.Module) -> None:
        """There are blocks, the pool is as large as the choice, and that of an earlier run is alike."""
        options = self._options(model)
        if self.config.reads == "prompts" and reads_last(model):
            raise ModelError(
                f"l2p: a prompt before a text sees nothing of it in a {type(model).__name__}, which reads from left to "
                "right; accepted: --set l2p.reads=tokens, or coda_prompt"
            )
        for pool in parts_of_kind(model, PromptPool):
            if pool.config != options:
                raise PlanError(
                    f"l2p: the model has a pool of {pool.config.prompts} prompts of {pool.config.length} tokens, "
                    f"{pool.config.chosen} chosen; accepted: the same options, or a version without that part"
                )

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """The pool that is there, to go on with, or a new one."""
        earlier = parts_of_kind(model, PromptPool)
        return taken_up(model, earlier) if earlier else [PromptPool(self._options(model))]

    def _options(self, model: Any) -> PromptPoolConfig:
        options = self.config
        if options.chosen > options.prompts:
            raise PlanError(f"l2p.chosen = {options.chosen} of a pool of {options.prompts}; accepted: at most all")
        return PromptPoolConfig(
            query_width=hidden_width(model),
            read_at="last" if reads_last(model) else "first",
            layers=tuple(PartConfig(at=place) for place in encoder_blocks(model)),
            leave=last_with_tokens(model),
            **options.model_dump(exclude={"pull"}),
        )

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """The pool and the head move."""
        self._run = PromptLearning(model, sets["learn"])
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The task over its own classes, and the pull of queries on keys."""
        return self._run.terms(model, batches, self.config.pull)

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """By how many rows of the step each prompt was chosen."""
        return self._run.told()

    def finish(self, model: nn.Module) -> nn.Module:
        """Write by how many rows each prompt is chosen in the end."""
        return self._run.ended(model)


METHOD = L2P
