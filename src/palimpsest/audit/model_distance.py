"""How far apart two models are on a set of examples: Kullback-Leibler and Jensen-Shannon, per scored position.

    KL(a ‖ b) = sum_v a(v) [log a(v) - log b(v)]
    JS(a, b)  = KL(a ‖ m)/2 + KL(b ‖ m)/2,   m = (a + b)/2        symmetric, at most ln 2; its root is a distance

Source: as released with SFR-on (Huang et al. 2024, arXiv:2409.19732), where a is the retrained model; the comparison
with retrained models of other seeds is Liu et al. 2022, arXiv:2203.12817 (CLPU).

Shape legend: S scored positions, V vocabulary (or classes).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch, ExampleSet
from palimpsest.data.encode.image import ImageSet
from palimpsest.models.modes import asked


class Divergences(NamedTuple):
    """Means over scored positions, nats.

    Attributes:
        kl: of the reference from the model, KL(reference ‖ model).
        js: Jensen-Shannon divergence.
        n: scored positions.
    """

    kl: float
    js: float
    n: int


def kl_per_position(logp_a_SV: Float[Tensor, "S V"], logp_b_SV: Float[Tensor, "S V"]) -> Float[Tensor, "S"]:
    """KL(a ‖ b) at each position; infinite where b excludes what a does not.

    Args:
        logp_a_SV: log-probabilities, nats; -inf is probability 0.
        logp_b_SV: likewise.
    """
    term_SV = logp_a_SV.exp() * (logp_a_SV - logp_b_SV)
    return torch.where(logp_a_SV == -math.inf, 0.0, term_SV).sum(-1)


def js_per_position(logp_a_SV: Float[Tensor, "S V"], logp_b_SV: Float[Tensor, "S V"]) -> Float[Tensor, "S"]:
    """JS(a, b) at each position, from 0 to ln 2."""
    middle_SV = torch.logaddexp(logp_a_SV, logp_b_SV) - math.log(2)
    return (kl_per_position(logp_a_SV, middle_SV) + kl_per_position(logp_b_SV, middle_SV)) / 2


def kl_between(logp_a_SV: Float[Tensor, "S V"], logp_b_SV: Float[Tensor, "S V"]) -> float:
    """Mean KL(a ‖ b) per scored position, nats.

    >>> a, b = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.25, 0.75]]).log()
    >>> round(kl_between(a, b), 6)
    0.143841
    """
    return float(kl_per_position(logp_a_SV.double(), logp_b_SV.double()).mean())


def js_between(logp_a_SV: Float[Tensor, "S V"], logp_b_SV: Float[Tensor, "S V"]) -> float:
    """Mean JS(a, b) per scored position, nats.

    >>> a, b = torch.tensor([[1.0, 0.0]]).log(), torch.tensor([[0.0, 1.0]]).log()
    >>> round(js_between(a, b), 6) == round(math.log(2), 6)
    True
    """
    return float(js_per_position(logp_a_SV.double(), logp_b_SV.double()).mean())


def compare_models(
    reference: nn.Module, model: nn.Module, examples: ExampleSet, *, batch_size: int = 64
) -> Divergences:
    """Both divergences over a set, both models in eval mode.

    Args:
        reference: e.g. the retrained oracle.
        model: e.g. the unlearned model; each on its own device.
        examples: texts or images, at least one; images are not augmented.
        batch_size: examples per forward pass.
    """
    plain = examples.plain() if isinstance(examples, ImageSet) else examples
    kl = js = 0.0
    count = 0
    with asked(reference, model):
        for start in range(0, len(plain), batch_size):
            batch = plain.batch(plain.ids[start : start + batch_size])
            logp_a_SV, logp_b_SV = (_log_probabilities(m, batch) for m in (reference, model))
            kl += float(kl_per_position(logp_a_SV, logp_b_SV).sum(dtype=torch.float64))
            js += float(js_per_position(logp_a_SV, logp_b_SV).sum(dtype=torch.float64))
            count += batch.num_scored
    return Divergences(kl / count, js / count, count)


def _log_probabilities(model: nn.Module, batch: Batch) -> Float[Tensor, "S V"]:
    device = next(model.parameters()).device
    return F.log_softmax(batch.to(device).predict(model).logits_SV.float(), dim=-1).cpu()
