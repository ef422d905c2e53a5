"""What of iterative refinement may be chosen. The tests themselves are in ``refine.py`` and ``continuation.py``."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from palimpsest.chosen import Chosen


class Refinement(Chosen):
    """When an example counts as forgotten, and what ends the run early."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    test: Literal["extraction", "bleu", "bertscore", "gap"] = "extraction"
    """"extraction": MA and EL_n at most their levels. "bleu": the paper's test, a 2-beam continuation of the prefix
    with BLEU below ``bleu``. "bertscore": BLEU below it or BERTScore F1 below ``bertscore`` (extra [bertscore]).
    "gap": MASC's, the true token no longer ahead of the likeliest other by more than ``gap`` at a share ``closed`` of
    an example's positions; needs no level."""
    ma: float | None = Field(default=None, ge=0, le=1)
    """Level of MA; None = mean over the holdout (or the neighbours) under the model before the run."""
    el: float | None = Field(default=None, ge=0, le=1)
    """Level of EL_n; None = as ``ma``."""
    quantile: float | None = Field(default=None, gt=0, lt=1)
    """A measured level is the mean (None, as published) or this quantile of the comparable examples. Half of all text a
    model never saw lies above the mean, so the mean asks for more forgetting than retraining gives."""
    share: float = Field(default=1.0, gt=0, le=1)
    """The run ends when this share of the examples passes; 1 as published. At a quantile q a share q of unseen text
    passes, so asking for more drags all others down with the last example."""
    n: int = Field(default=10, ge=1)
    """n of EL_n, tokens."""
    first_prefix: int = Field(default=1, ge=1)
    """First prefix length of EL_n, tokens."""
    bleu: float = Field(default=0.01, gt=0, le=1)
    """Level of BLEU; the published code's value."""
    bertscore: float = Field(default=0.3, gt=0, le=1)
    """Level of BERTScore F1; the published code's value."""
    gap: float = Field(default=0.0, allow_inf_nan=False)
    """Logits; at most so far ahead of the likeliest other token a true one may be where its gap counts as closed."""
    closed: float = Field(default=0.75, gt=0, le=1)
    """Share of an example's gaps that must be closed; ours."""
    floor: float | None = Field(default=None, gt=0, le=1)
    """End the run when the mean answer probability on the retain set falls below this share of its value before."""
