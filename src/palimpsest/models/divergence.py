"""What predictions say at scored positions: their entropy, and divergences between two models.

Shape legend: S scored positions, R a few of them, V vocabulary (or classes).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from palimpsest.data.encode.lean_logits import by_rows


def entropy(logits_SV: Float[Tensor, "S V"]) -> Float[Tensor, "S"]:
    """Entropy of the prediction at each position, nats, in fp32.

    >>> import torch
    >>> round(entropy(torch.zeros(1, 4)).item(), 4)
    1.3863
    """
    logp_SV = F.log_softmax(logits_SV.float(), dim=-1)
    return -(logp_SV.exp() * logp_SV.clamp(min=-1e30)).sum(-1)  # 0 log 0 = 0, without -inf


def kl_divergence(reference_SV: Float[Tensor, "S V"], logits_SV: Float[Tensor, "S V"]) -> Float[Tensor, "S"]:
    """KL(reference ‖ model) at each position, nats.

        KL_s = Σ_v p_ref(v) · [log p_ref(v) − log p(v)]

    Args:
        reference_SV: logits of the reference model, no gradient expected.
        logits_SV: logits of the model.

    Returns:
        (S,), each >= 0, computed in fp32.

    >>> import torch
    >>> kl_divergence(torch.zeros(1, 2), torch.tensor([[0.0, 0.0]])).item()
    0.0
    """
    return by_rows(_kl, logits_SV, reference_SV)


def _kl(logits_RV: Tensor, reference_RV: Tensor) -> Tensor:
    log_reference_RV = F.log_softmax(reference_RV.float(), dim=-1)
    logp_RV = F.log_softmax(logits_RV.float(), dim=-1)
    return F.kl_div(logp_RV, log_reference_RV, reduction="none", log_target=True).sum(dim=-1)


def reverse_divergence(logits_SV: Float[Tensor, "S V"], teacher_SV: Float[Tensor, "S V"]) -> Float[Tensor, "S"]:
    """KL(model ‖ teacher) at each position, nats, in fp32.

    Args:
        logits_SV: of the model.
        teacher_SV: of the teacher, no gradient.
    """
    return by_rows(_reverse_kl, logits_SV, teacher_SV)


def _reverse_kl(logits_RV: Tensor, teacher_RV: Tensor) -> Tensor:
    logp_RV = F.log_softmax(logits_RV.float(), dim=-1)
    return (logp_RV.exp() * (logp_RV - F.log_softmax(teacher_RV.float(), dim=-1))).sum(-1)


def logit_distance(reference_SV: Float[Tensor, "S V"], logits_SV: Float[Tensor, "S V"]) -> Float[Tensor, "S"]:
    """Mean over V of (z_ref − z)² at each position, fp32; sees a common shift of all logits, as DER++ does.

    >>> import torch
    >>> logit_distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 1.0]])).item()
    5.0
    """
    return by_rows(_mean_square, logits_SV, reference_SV)


def _mean_square(logits_RV: Tensor, reference_RV: Tensor) -> Tensor:
    return (logits_RV.float() - reference_RV.float()).square().mean(dim=-1)


def soft_cross_entropy(reference_SV: Float[Tensor, "S V"], logits_SV: Float[Tensor, "S V"]) -> Float[Tensor, "S"]:
    """Cross-entropy of the model under the reference distribution at each position, nats.

        CE_s = − Σ_v p_ref(v) · log p(v) = KL_s + H(p_ref)

    Same gradient as ``kl_divergence``, another value.

    Args:
        reference_SV: logits of the reference model.
        logits_SV: logits of the model.

    Returns:
        (S,), each >= the entropy of the reference, computed in fp32.
    """
    return by_rows(_soft_cross_entropy, logits_SV, reference_SV)


def _soft_cross_entropy(logits_RV: Tensor, reference_RV: Tensor) -> Tensor:
    reference_prob_RV = F.softmax(reference_RV.float(), dim=-1)
    return -(reference_prob_RV * F.log_softmax(logits_RV.float(), dim=-1)).sum(dim=-1)


def js_divergence(reference_SV: Float[Tensor, "S V"], logits_SV: Float[Tensor, "S V"]) -> Float[Tensor, "S"]:
    """Jensen-Shannon divergence of model and reference at each position, nats; between 0 and log 2.

        JSD_s = ½ KL(p ‖ m) + ½ KL(p_ref ‖ m),   m = (p + p_ref) / 2

    Args:
        reference_SV: logits of the reference model, no gradient.
        logits_SV: logits of the model.

    Returns:
        (S,), computed in fp32.

    >>> import torch
    >>> round(js_divergence(torch.tensor([[0.0, -99.0]]), torch.tensor([[-99.0, 0.0]])).item(), 4)
    0.6931
    """
    return by_rows(_js, logits_SV, reference_SV)


def _js(logits_RV: Tensor, reference_RV: Tensor) -> Tensor:
    logp_RV = F.log_softmax(logits_RV.float(), dim=-1)
    log_reference_RV = F.log_softmax(reference_RV.float(), dim=-1)
    log_middle_RV = torch.logaddexp(logp_RV, log_reference_RV) - math.log(2)
    halves = (one_RV.exp() * (one_RV - log_middle_RV) for one_RV in (logp_RV, log_reference_RV))
    return 0.5 * torch.stack([half_RV.sum(-1) for half_RV in halves]).sum(0)
