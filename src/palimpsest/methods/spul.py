"""Soft prompting for unlearning (SPUL): a soft prompt before every text keeps a model from saying what must go.

Source: Bhaila, Van, Wu 2024, "Soft Prompting for Unlearning in Large Language Models", arXiv:2406.12038, known from its
abstract; the objective is that of NPO+RT (Zhang et al. 2024, arXiv:2404.05868, Eq. 3).

    L = (2/npo_beta) · mean_x log(1 + (p(x | prompt)/p(x))^npo_beta) − alpha · mean_z log p(z | prompt)

The prompt is learned as in ``prompt_tuning``, by an estimate of the gradient from values alone, so that the model may
be one that can only be asked: a row of a step costs q + 1 queries, and what it said of the forget rows before one.
Eight times in a run both sets are asked (``models/prompt_watch.py``): the prompt is kept that hides most of those that
leave the retain rows their ``floor``; where none does, the model is given back as it was, and the run says so.

No weight changes: whoever leaves the prompt off has all of it again, and the report says so first. What the part keeps
of the forgotten rows are numbers that were tuned on them.

x a forget row, z a retain row, both summed over their label tokens: per token, the retain term would weigh as much less
as a row is long, and what must stay was lost.

Departs from the paper: NPO's objective for its own, which gives the forget rows of a classification task another label.
Official code: none used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Method, Part, Phase, Step, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.preference import preference_losses
from palimpsest.models.prompt_watch import LOOKS, WATCHED_ROWS, PromptWatch, is_due
from palimpsest.models.soft_prompting import (
    START_ROWS,
    Learner,
    SoftPromptingConfig,
    check_prompting,
    nll_of,
    queries_to_start,
    soft_prompt_for,
)


class SPULConfig(SoftPromptingConfig):
    """Options of SPUL."""

    length: int = Field(default=4, ge=1)
    """Positions of the prompt."""
    npo_beta: float = Field(default=0.1, gt=0)
    """Inverse temperature of the forget term, as in NPO."""
    alpha: float = Field(default=1.0, ge=0)
    """Factor of the retain term."""
    floor: float = Field(default=0.9, gt=0, lt=1)
    """Share of the probability per token of the retain rows that a prompt must leave to be kept."""


class SPUL(Method):
    """Learn a soft prompt behind which the forget rows are unlikely; nothing of the model changes."""

    Config = SPULConfig
    use_when = (
        "a language model is behind an API that takes soft prompts. "
        "Not where anybody else can ask it, nor of a small model: no prompt hid much and kept what must stay."
    )
    approach = "guard"
    modalities = ("text",)
    reads_prefixes = True
    needs = ("forget",)
    uses = ("retain",)
    reference_sets = frozenset({"forget"})
    only_asks = True
    adds_parts = True
    own_schedule = True
    defaults = {
        "optimizer": "adamw",
        "learning_rate": 0.1,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 0.0,
        "batch_size": 8,
        "num_train_epochs": 10.0,
    }

    @classmethod
    def queries(cls, config: SPULConfig, steps: int, rows: int, examples: int) -> int:
        """Q + 1 for each row of both sets in a step, once every forget row as it was, and what the start costs."""
        watched = 2 * (LOOKS + 1) * WATCHED_ROWS
        return 2 * steps * rows * (config.q + 1) + examples + queries_to_start(config, START_ROWS) + watched

    def check(self, model: nn.Module) -> None:
        """Refuse the exact gradient of what can only be asked, and an endpoint that takes no soft prompt."""
        check_prompting("spul", self.config, model)

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A drawn soft prompt."""
        return [soft_prompt_for(model, self.config.length, seed, unlearns=True)]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Know the prompt."""
        self._learner = Learner(model, self.config)
        self._learner.start(sets.get("retain", sets["forget"]))
        retain, floor = sets.get("retain"), self.config.floor
        self._watch = None if retain is None else PromptWatch(self._learner, sets["forget"], retain, floor)
        return super().prepare(model, sets)

    def phases(self, step: int, planned: int) -> Sequence[Phase]:
        """One, whose directions belong to its step."""
        self._step, self._looks = step, is_due(step, planned)
        return super().phases(step, planned)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Both terms, each with its gradient or an estimate of it along the same directions."""
        forget = batches["forget"]

        def preference() -> Tensor:
            logp_B = forget.predict(model).logp_B
            ratio_B = logp_B - self.recall(model, forget).logp_B
            return preference_losses(ratio_B.new_zeros(len(ratio_B)), ratio_B, self.config.npo_beta)

        terms = {"forget": Term(self._learner.total(preference, forget.ids, self._step), of="forget", per="example")}
        if "retain" in batches and self.config.alpha:
            retain = batches["retain"]
            total = self._learner.total(lambda: nll_of(model, retain), retain.ids, self._step)
            terms["retain"] = Term(total, of="retain", per="example", weight=self.config.alpha)
        return terms

    def update(self, model: nn.Module, phase: Phase, step: Step) -> None:
        """One step, and a look at what it came to where one is due."""
        step()
        if self._watch is not None and self._looks:
            self._watch.look()

    def state(self) -> Mapping[str, Tensor]:
        """The best prompt so far."""
        return {} if self._watch is None else self._watch.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """As it was left."""
        if self._watch is not None:
            self._watch.load_state(state)

    def why_not_kept(self) -> str | None:
        """No prompt that keeps the retain rows."""
        return None if self._watch is None else self._watch.why_none()

    def finish(self, model: nn.Module) -> nn.Module:
        """The best prompt stands."""
        if self._watch is not None:
            self._watch.keep()
        return super().finish(model)


METHOD = SPUL
