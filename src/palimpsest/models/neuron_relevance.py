"""How much the neurons of the feed-forward networks have to do with what a model says of a row.

Activation times gradient of all layers at once, or integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365),
one layer at a time:

    Att_k = Σ_t a_tk · 1/m Σ_{j=1..m} ∂F( (j − ½)/m · a ) / ∂a_tk,   F = Σ_t p( y_t | x_<t )

a is what enters the layer's last matrix; F of another a is what the model says when that enters in its place. The sum
over all neurons of a layer is F(a) − F(0), the middles of the steps making the error of order 1/m².

Shape legend: T tokens, F neurons of a layer, K of all layers one after the other, N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.encode.batch import ExampleSet
from palimpsest.models.activations import inputs_seen
from palimpsest.models.hooked import hooked
from palimpsest.models.in_passes import in_passes


def activation_times_gradient(
    model: nn.Module, layers: Sequence[str], examples: ExampleSet, ids: Sequence[str]
) -> Float[Tensor, "N K"]:
    """Σ_t a_tk ∂ v_t / ∂a_tk of every neuron, row by row, v_t the logit of a label token: the linear part of its share.

    Logits, not likelihoods: those of a row that is known by heart have next to no gradient.
    """
    rows = []
    for batch in _rows(model, examples, ids):
        with torch.enable_grad(), inputs_seen(model, layers) as seen:
            said = batch.predict(model)
            logits = said.logits_SV.float().gather(1, said.target_S[:, None]).sum()
        entered = [seen[layer][0] for layer in layers]
        slopes = torch.autograd.grad(logits, entered)
        rows.append(torch.cat([(a * s).float().sum((0, 1)) for a, s in zip(entered, slopes, strict=True)]).detach())
    return torch.stack(rows)


def integrated_gradients(
    model: nn.Module, layers: Sequence[str], examples: ExampleSet, ids: Sequence[str], *, steps: int
) -> Float[Tensor, "N K"]:
    """Att of every neuron, row by row; all steps of a row are one pass."""
    rows = []
    for batch in _rows(model, examples, [i for i in ids for _ in range(steps)], at_once=steps):
        with torch.no_grad(), inputs_seen(model, layers) as seen:
            batch.predict(model)
        rows.append(torch.cat([_of_layer(model, layer, batch, seen[layer][0]) for layer in layers]))
    return torch.stack(rows)


def _of_layer(model: nn.Module, layer: str, batch: Any, entered_MTF: Tensor) -> Float[Tensor, "F"]:
    """Att of the neurons of one layer for a row that stands in the batch M times."""
    steps = len(entered_MTF)
    middle_M11 = ((torch.arange(steps, device=entered_MTF.device) + 0.5) / steps)[:, None, None]
    scaled_MTF = (middle_M11 * entered_MTF).to(entered_MTF.dtype).requires_grad_(True)
    with torch.enable_grad(), instead(model, layer, scaled_MTF):
        said = batch.predict(model).logp_S.exp().sum()
        (slope_MTF,) = torch.autograd.grad(said, [scaled_MTF])
    attribution_F: Tensor = (entered_MTF * slope_MTF).float().mean(0).sum(0)
    return attribution_F


@contextmanager
def instead(model: nn.Module, layer: str, values: Tensor) -> Iterator[None]:
    """What enters a module in the block, in the place of what would."""
    with hooked([model.get_submodule(layer).register_forward_pre_hook(lambda _module, given: (values, *given[1:]))]):
        yield


def _rows(model: nn.Module, examples: ExampleSet, ids: Sequence[str], at_once: int = 1) -> Iterator[Any]:
    return (batch.bare for batch in in_passes(model, examples.plain(), at_once, ids))
