"""The Fisher information of a set from one backward pass a mini-batch: random signs in the place of all labels.

    u = Σ_s Σ_y ε_sy √p_sy ∂ log p_sy / ∂θ,   ε independent, +1 or −1 alike
    E[u uᵀ] = Σ_s Σ_y p_sy (∂ log p_sy / ∂θ)(∂ log p_sy / ∂θ)ᵀ = F, summed over the scored positions s of the mini-batch

since E[ε ε'] is 0 for two of them and 1 for the same one. So the square of one gradient is an unbiased estimate of the
diagonal, and products u uᵀ of several mini-batches one of the whole, however many examples each has: cross terms have
mean 0, which those of the mean gradient of a mini-batch have not. Against ``rules/fisher.py``: there one backward pass
for each label of each example and no error from signs; here a relative error of about sqrt(2 / mini-batches). A model
that is sure has a Fisher near 0 that labels drawn from it nearly always miss; here every label is in every pass.

Source: ours; the trick is Hutchinson's (1990) on the factor √p ∂ log p of the Fisher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.contract import ExampleSet
from palimpsest.data.draws import shuffled
from palimpsest.data.encode.batch import Predictions
from palimpsest.models.in_passes import in_passes
from palimpsest.models.modes import in_eval_mode
from palimpsest.models.scope import trainable

Sketch = tuple[list[Tensor], int]
"""u over one mini-batch, shaped like the parameters, and its scored positions."""


def signed_sum(said: Predictions, sign_SV: Float[Tensor, "S V"]) -> Float[Tensor, ""]:
    """Σ_s Σ_y ε_sy √p_sy log p_sy, the p without a gradient: its gradient is u.

    Args:
        said: of a mini-batch.
        sign_SV: +1 or −1.
    """
    logp_SV = said.logits_SV.float().log_softmax(dim=-1)
    return (sign_SV * (logp_SV.detach() / 2).exp() * logp_SV).sum()


def signs(shape: Sequence[int], generator: torch.Generator) -> Float[Tensor, "..."]:
    """+1 and −1, drawn on the CPU."""
    return torch.randint(0, 2, tuple(shape), generator=generator).float() * 2 - 1


def sketches(model: nn.Module, examples: ExampleSet, *, limit: int, batch_size: int) -> Iterator[Sketch]:
    """U of one mini-batch after another; the same at every call, whatever was drawn before.

    Args:
        model: at the weights at hand; asked in eval mode.
        examples: not augmented for this.
        limit: at most so many of them, a random choice that depends on nothing but the ids.
        batch_size: examples per mini-batch.
    """
    parameters, generator = [*trainable(model).values()], torch.Generator().manual_seed(0)
    ids = shuffled(examples.ids, 0, "fisher", 0)[:limit]
    with in_eval_mode(model), torch.enable_grad():
        for batch in in_passes(model, examples.plain(), batch_size, ids):
            said = batch.bare.predict(model)
            sign_SV = signs(said.logits_SV.shape, generator).to(said.logits_SV.device)
            found = torch.autograd.grad(signed_sum(said, sign_SV), parameters, allow_unused=True)
            yield (
                [torch.zeros_like(p) if g is None else g.float() for p, g in zip(parameters, found, strict=True)],
                len(said.target_S),
            )


def sketched_fisher(
    model: nn.Module, examples: ExampleSet, *, limit: int, batch_size: int
) -> dict[str, Float[Tensor, "..."]]:
    """The diagonal per scored position, by parameter name, over what may move; arguments of ``sketches``."""
    names = list(trainable(model))
    total, positions = [torch.zeros_like(p, dtype=torch.float32) for p in trainable(model).values()], 0
    for gradients, count in sketches(model, examples, limit=limit, batch_size=batch_size):
        positions += count
        for into, gradient in zip(total, gradients, strict=True):
            into.addcmul_(gradient, gradient)
    return {name: square / max(1, positions) for name, square in zip(names, total, strict=True)}
