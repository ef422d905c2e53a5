"""Which examples of a set are shown: the most known, the one in the middle, the least known.

How known an example is, is read from its scores in this order: MA of texts (accuracy of images), ES, the probability,
then whatever else was measured, by name. MA leads because it counts every token of the answer: ES is 0 for a row
recited up to its last word, and at its lower end many rows tie. What still ties stands in the order of the set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from palimpsest.records import Direction, Score

LEADING = ("accuracy", "ma", "es", "prob")


def ranked(scores: Mapping[str, Score]) -> tuple[str, ...]:
    """Ids of a set, the most known first; what no metric could score comes last.

    Args:
        scores: metric key -> score of the set, per-example values included.

    >>> ma = Score("ma", 0.5, None, None, 2, 0, Direction.HIGHER, "", 1, {"a": 0.25, "b": 0.75, "c": None})
    >>> ranked({"ma": ma})
    ('b', 'a', 'c')
    """
    return tuple(sorted(_ids(scores), key=lambda i: [-known for known in _known(i, scores)]))


def standing(scores: Mapping[str, Score], *, learned: bool = False) -> dict[str, str]:
    """The examples to show, with why: id -> "worst", "median" or "best", in this order.

    Args:
        scores: of the set after the run.
        learned: the set was to be learned, so that the least known is the worst.

    Returns:
        Three examples; two (worst and best) or one (worst) of a set that has no more. Examples that could not be scored
        are chosen only where none could.
    """
    order = ranked(scores)
    scored = [i for i in order if any(score.by_id.get(i) is not None for score in scores.values())]
    order = tuple(scored) or order
    if learned:
        order = order[::-1]
    places = {0: "worst", len(order) - 1: "best"} if len(order) > 1 else dict.fromkeys(range(len(order)), "worst")
    if len(order) > 2:  # of an even number the one nearer the worst
        places = {0: "worst", (len(order) - 1) // 2: "median", len(order) - 1: "best"}
    return {order[place]: word for place, word in places.items()}


def evenly(ids: Sequence[str], count: int) -> tuple[str, ...]:
    """So many of these ids, in their order, spread evenly from the first to the last; all where there are no more.

    >>> evenly("abcdefg", 3), evenly("abc", 1), evenly("ab", 5)
    (('a', 'd', 'g'), ('a',), ('a', 'b'))
    """
    if count >= len(ids):
        return tuple(ids)
    gaps = max(count - 1, 1)
    return tuple(ids[place * (len(ids) - 1) // gaps] for place in range(count))


def _ids(scores: Mapping[str, Score]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(i for score in scores.values() for i in score.by_id))


def _known(example_id: str, scores: Mapping[str, Score]) -> list[float]:
    """How known one example is, the leading metric first; larger is more."""
    keys = [key for key in LEADING if key in scores] + sorted(set(scores) - set(LEADING))
    found = []
    for key in keys:
        value = scores[key].by_id.get(example_id)
        sign = 1.0 if scores[key].direction is Direction.HIGHER else -1.0
        found.append(float("-inf") if value is None else sign * value)
    return found
