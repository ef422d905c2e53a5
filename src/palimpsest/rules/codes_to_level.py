"""Which of a codebook's ranked codes go: the fewest that bring a topic to its level, within the damage that is allowed.

    order by φ = √(χ² / rows);   delete while  mean KL( p_before ‖ p ) ≤ B  on what stays, until the aim is reached

Source: our own. The search is ``fewest.py``; each trial is forward passes alone, and the codebook is as before at the
end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import nn

from palimpsest.contract import Aim
from palimpsest.errors import DataError
from palimpsest.in_words import so_many
from palimpsest.models.parts.codebook import Codebook, CodeSemantics
from palimpsest.rules.fewest import Fewest, fewest_that_reach


class Limits(NamedTuple):
    """What may be lost.

    Attributes:
        damage: of a model, mean KL from the model before on what stays, nats per position.
        budget: B, of it.
    """

    damage: Callable[[nn.Module], float]
    budget: float


class ChosenCodes(NamedTuple):
    """What a search found.

    Attributes:
        codes: that go.
        why: how many go and why no more, for the record.
        short: why what is to be forgotten is above its level, or None.
        found: codes that go and that were ranked, the level, what is known before and after, and the damage.
    """

    codes: tuple[int, ...]
    why: str
    short: str | None
    found: Mapping[str, float]


class _Trial(NamedTuple):
    reached: bool
    known: float
    used: float


def codes_to_level(
    model: nn.Module, book: Codebook, order: Sequence[int], ends: tuple[Aim, Limits], semantics: CodeSemantics
) -> ChosenCodes:
    """Search for them.

    Args:
        model: bears the codebook.
        book: whose codes.
        order: codes by rank, none of them deleted.
        ends: where the deletion should end, and what may be lost of the rest.
        semantics: of deleting.

    Raises:
        DataError: there is no code, what is to be forgotten is there already, or each code that is tried hurts too
            much.
    """
    if not order:
        raise DataError(
            "code_unlearn: no code that is left fires more often for the topic than without it; nothing was deleted; "
            "give more rows"
        )
    (aim, limits), start = ends, book.mask()

    def look(codes: Sequence[int]) -> _Trial:
        book.put_back(start)
        book.delete(torch.tensor(codes, dtype=torch.int64, device=book.deleted.device), semantics)
        used = limits.damage(model) / limits.budget if codes else 0.0
        sight = aim(model) if used <= 1 else None  # what may not be is not looked at further
        return _Trial(sight is not None and sight.reached, math.nan if sight is None else sight.known, used)

    before = look(())
    if before.reached:
        raise DataError(
            f"code_unlearn: what is to be forgotten is at the level of never seen already ({before.known:.2f} of it is "
            f"right, beside {aim.known:.2f}); nothing was deleted; --set code_unlearn.choose=test deletes the codes of "
            "the topic all the same"
        )
    taken = fewest_that_reach(look, order, before)
    book.put_back(start)
    if not taken.entries:
        raise DataError(
            "code_unlearn: every code of the topic that was tried does more damage to what stays than is allowed "
            f"({limits.budget:g} nats); nothing was deleted; more: code_unlearn.budget"
        )
    return _said(taken, len(order), (aim.known, before.known), limits.budget)


def _said(taken: Fewest[_Trial], most: int, known: tuple[float, float], budget: float) -> ChosenCodes:
    (level, before), seen, count = known, taken.seen, len(taken.entries)
    found = {"codes": count, "ranked": most, "passed_over": len(taken.passed_over), "level": level}
    found |= {"known_before": before, "known": seen.known, "damage": seen.used * budget}
    where = f"{seen.known:.2f} of what is to be forgotten is right, beside {level:.2f} at the level of never seen"
    short = None if seen.reached else "no other code fires more often for the topic"
    if short and count < most:
        short = f"no other codes that were tried leave less of it and cost what stays at most {budget:g} nats"
    why = f"{so_many(count, 'code')} deleted: {short or 'the topic is at its level'} ({where})"
    return ChosenCodes(taken.entries, why, short, {name: float(value) for name, value in found.items()})
