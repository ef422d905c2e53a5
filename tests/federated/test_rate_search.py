"""The rate of local work: which one is gone on with, on losses made by hand, and that no round of another stays."""

from __future__ import annotations

import math
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.federated.in_memory import replies, w

from palimpsest.companions.marks import MarkKey
from palimpsest.companions.round_writing import RoundWriter
from palimpsest.companions.rounds import RoundLedger
from palimpsest.federated.carrying_out import carry_out
from palimpsest.federated.fed_avg import fed_avg
from palimpsest.federated.rate_search import MOST_RATES, RateRefused, TriedRate, rate_after, watched


class Clients:
    """Two clients on one number, the loss of which is its square: a step of the rate times its slope."""

    names = ("a", "b")

    def __init__(self, usual: float) -> None:
        self.asked: list[float] = []
        self._usual = usual

    def ask(self, errand, number):
        rate = errand.settings.get("learning_rate", self._usual)
        self.asked.append(rate)
        at = float(errand.weights["w"][0])
        told = replies(loss=at**2, **dict.fromkeys(errand.who, w(-2 * rate * at)))
        yield from told.values()


def found(usual: float, tried: list[TriedRate] | None = None, folder: Path | None = None) -> tuple[float, list[float]]:
    """The search as ``at_work.py`` has it: the rate, and what every round was asked at."""
    clients, refused = Clients(usual), list(tried or [])
    while True:
        rate, decided = rate_after(usual, refused)
        procedure = fed_avg(w(1), ("a", "b"), 1.0, 3, settings={"learning_rate": rate})
        writer = RoundWriter(RoundLedger.open(folder or Path("none"), MarkKey(b"k" * 32)), clients.names)
        try:
            carry_out(procedure if decided else watched(procedure, rate), clients, writer, lambda facts: None)
        except RateRefused as error:
            refused.append(error.tried)
            writer.begin_again()
        else:
            return rate, clients.asked


@pytest.mark.parametrize(
    ("usual", "wanted"),
    [
        (0.1, [0.1] * 3),  # 1 -> 0.64: it fits, and nobody is asked in vain
        (0.01, [0.01] * 2 + [0.03] * 3),  # 1 -> 0.96, 1 -> 0.88
        (2.0, [2.0] * 2 + [2 / 3] * 3),  # 1 -> 9, 1 -> 0.11
        (1e-5, [1e-5] * 2 + [3e-5] * 2 + [9e-5] * 2 + [27e-5] * 2 + [27e-5] * 3),  # four, and the best of them
    ],
)
def test_the_first_round_decides(usual: float, wanted: list[float], tmp_path: Path) -> None:
    rate, asked = found(usual, folder=tmp_path / "rounds")
    assert asked == pytest.approx(wanted)
    assert rate == pytest.approx(wanted[-1])
    ledger = RoundLedger.open(tmp_path / "rounds", MarkKey(b"k" * 32))
    assert (len(ledger), ledger.damage(), ledger.start["w"].tolist()) == (3, "", [1])


def test_between_too_little_and_too_much_the_better_one_is_taken() -> None:
    tried = [TriedRate(0.1, 4.0, 3.9), TriedRate(0.3, 4.0, 5.0)]
    assert rate_after(0.1, tried) == (0.1, True)
    assert rate_after(0.3, [TriedRate(0.3, 4.0, 5.0), TriedRate(0.1, 4.0, 3.9)]) == (0.1, True)


def test_no_more_than_four_are_tried() -> None:
    falling = [TriedRate(3.0**n, 4.0, 4.0 - n / 100) for n in range(MOST_RATES)]
    assert rate_after(1.0, falling[:3]) == (27.0, False)
    assert rate_after(1.0, falling) == (27.0, True)


def test_losses_that_nobody_told_refuse_no_rate() -> None:
    assert TriedRate(0.1, math.nan, 2.0).fits
    assert TriedRate(0.1, 2.0, math.nan).fits
    assert [TriedRate(0.1, 2.0, after).fits for after in (1.9, 1.91, 2.1)] == [True, False, False]


def test_a_rate_that_leads_to_no_numbers_is_given_up_for_a_third() -> None:
    lost = TriedRate(0.006, 0.0, None)
    assert (lost.fits, lost.words) == (False, "0.006: to no numbers any more")
    assert rate_after(0.006, [lost]) == (pytest.approx(0.002), False)
    assert rate_after(0.002, [TriedRate(0.002, 4.0, 3.9), lost]) == (0.002, True)


def test_a_client_that_is_lost_after_the_first_round_says_nothing_of_the_rate() -> None:
    """The loss of b is far above that of a: with it lost the mean seems to fall, with it come to rise."""
    first = {**replies(loss=1.0, a=w(0)), **replies(loss=9.0, b=w(0))}
    for then, fits in ((0.9, True), (1.1, False)):
        for lost in ("first", "second"):
            rounds = [first, replies(loss=then, a=w(0))]
            rounds = rounds if lost == "second" else [replies(loss=1.0, a=w(0)), {**first, **rounds[1]}]
            looked = watched(fed_avg(w(0), ("a", "b"), 1.0, 3), 0.1)
            next(looked)
            looked.send(rounds[0])
            with nullcontext() if fits else pytest.raises(RateRefused) as refused:
                looked.send(rounds[1])
            assert fits or refused.value.tried == TriedRate(0.1, 1.0, then)
