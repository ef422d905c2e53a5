"""CLPU-DER++: temporary tasks live in networks of their own and are forgotten with them; permanent ones by DER++.

Source: Liu, Liu, Stone 2022, "Continual Learning and Private Unlearning", CoLLAs, arXiv:2203.12817, its algorithm
CLPU-DER++.

    L = − w · mean log p(learn tokens) + s · alpha · mean ‖z_side − z‖² / V  at learn
        + alpha · mean ‖z_ref − z‖² / V − beta · mean log p(memory tokens)   at the memory
    learning:       w = 1,    s = 0
    consolidating:  w = beta, s = 1;   z_side are the logits of the side network, z_ref of the model before the request

It ``isolates``: whoever owns the versions of the model carries out the requests,

    learn for good      this method on the main network, with a memory of what was learned for good
    learn temporarily   this method on a copy of the main network, the side network, with the learn set alone
    consolidate         this method on the main network, ``side`` = folder of the side network, which is then deleted
    forget              delete the side network; its examples were in no memory and its weights in no other network

and answers a temporary task with its side network, which takes knowing the task. Forgetting is exact for that reason
alone. What was learned for good, and single classes or samples of a task, it cannot forget.

Departs from the paper: logits of the networks at the start of the request, where it records them while it learns; one
mean over the memory, where it takes one for each task.
Official code: github.com/Cranial-XIX/Continual-Learning-Private-Unlearning@721bb8e, no licence file; a reservoir that
rejects an example overwrites its last place with it.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch, predict_together
from palimpsest.errors import PlanError
from palimpsest.models.divergence import logit_distance
from palimpsest.models.load import load


class CLPUDERppConfig(Config):
    """Options of CLPU-DER++."""

    alpha: float = Field(default=0.5, ge=0)
    """Factor of the logit distances; the paper's code has 0.5."""
    beta: float = Field(default=1.0, ge=0)
    """Factor of the losses on labels that are rehearsed; the paper's code has 1, or 0.5."""
    side: str | None = None
    """Folder of the side network that learned the learn set temporarily: consolidate it. None = learn for good."""


class CLPUDERpp(Method):
    """DER++ on the main network; with a side network, distillation from it too."""

    Config = CLPUDERppConfig
    use_when = (
        "what is learned for a time must later be forgotten exactly. "
        "Not for single rows or classes, nor for what was learned for good; it needs a copy of the model for each "
        "temporary task."
    )
    approach = "history"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("retain", "replay")
    reference_sets = frozenset({"retain", "replay"})
    isolates = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Load the side network: a whole second model."""
        self.side: nn.Module | None = None
        if self.config.side is not None:
            loaded = load(self.config.side, tokenizer_needed=False)
            num = loaded.family.num_outputs(model)
            if num != loaded.num_outputs:
                raise PlanError(
                    f"side {self.config.side} knows {loaded.num_outputs} tokens or classes and the model {num}; give "
                    "the side network that learned the learn set, a copy of this model"
                )
            side: nn.Module = loaded.model
            self.side = side.to(next(model.parameters()).device).requires_grad_(False)
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means; with neither memory nor side network this is fine-tuning."""
        terms = {}
        for name, said in predict_together(model, batches).items():
            teacher_SV = self._teacher_logits(name, model, batches[name])
            weight = 1.0 if teacher_SV is None else self.config.beta
            terms[name] = Term(-said.logp_S.sum(), of=name, weight=weight)
            if teacher_SV is not None:
                distance = logit_distance(teacher_SV, said.logits_SV).sum()
                terms[f"{name}_logits"] = Term(distance, of=name, weight=self.config.alpha)
        return terms

    def _teacher_logits(self, name: str, model: nn.Module, batch: Batch) -> Tensor | None:
        """Of the side network on what it learned, of the model before on the memory; None on what is new to both."""
        if name != "learn":
            return self.recall(model, batch).logits_SV
        if self.side is None:
            return None
        with torch.no_grad():
            return batch.predict(self.side).logits_SV


METHOD = CLPUDERpp
