"""What a learner that grows backbones asks of its steps: maximum likelihood by all, and a classifier of the new one.

    L = Σ_set w_set · ( − mean log p(class) − alpha_aux · mean log p_aux(class if new, else "old") )

p is of the wide head over the features of all backbones, p_aux of a classifier on those of the new one alone
(Yan et al. 2021, arXiv:2103.16788). Where nothing was grown this is fine-tuning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from palimpsest.data.encode.batch import Batch
from palimpsest.models.parts.backbone_growth import new_grown_of, new_or_old_loss
from palimpsest.models.wide_predictions import predict_beside
from palimpsest.phases import Term
from palimpsest.terms import likelihood_together


def expanded_terms(
    model: nn.Module, batches: Mapping[str, Batch], new: Sequence[int], *, auxiliary: float, memory: float
) -> dict[str, Term]:
    """Means of the losses of both classifiers.

    Args:
        model: with the backbone that the run grew, if it grew one.
        batches: of one step.
        new: classes that are learned.
        auxiliary: alpha_aux.
        memory: w of every set but "learn".
    """
    weights = {name: 1.0 if name == "learn" else memory for name in batches}
    part = next(iter(new_grown_of(model)), None)
    if part is None:
        return likelihood_together(model, batches, weights)
    terms = {}
    for name, (one, aux_SA) in predict_beside(model, batches, part.telling, part.auxiliary_logits).items():
        terms[name] = Term(-one.logp_S.sum(), of=name, weight=weights[name])
        told_apart = new_or_old_loss(aux_SA, one.target_S, new)
        terms[f"{name}_auxiliary"] = Term(told_apart, of=name, weight=weights[name] * auxiliary)
    return terms


def without_auxiliary(model: nn.Module) -> nn.Module:
    """The model; the auxiliary classifiers of the run have done their work."""
    for part in new_grown_of(model):
        part.drop_auxiliary()
    return model
