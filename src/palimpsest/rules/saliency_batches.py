"""Saliency masks of named example sets: mini-batches for ``rules/saliency_scores.py``.

Source: as of ``saliency_scores.py``. All sets are cut into mini-batches of one size, because the mini-batch Fisher
depends on it: that of the smallest set where that is smaller. At most ``limit`` examples of each are looked at, drawn
without the run's random state, so that a resumed run builds the same mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from palimpsest.data.draws import shuffled
from palimpsest.data.encode.batch import ExampleSet
from palimpsest.rules.saliency_scores import Composition, Granularity, Losses, Saliency, balanced_masks


def batch_losses(model: nn.Module, examples: ExampleSet, *, limit: int, batch_size: int) -> list[Callable[[], Tensor]]:
    """A set as mini-batches, not augmented, each a call that gives the mean over its examples of their mean NLL, nats.

    Args:
        model: that is asked; batches go to its device.
        examples: at least one.
        limit: at most so many of them, a random choice that depends on nothing but the ids.
        batch_size: examples per mini-batch, at most as many as there are; the last one begins early enough to be whole.
    """
    ids = shuffled(examples.ids, 0, "saliency", 0)[:limit]
    size = min(batch_size, len(ids))
    last = len(ids) - size
    parts = [ids[start : start + size] for start in (*range(0, last, size), last)]
    device = next(model.parameters()).device
    plain = examples.plain()

    def loss(part: Sequence[str]) -> Tensor:
        return plain.batch(part).to(device).predict(model).nll_B.mean()

    return [partial(loss, part) for part in parts]


class MaskSample(NamedTuple):
    """What of each set a mask is made from.

    Attributes:
        limit: most examples.
        batch_size: most examples per mini-batch, of every set.
    """

    limit: int = 256
    batch_size: int = 8


MASK_SAMPLE = MaskSample()


def masks_of_sets(
    model: nn.Module,
    changing: Mapping[str, ExampleSet],
    staying: Mapping[str, ExampleSet],
    *,
    gamma: float,
    normalise: bool = True,
    composition: Composition = "sum",
    granularity: Granularity = "weight",
    sample: MaskSample = MASK_SAMPLE,
) -> Saliency:
    """Masks for the gradients of the ``changing`` sets against the ``staying`` ones, shares by their true sizes.

    Args:
        model: as it is before the run.
        changing: "learn" and "forget", as far as they are there.
        staying: other sets, e.g. "retain" and "replay".
        gamma: threshold; see ``balanced_masks`` for this and the rest.
        normalise: make each Fisher scale-free.
        composition: one mask for all, or one per set.
        granularity: of the decision.
        sample: of each set.
    """
    size = min(*sample, *map(len, (*changing.values(), *staying.values())))

    def losses(sets: Mapping[str, ExampleSet]) -> dict[str, Losses]:
        return {name: batch_losses(model, its, limit=sample.limit, batch_size=size) for name, its in sets.items()}

    return balanced_masks(
        model,
        losses(changing),
        losses(staying),
        shares={name: len(examples) for name, examples in changing.items()},
        gamma=gamma,
        normalise=normalise,
        composition=composition,
        granularity=granularity,
    )
