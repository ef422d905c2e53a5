"""What a module says of whole rows, wherever it sits; and what a bottleneck is judged by.

Which positions are tokens of a row, and by which of them a bottleneck is judged, says the family of the model.

Shape legend: B rows of a batch, T tokens, D width, P positions that are judged.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from palimpsest.data.encode.batch import Batch, Predictions
from palimpsest.models.activations import outputs_seen, whole_output
from palimpsest.models.families import of_model
from palimpsest.models.in_passes import in_passes, ways_through

RowsSaid = tuple[tuple[str, ...], Any, Tensor]
"""Ids of B rows, what the module answered (the first, if several), and which positions are tokens, (B, T)."""


def said_of_rows(model: Any, place: str, examples: Any, ids: Sequence[str], batch_size: int = 32) -> Iterator[RowsSaid]:
    """Batch by batch what a module says of some rows.

    Args:
        model: as it is asked.
        place: name of a module in it.
        examples: a set.
        ids: of rows of it, in the order in which they are asked.
        batch_size: rows of a pass.
    """
    family = of_model(model)
    for together in in_passes(model, examples.plain(), batch_size, ids):
        for batch in ways_through(model, together.bare):
            with outputs_seen(model, (place,), scored=False) as seen:
                model(**batch.inputs())
            said = seen[place][0]
            yield batch.ids, said, family.tokens_at(place, batch, said)


def judged_activations(
    model: nn.Module, places: Mapping[str, str], batch: Batch
) -> tuple[dict[str, tuple[Tensor, Tensor]], Predictions]:
    """What modules of bottlenecks give where those are judged, how much each position counts, and what the model says.

    Args:
        model: as it is asked, once.
        places: name of a module that answers with (B, T, ...) -> name of the place at which its bottleneck sits.
        batch: of rows.

    Returns:
        Name of each module -> values (P, ...), shares (P,); predictions.
    """
    family = of_model(model)
    with outputs_seen(model, tuple(places), scored=False) as seen:
        said = batch.predict(model)
    whole = {name: whole_output(model, batch.bare, passes) for name, passes in seen.items()}
    return {name: family.judged_at(places[name], batch, values) for name, values in whole.items()}, said
