"""How far the evidence of a bench reaches: said on its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from palimpsest.bench.results import NOTHING, ORACLE, RANDOM, BenchResult, RowStep
from palimpsest.bench.scores import spread
from palimpsest.bench.show.already_known import known_before
from palimpsest.bench.show.console import calibrated_rows
from palimpsest.bench.show.summary import noise

FEW, WEAK, ENOUGH_SEEDS = 30, 0.6, 5


def caveats(result: BenchResult) -> tuple[str, ...]:
    """Sentences on what the page does not prove, the particular ones first."""
    return (*_particular(result), *_general())


def _particular(result: BenchResult) -> list[str]:
    oracles = [step for steps in result.rows[ORACLE].values() for step in steps]
    calibrated = [f"“{label}”: {words}." for label, words in calibrated_rows(result).items()]
    return [*calibrated, *known_before(result), *_chance(result), *_attack(oracles), *_small_sets(oracles)]


def _chance(result: BenchResult) -> Iterator[str]:
    seeds = len(result.streams)
    if seeds == 1:
        yield "One seed: nothing here says how much of a difference is chance."
    elif seeds < ENOUGH_SEEDS:
        yield f"{seeds} seeds: the ranges are the lowest and highest of {seeds} runs, not intervals."
    if not noise(result):
        yield (
            "No second oracle was trained: how far two retrained models are apart is not known, so that a KL cannot be "
            "held against it."
        )
    if result.bench.get("test") is None:
        yield "No test data were given: TA and MIA are missing, and gaps are means over fewer components."


def _attack(oracles: Sequence[RowStep]) -> Iterator[str]:
    powers = spread([step.reading.mia_power for step in oracles])
    if powers is not None and powers.mean < WEAK:
        yield (
            f"The membership attack is right on {100 * powers.mean:.0f} % of what the oracles were trained on and of "
            "test data, where 50 % is guessing: its shares say little here."
        )


def _small_sets(oracles: Sequence[RowStep]) -> Iterator[str]:
    smallest = min(score.n for step in oracles for score in step.reading.sets.values())
    if smallest < FEW:
        yield f"The smallest set has {smallest} examples: one of them is {100 / smallest:.0f} points."


def _general() -> tuple[str, ...]:
    return (
        "A gap near 0 says that a model answers like its oracle on the examples that were read, not that its weights "
        "hold no trace of what it forgot; no relearning, quantisation or rephrasing was tried.",
        "One attack on prediction entropy stands for membership inference; a stronger one may tell more.",
        "Each oracle is one retraining with the bench's own recipe; another recipe is another oracle.",
        "Tokens are positions that went forward; a backward pass costs about two more. Seconds were taken while other "
        "processes may have run.",
        f"“{NOTHING}” learns with the first row's learner and ignores what is to be forgotten; “{RANDOM}” adds noise "
        "as long as the edit of the first row that moves weights. A row that is no better than these has not aimed.",
        "The page is not evidence of compliance with any law.",
    )
