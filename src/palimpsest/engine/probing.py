"""What a linear probe on what enters the head finds: of what must go in a run, or of each class of one set."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from palimpsest.audit.linear_probe import Probed, probe
from palimpsest.data.draws import shuffled
from palimpsest.data.encode.any_set import labels_of
from palimpsest.data.read.new_classes import Head, names_in_order
from palimpsest.engine.progress import Progress
from palimpsest.errors import PlanError
from palimpsest.models.class_samples import Entered, entered, of_positions
from palimpsest.records import ProbedClass

if TYPE_CHECKING:
    from palimpsest.models.loaded import Loaded

MOST_PROBED = 512  # of each of the two sets that a probe tells apart


def rows_to_probe(ids: Sequence[str], seed: int) -> list[str]:
    """The rows of one side that are looked at, drawn with the seed; every second one is of the second half."""
    return shuffled(ids, seed, "probe", 0)[:MOST_PROBED]


def halves_of(count: int) -> Int[Tensor, "N"]:
    """The half, 0 or 1, that each of so many drawn rows is in: each is scored by a probe fitted to the other one.

    >>> halves_of(3).tolist()
    [0, 1, 0]
    """
    return torch.arange(count) % 2


def probed_apart(
    goes: Entered, stays: Entered, half_goes: Int[Tensor, "P"], half_stays: Int[Tensor, "M"]
) -> Probed | None:
    """Recall and false alarms; None where a half has no row of one of the two.

    Args:
        goes: what is to be recognised.
        stays: all else.
        half_goes: the half of each row that ``goes.owner_S`` counts.
        half_stays: likewise.
    """
    how = (goes.a_SK, stays.a_SK, half_goes[goes.owner_S], half_stays[stays.owner_S])
    return probe(*(np.asarray(part) for part in how))


def probed_classes(loaded: Loaded, examples: Any, progress: Progress, *, seed: int = 0) -> dict[str, ProbedClass]:
    """Name of a class -> what a probe finds that tells its rows from all others of the set.

    Args:
        loaded: a classifier, on its device.
        examples: encoded.
        progress: told class by class.
        seed: of the draw of rows and halves.

    Raises:
        PlanError: the model has no head of its own that could be looked at.
    """
    head = loaded.family.head(loaded.model)
    if head is None:
        raise PlanError(f"model {loaded.source} has no linear head, so that nothing enters it; leave --probe out")
    sides = _sides(examples, seed)
    asked = tuple(dict.fromkeys(chain.from_iterable(chain.from_iterable(sides.values()))))
    seen = entered(loaded.model, head, examples, asked)
    names = names_in_order(Head(loaded.num_outputs, loaded.class_names))
    found = {}
    for done, (label, both) in enumerate(sides.items()):
        progress("probing the features", done, len(sides))
        goes, stays = (_as_drawn(seen, asked, ids) for ids in both)
        apart = probed_apart(goes, stays, *map(halves_of, map(len, both)))
        found[names[label]] = ProbedClass(*(apart or (None, None)), *map(len, both))
    return found


def _sides(examples: Any, seed: int) -> dict[int, list[list[str]]]:
    """Class -> its rows and all others, as they are drawn."""
    label_of = dict(zip(examples.ids, labels_of(examples).tolist(), strict=True))
    sides = {}
    for label in sorted(set(label_of.values())):
        groups = ([i for i in examples.ids if (label_of[i] == label) is own] for own in (True, False))
        sides[label] = [rows_to_probe(ids, seed) for ids in groups]
    return sides


def _as_drawn(seen: Entered, asked: Sequence[str], ids: Sequence[str]) -> Entered:
    """Some of the rows that were asked, of one position each, counted anew."""
    place = {example_id: number for number, example_id in enumerate(asked)}
    chosen = of_positions(seen, torch.tensor([place[i] for i in ids], dtype=torch.long))
    return chosen._replace(owner_S=torch.arange(len(ids)))
