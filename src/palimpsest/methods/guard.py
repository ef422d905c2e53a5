"""Guard: the model is left as it is, and a classifier beside it has it refuse what was forgotten.

Source: Thaker et al. 2024, "Guardrail Baselines for Unlearning in LLMs", arXiv:2403.03329.

    logits ← refusal        from the first token on where   w · mean h + b > threshold

h are the states of one block, w and b Fisher's discriminant between forget rows and rows that must stay, the threshold
lies above all but ``share`` of the held-out rows of each set that must stay (``models/parts/refusal_guard.py``). One of
these sets is general text: the replay set, else what the model says by itself. Without it a guard that was fitted on
rows of one kind fires on every other.

No weight changes: whoever leaves the part off has all of it again, and the report says so first. What the part keeps of
the forgotten rows is a direction and a threshold; no row, and no mean of rows.

Departs from the paper: a linear classifier of the model's own states, fitted in closed form, for a prompted or a second
language model; the refusal is one sentence of ``derived/refusal.py``.
Official code: none used; the paper's is a set of prompts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

from pydantic import Field
from torch import nn

from palimpsest.contract import Config, ExampleSet, Method, Part
from palimpsest.data.encode.batch import Batch
from palimpsest.models.activations import block_names
from palimpsest.models.parts import named_buffers_of, new_parts_of
from palimpsest.models.parts.fit_watch import fit_watch, least_asked
from palimpsest.models.parts.refusal_guard import RefusalGuard, RefusalGuardConfig
from palimpsest.models.text_config import text_config


class GuardConfig(Config):
    """Options of the guard."""

    by: Literal["classifier", "similarity"] = "classifier"
    """Direction between the two classes: whitened by the covariance within them, or of their means alone."""
    at: str = ""
    """Module whose states are read; the block at two thirds of the depth when empty."""
    share: float = Field(default=0.0, ge=0, lt=1)
    """Of the held-out rows of each set that must stay: at most so many are refused."""
    ridge: float | None = Field(default=None, gt=0)
    """Added to the covariance, as a share of its mean diagonal; None = found by the run, on held-out rows."""
    certainty: float = Field(default=0.99, gt=0, lt=1)
    """Probability of each token of the refusal."""


def refusal_tokens(batch: Batch) -> tuple[int, ...]:
    """What a refusal answers, the closing token included: the scored tokens of its row.

    >>> from palimpsest.data.encode.batch import TokenSequence, collate
    >>> refusal_tokens(collate([TokenSequence("a", (5, 6, 2), (False, True, True))], 0))
    (6, 2)
    """
    return tuple(batch.target_S.tolist())


class Guard(Method):
    """Refuse what is about the forget set; nothing else of the model changes."""

    Config = GuardConfig
    use_when = (
        "the weights must not change, and a refusal will do for now. "
        "Not where anybody else holds the weights: they know all of it, and without the part they say it."
    )
    approach = "guard"
    modalities = ("text",)
    needs = ("forget", "retain", "refusal")
    uses = ("replay",)
    instead = {"replay": "own_words"}
    edits = True
    only_asks = True
    adds_parts = True

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A guard that was fitted to nothing, and fires on everything."""
        blocks = block_names(model)
        place = self.config.at or blocks[2 * len(blocks) // 3]
        return [
            RefusalGuard(
                RefusalGuardConfig(
                    at=place,
                    width=text_config(model).hidden_size,
                    least=least_asked(sets["forget"]),
                    refusal=refusal_tokens(sets["refusal"].batch(sorted(sets["refusal"].ids)[:1])),
                    certainty=self.config.certainty,
                )
            )
        ]

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """Fit it."""
        (part,) = (part for part in new_parts_of(model) if isinstance(part, RefusalGuard))
        stays = {name: sets[name] for name in ("retain", "replay", "own_words") if name in sets}
        options = self.config
        fit_watch(
            model,
            part,
            sets["forget"],
            stays,
            whiten=options.by == "classifier",
            ridge=options.ridge,
            share=options.share,
        )
        return named_buffers_of(model, part)


METHOD = Guard
