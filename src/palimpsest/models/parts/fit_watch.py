"""Fit a part that watches: what was forgotten against what must stay, row by row through the model itself.

Shape legend: B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from palimpsest.data.encode.batch import ExampleSet, TextBatch
from palimpsest.models.activations import outputs_seen
from palimpsest.models.modes import asked
from palimpsest.models.parts import off
from palimpsest.models.parts.topic_score import discriminant, held_out, moments, threshold_over
from palimpsest.models.parts.watching import WatchingPart

_ROWS = 16  # in a pass
_TEXT_SHARE = 0.5  # of a text without a question, which stands for one


class Points(NamedTuple):
    """Of one row: the running mean of what the module said, from where it may fire and from where it should.

    Attributes:
        means_TD: after each token.
        asked: tokens that ask.
    """

    means_TD: Float[Tensor, "T D"]
    asked: int


def lengths_asked(batch: TextBatch) -> list[int]:
    """Tokens of each row before its first answer; of a text without a question half of it."""
    found = []
    for row, length in enumerate(batch.lengths_B.tolist()):
        scored_T = batch.scored_BT[row, :length]
        first = int(scored_T.long().argmax())
        whole = first <= 1 and bool(scored_T[1:].all())
        found.append(max(1, round(_TEXT_SHARE * length)) if whole else max(1, first))
    return found


def least_asked(examples: ExampleSet) -> int:
    """Half of the shortest question, tokens: nothing shorter is refused."""
    lengths = [length for batch in _batches(examples, examples.ids) for length in lengths_asked(batch)]
    return max(1, min(lengths) // 2)


def points_of(model: nn.Module, place: str, examples: ExampleSet, ids: Sequence[str]) -> Iterator[Points]:
    """What a module says of some rows, row by row."""
    where = next(model.parameters()).device
    with asked(model):
        for batch in _batches(examples, ids):
            with outputs_seen(model, (place,)) as seen:
                batch.to(where).predict(model)
            said_BTD = seen[place][0][:, -batch.input_ids_BT.shape[1] :].float().cpu()
            for row, length in enumerate(batch.lengths_B.tolist()):
                sums_TD = said_BTD[row, :length].cumsum(0)
                yield Points(sums_TD / torch.arange(1, length + 1)[:, None], lengths_asked(batch)[row])


def fit_watch(
    model: nn.Module,
    part: WatchingPart,
    gone: ExampleSet,
    stays: Mapping[str, ExampleSet],
    *,
    whiten: bool,
    ridge: float,
    share: float,
) -> None:
    """Give a part its direction, and the threshold that at most a share of the rows that must stay is above.

    Args:
        model: bears the part, which is off meanwhile.
        part: to be fitted.
        gone: what it is to fire on.
        stays: sets that it is not to fire on.
        whiten, ridge: as in ``discriminant``.
        share: of held-out rows that must stay.
    """
    width, place, least = part.config.width, part.config.at, part.config.least
    split = {name: held_out(examples.ids) for name, examples in stays.items()}
    with off(model, [part]):
        fires = moments([_answering(p) for p in points_of(model, place, gone, gone.ids)], width)
        fitted = [p for name, (ids, _) in split.items() for p in points_of(model, place, stays[name], ids)]
        keeps = moments([_answering(p) for p in fitted], width)
        direction_D, offset = discriminant(fires, keeps, whiten=whiten, ridge=ridge)
        held = [p for name, (_, ids) in split.items() for p in points_of(model, place, stays[name], ids)]
        peaks = [float((p.means_TD[least - 1 :].double() @ direction_D).max()) + offset for p in held
                 if len(p.means_TD) >= least]  # fmt: skip
    part.set_score(direction_D.float(), offset, threshold_over(peaks, share) if peaks else 0.0)


def _answering(points: Points) -> Float[Tensor, "N D"]:
    """From the last token that asks on."""
    return points.means_TD[points.asked - 1 :]


def _batches(examples: ExampleSet, ids: Sequence[str]) -> Iterator[TextBatch]:
    plain = examples.plain()
    for start in range(0, len(ids), _ROWS):
        batch = plain.batch(ids[start : start + _ROWS]).bare
        if not isinstance(batch, TextBatch):
            raise TypeError("a part that watches is fitted on texts")
        yield batch
