"""What whole predictions say at the scored positions of a batch: their moments, and how far a second model's are.

Shape legend: S scored positions of a batch (in ``Facts`` of one example), V vocabulary (or classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch, Predictions
from palimpsest.errors import DivergedError
from palimpsest.metrics.metric import Moments
from palimpsest.models.divergence import entropy, kl_divergence


class VocabularyFacts(NamedTuple):
    """Of one example, what of it was asked for; and of which ``Facts`` has fields."""

    moments: Moments | None = None
    kl_S: Float[np.ndarray, "S"] | None = None


@dataclass(frozen=True)
class Vocabulary:
    """Serves ``Ask.LIKELIHOOD``, ``Ask.MOMENTS`` and ``Ask.BESIDE``.

    Attributes:
        moments: are they asked for?
        beside: the second model, in eval mode on its device, where it is asked for.
    """

    moments: bool
    beside: nn.Module | None

    @property
    def wanted(self) -> bool:
        """Is anything asked for?"""
        return self.moments or self.beside is not None

    def look(self, batch: Batch, said: Predictions | None) -> list[VocabularyFacts]:
        """What was asked for, of each example of a batch.

        Args:
            batch: on the device of the model that was asked.
            said: by that model, of the batch; None where nothing of it was kept, because nothing is asked for.

        Raises:
            DivergedError: a divergence that is no finite number.
        """
        if said is None or not self.wanted:
            return [VocabularyFacts()] * len(batch)
        cuts = np.cumsum(np.bincount(said.owner_S.cpu().numpy(), minlength=len(batch)))[:-1]

        def by_example(values_S: Tensor) -> list[Float[np.ndarray, "S"]]:
            return np.split(values_S.cpu().numpy(), cuts)

        found: list[VocabularyFacts] = [VocabularyFacts()] * len(batch)
        if self.moments:
            pairs = zip(by_example(said.logp_S), by_example(entropy(said.logits_SV)), strict=True)
            found = [VocabularyFacts(Moments(*pair)) for pair in pairs]
        if self.beside is not None:
            kl_S = kl_divergence(_predict(batch, self.beside).logits_SV.to(said.logits_SV.device), said.logits_SV)
            apart = by_example(kl_S)
            _refuse_infinite(batch.ids, apart)
            found = [one._replace(kl_S=mine_S) for one, mine_S in zip(found, apart, strict=True)]
        return found


def _predict(batch: Batch, model: nn.Module) -> Predictions:
    return batch.to(next(model.parameters()).device).predict(model)


def _refuse_infinite(ids: Sequence[str], values: Sequence[Float[np.ndarray, "S"]]) -> None:
    wrong = [i for i, values_S in zip(ids, values, strict=True) if not np.isfinite(values_S).all()]
    if wrong:
        raise DivergedError(
            f"the two models' logits on example {wrong[0]!r} are not finite numbers; there is nothing to compare"
        )
