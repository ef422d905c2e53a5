"""When a hardened model says what stays as the model before it said it: the end of its distillation."""

from __future__ import annotations

from torch import nn

from palimpsest.data.encode.batch import ExampleSet
from palimpsest.in_words import show
from palimpsest.loop.repair import Keeping
from palimpsest.loop.stopping import Check
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import asked

CLOSE = 0.03  # nats per position; on the stories model retain ES is then within a few hundredths of before
SAID_ROWS = 8  # at once
LOOKED_AT = 64


class SaidAgain:
    """Looks between epochs how far what is said of the taught rows is from what the model before said.

    Attributes:
        divergence: mean KL(model before ‖ model) at the last look, nats per position; None before the first.
    """

    def __init__(self, method: Keeping, taught: ExampleSet, looked_at: ExampleSet) -> None:
        """As the method asks its reference.

        Args:
            method: of the distillation.
            taught: whose rows are gone over.
            looked_at: those of them that every check looks at.
        """
        self._method, self._ids, self._rows = method, taught.ids, looked_at
        self.divergence: float | None = None

    def check(self, model: nn.Module, step: int) -> Check:
        """All rows go on until the mean is small enough."""
        total, count = 0.0, 0
        with asked(model):
            for batch in in_passes(model, self._rows, SAID_ROWS):
                total += float(self._method.divergence(model, batch))
                count += batch.num_scored
        self.divergence = total / count
        enough = f"what stays is said as before, {show(self.divergence)} nats per token from it"
        return Check(self._ids, {"retain.kl": self.divergence}, satisfied=enough if self.divergence <= CLOSE else None)
