"""What enters the head of a model at the scored positions of some rows, and which classes these are of.

Shape legend: S scored positions, K what enters the head.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from palimpsest.data.encode.batch import ExampleSet
from palimpsest.errors import DataError
from palimpsest.models.families.heads import entering
from palimpsest.models.in_passes import batches_of, in_passes
from palimpsest.models.modes import asked

ROWS_OF_A_PASS = 32  # in a pass
MOST_POSITIONS = 1024


class Entered(NamedTuple):
    """What enters the head.

    Attributes:
        a_SK: in fp32, on the CPU.
        target_S: the class or the token that is right there.
        owner_S: which of the rows a position is of.
    """

    a_SK: Float[Tensor, "S K"]
    target_S: Int[Tensor, "S"]
    owner_S: Int[Tensor, "S"]


def entered(model: nn.Module, head: nn.Module | None, examples: ExampleSet, ids: Sequence[str]) -> Entered:
    """What enters the head for these rows, the model in eval mode.

    Raises:
        ModelError: there is no head.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with asked(model):
        for number, batch in enumerate(one.bare for one in in_passes(model, examples.plain(), ROWS_OF_A_PASS, ids)):
            values = batch.gather(entering(head, model, batch))
            owner_S = batch.owner_S.cpu() + number * ROWS_OF_A_PASS
            found.append((values.float().cpu(), batch.target_S.cpu(), owner_S))
    return Entered(*(torch.cat(parts) for parts in zip(*found, strict=True)))


def of_positions(seen: Entered, chosen_S: Tensor) -> Entered:
    """A part of what was seen, by a mask or by numbers."""
    return Entered(*(part[chosen_S] for part in seen))


def thinned(seen: Entered, most: int = MOST_POSITIONS) -> Entered:
    """At most so many positions, evenly spread: of a language model each costs a vocabulary of logits."""
    count = len(seen.target_S)
    return seen if count <= most else of_positions(seen, torch.linspace(0, count - 1, most).long())


def targets_of(examples: ExampleSet) -> frozenset[int]:
    """Classes or tokens that are right at the scored positions of a set; no model is asked."""
    batches = batches_of(examples.plain(), ROWS_OF_A_PASS)
    return frozenset(target for batch in batches for target in batch.target_S.tolist())


def labels_to_go(wanted: Collection[int], stay: Collection[int]) -> list[int]:
    """Classes of what must go that nothing that must stay is of, sorted.

    Raises:
        DataError: there is none.

    >>> labels_to_go({3, 5}, {5})
    [3]
    """
    gone = sorted(set(wanted) - set(stay))
    if not gone:
        raise DataError(
            f"every class of the forget set (of a text every token; {len(wanted)} in all) is one of retain, too, and a "
            "class is cut whole; give all of its rows to forget, or take a method that forgets rows"
        )
    return gone


def samples_of(seen: Entered, labels: Sequence[int], name: str) -> dict[int, Entered]:
    """Class -> its samples; one without any has no entry.

    Raises:
        DataError: no class has any.
    """
    found = {label: of_positions(seen, seen.target_S == label) for label in labels}
    found = {label: samples for label, samples in found.items() if len(samples.target_S)}
    if not found:
        few = ", ".join(map(str, labels[:5]))
        raise DataError(f"no row of the {name} set is of a class that must go ({few}); give rows of it, better 36")
    return found
