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
from palimpsest.models.asked_model import reading_alone
from palimpsest.models.in_passes import batches_of
from palimpsest.models.modes import asked
from palimpsest.models.parts import off
from palimpsest.models.parts.topic_score import ClassMoments, discriminant, held_out, moments, threshold_over
from palimpsest.models.parts.watching import WatchingPart

_ROWS = 16  # in a pass
RIDGES = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Of the covariance, from nearly whitened to nearly the difference of the means."""
_TEXT_SHARE = 0.5  # of a text without a question, which stands for one


class RowMeans(NamedTuple):
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
    lengths = [length for batch in in_batches(examples, examples.ids) for length in lengths_asked(batch)]
    return max(1, min(lengths) // 2)


def points_of(model: nn.Module, place: str, examples: ExampleSet, ids: Sequence[str]) -> Iterator[RowMeans]:
    """What a module says of some rows, row by row."""
    where = next(model.parameters()).device
    with asked(model), reading_alone(model):
        for batch in in_batches(examples, ids):
            with outputs_seen(model, (place,)) as seen:
                batch.to(where).predict(model)
            said_BTD = seen[place][0][:, -batch.input_ids_BT.shape[1] :].float().cpu()
            for row, length in enumerate(batch.lengths_B.tolist()):
                sums_TD = said_BTD[row, :length].cumsum(0)
                yield RowMeans(sums_TD / torch.arange(1, length + 1)[:, None], lengths_asked(batch)[row])


class HeldRows(NamedTuple):
    """What a score is chosen by, all held out of what its direction is fitted on, where there are rows enough.

    Attributes:
        quiet: sets of rows that must stay.
        gone: rows that it is to fire on.
        least: tokens before which it never fires.
        share: of the quiet rows of each set that it may fire on.
    """

    quiet: Sequence[Sequence[RowMeans]]
    gone: Sequence[RowMeans]
    least: int
    share: float


def fit_watch(
    model: nn.Module,
    part: WatchingPart,
    gone: ExampleSet,
    stays: Mapping[str, ExampleSet],
    *,
    whiten: bool,
    ridge: float | None,
    share: float,
) -> None:
    """Give a part its direction, and the threshold that at most a share of each set that must stay is above.

    Args:
        model: bears the part, which is off meanwhile.
        part: to be fitted.
        gone: what it is to fire on.
        stays: sets that it is not to fire on.
        whiten: as in ``discriminant``.
        ridge: as there; None = the one of ``RIDGES`` by which most held-out rows are caught.
        share: of the held-out rows of each of these sets.
    """
    width, place, split = part.config.width, part.config.at, {n: held_out(one.ids) for n, one in stays.items()}
    fitted_ids, held_ids = held_out(gone.ids)
    with off(model, [part]):
        fires, held = (list(points_of(model, place, gone, ids)) for ids in (fitted_ids, held_ids))
        keeps, quiet = (
            [list(points_of(model, place, stays[name], ids[half])) for name, ids in split.items()] for half in (0, 1)
        )
    rows, tried = HeldRows(quiet, held, part.config.least, share), _moments(fires, width)
    stay = _moments([points for own in keeps for points in own], width)
    chosen = max(RIDGES, key=lambda r: _caught(tried, stay, rows, whiten, r)) if ridge is None else ridge
    whole = tried if fitted_ids == held_ids else _moments([*fires, *held], width)
    direction_D, offset = discriminant(whole, stay, whiten=whiten, ridge=chosen)
    part.set_score(direction_D.float(), offset, _threshold(direction_D, offset, rows))


def _moments(rows: Sequence[RowMeans], width: int) -> ClassMoments:
    """From the last token that asks on."""
    return moments([points.means_TD[points.asked - 1 :] for points in rows], width)


def _caught(tried: ClassMoments, stay: ClassMoments, rows: HeldRows, whiten: bool, ridge: float) -> tuple[float, float]:
    """Held-out rows to fire on in whose question some token is above the threshold; and by how much they are."""
    direction_D, offset = discriminant(tried, stay, whiten=whiten, ridge=ridge)
    threshold = _threshold(direction_D, offset, rows)
    asking = [p.means_TD[min(rows.least, p.asked) - 1 : p.asked].double() @ direction_D for p in rows.gone]
    over = [float(scores_T.max()) + offset - threshold for scores_T in asking]
    return sum(value > 0 for value in over) / len(over), sum(over) / len(over)


def _threshold(direction_D: Float[Tensor, "D"], offset: float, rows: HeldRows) -> float:
    """Above all but a share of the highest scores of each set that must stay; half-way where there are none."""
    of_sets = [[p.means_TD[rows.least - 1 :] for p in own if len(p.means_TD) >= rows.least] for own in rows.quiet]
    peaks = [[float((means_TD.double() @ direction_D).max()) + offset for means_TD in own] for own in of_sets]
    return max((threshold_over(own, rows.share) for own in peaks if own), default=0.0)


def in_batches(examples: ExampleSet, ids: Sequence[str]) -> Iterator[TextBatch]:
    """Rows of a set, a few at a time."""
    for batch in (one.bare for one in batches_of(examples.plain(), _ROWS, ids)):
        if not isinstance(batch, TextBatch):
            raise TypeError("a part that watches is fitted on texts")
        yield batch
