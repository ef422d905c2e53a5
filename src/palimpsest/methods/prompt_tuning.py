"""Prompt tuning: a language model learns a task by a soft prompt before every text, also where it can only be asked.

Source: Lester, Al-Rfou, Constant 2021, "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP 2021,
arXiv:2104.08691; the estimate is that of Tsai, Chen, Ho 2020 (BAR), ICML 2020, known from notes on the paper.

    L = − mean log p(label tokens | scale · W, tokens before them)
    W ← W − η g,   g = mean_{j=1..q} d (L(W + beta u_j) − L(W))/beta · u_j         estimator = zeroth_order
                   g = ∂L/∂W                                                       estimator = exact (white box)

A row of a step costs q + 1 queries. The model without a prompt is the first column of the result, "before". A prompt
that makes the rows no likelier than that is not kept, and the run fails.

Departs from the paper: drawn numbers to start with instead of embeddings of words, which an endpoint does not show.
Official code: github.com/google-research/prompt-tuning (Apache-2.0), not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from palimpsest.contract import ExampleSet, Method, Part, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.soft_prompting import (
    Learner,
    SoftPromptingConfig,
    check_prompting,
    nll_of,
    queries_to_start,
    soft_prompt_for,
)

CHECKED_ROWS = 64
"""Rows that are asked at the end, behind the prompt and without it; those that are measured, too, cost nothing more."""


class PromptTuningConfig(SoftPromptingConfig):
    """Options of prompt tuning."""


class PromptTuning(Method):
    """Learn a soft prompt; the model stays as it is."""

    Config = PromptTuningConfig
    use_when = "a language model is behind an API that takes soft prompts. Not where you can train weights."
    approach = "modules"
    kinds = ("learn",)
    needs = ("learn",)
    modalities = ("text",)
    reads_prefixes = True
    only_asks = True
    adds_parts = True
    own_schedule = True
    defaults = {
        "optimizer": "sgd",
        "learning_rate": 1.5,
        "momentum": 0.9,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 0.0,
        "batch_size": 8,
        "num_train_epochs": 10.0,
    }

    @classmethod
    def queries(cls, config: PromptTuningConfig, steps: int, rows: int, examples: int) -> int:
        """Q + 1 for each row of a step, and what the start and the check at the end cost."""
        checked = 2 * min(CHECKED_ROWS, examples)
        return steps * rows * (config.q + 1) + queries_to_start(config, examples) + checked

    def check(self, model: nn.Module) -> None:
        """Refuse the exact gradient of what can only be asked, and an endpoint that takes no soft prompt."""
        check_prompting("prompt_tuning", self.config, model)

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A drawn soft prompt."""
        return [soft_prompt_for(model, self.config.length, seed)]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Know the prompt."""
        self._learner = Learner(model, self.config)
        self._learn = sets["learn"]
        self._learner.start(self._learn)
        return super().prepare(model, sets)

    def phases(self, step: int, planned: int) -> Sequence[Phase]:
        """One, whose directions belong to its step."""
        self._step = step
        return super().phases(step, planned)

    def why_not_kept(self) -> str | None:
        """A prompt that is no better than none."""
        return self._learner.why_no_better(self._learn, CHECKED_ROWS)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Negative log-likelihood of the label tokens, with its gradient or an estimate of it."""
        learn = batches["learn"]
        return {"learn": Term(self._learner.total(lambda: nll_of(model, learn), learn.ids, self._step), of="learn")}


METHOD = PromptTuning
