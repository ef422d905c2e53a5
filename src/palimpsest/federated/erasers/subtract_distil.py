"""Subtract and distil: take the client's updates off, then learn from the old model on rows that are no client's.

Source: Wu, Zhu & Mitra 2022, "Federated Unlearning with Knowledge Distillation", arXiv:2201.09441; known from notes on
the paper.

    w ← w_T − Σ_j p_u^j U_u^j
    w̃: argmin_w  T² KL(softmax(z_old / T) ‖ softmax(z_w / T))   over public rows, without their labels

The subtraction breaks the model (later updates of the others were given at weights that the client had moved); the old
model, which knows what is to be forgotten, teaches it on rows on which that hopefully does not show. Nobody of the
federation is asked: the rows are the server's, a party of the name "public", that learns by
``softened_divergence`` of ``methods/scrub.py``.
"""

from __future__ import annotations

from pydantic import Field

from palimpsest.errors import PlanError
from palimpsest.federated.averaging import weights_after
from palimpsest.federated.erasers.history import contribution
from palimpsest.federated.procedure import Eraser, Errand, Procedure, Rounds
from palimpsest.method_card import Config

PUBLIC = "public"
"""Name of the party that holds rows of nobody; not a client."""


class SubtractDistilConfig(Config):
    """Options of the distillation."""

    epochs: float = Field(default=10.0, gt=0)
    """Passes over the public rows."""
    temperature: float = Field(default=3.0, gt=0)
    """T, that softens both answers."""


class SubtractDistil(Eraser):
    """Off with the updates, then distillation."""

    Config = SubtractDistilConfig
    name = "subtract_distil"
    from_start = False
    source = "Wu et al. 2022, arXiv:2201.09441"
    use_when = "nobody of the federation answers any more, and there are rows of nobody like theirs"
    guarantee = "None: the teacher of the distillation is the model that knows the client"
    needs = ("rounds", "public rows")

    def erase(self, history: Rounds, gone: str) -> Procedure:
        """Subtract, and have the public rows taught.

        Raises:
            PlanError: there are no public rows.
        """
        weights = weights_after(history.final, contribution(history, gone), -1.0)
        settings = {"temperature": self.config.temperature}
        told = yield Errand(
            weights, (PUBLIC,), self.config.epochs, "distil", settings, beside=history.final, loss=False
        )
        if PUBLIC not in told:
            raise PlanError(
                "subtract_distil: nobody holds public rows; accepted: rows of no client, without which the model stays "
                "broken"
            )
        return weights_after(weights, told[PUBLIC].delta)


ERASER = SubtractDistil
