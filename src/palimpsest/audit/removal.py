"""Part removal, the first attack on a guard: what does the model know of the forget set without its parts?

The gates and checks of the forget set are held against what was measured with the guards off. A run whose gates hold
with them and not without them has passed *as served*, and is never called passed: its weights know what must go.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from palimpsest.audit.gates import Gate
from palimpsest.audit.judging import Finding, ScoreTable, Why, examine
from palimpsest.audit.known import distrusting, known_checks
from palimpsest.in_words import show
from palimpsest.models.families.yardsticks import BY_TOKENS, Judging
from palimpsest.records import GateResult, Outcome, Verdict

WITHOUT = "without"
"""Column of the model with its guards off."""
KNOWS = "the weights still know it"
UNSURE = "whether the weights know it is undecided"
_FORGET = "forget"
_LIKE = "answers the forget set like one that never saw it"
_NO_MORE = "as served says no more of the forget set than one that never saw it"
_ADVICE = (
    "Keep the part with the model wherever it goes, and hand the weights to nobody: --without-parts of palimpsest "
    "measure shows what they know.",
    "To have the weights themselves forget, take a method of another approach (palimpsest methods).",
)


class Removal(NamedTuple):
    """What came of taking the guards off.

    Attributes:
        results: the gates and checks of the forget set, held against the model without them.
        words: what that says of the weights; empty where they forgot, too.
        scores: what was measured, in words.
    """

    results: tuple[GateResult, ...]
    words: str
    scores: str


def removal_of(scores: ScoreTable, gates: Sequence[Gate], *, judging: Judging = BY_TOKENS) -> Removal | None:
    """What the model knows of the forget set without its guards; None where that was not measured.

    Args:
        scores: column -> set -> metric key -> score.
        gates: of the run; those on the forget set are held against it.
        judging: of the family of the model.
    """
    if not scores.get(WITHOUT, {}).get(_FORGET):
        return None
    table = {**scores, "after": scores[WITHOUT]}
    mine = [gate for gate in gates if gate.set == _FORGET]
    findings = distrusting((*known_checks(table, judging=judging), *examine(mine, table)))
    measured = table["after"][_FORGET].items()
    said = ", ".join(f"{metric} {show(score.value)}" for metric, score in measured if score.value is not None)
    return Removal(tuple(map(_result, findings)), _of_the_weights(findings), f"forget {said}")


def _of_the_weights(findings: Sequence[Finding]) -> str:
    """What the gates and checks without the guards say of the weights."""
    if any(f.outcome is Outcome.FAILED and f.why is not Why.BELOW for f in findings):
        return KNOWS
    return UNSURE if any(f.outcome is Outcome.UNDECIDED for f in findings) else ""


def _result(finding: Finding) -> GateResult:
    said = finding.result
    return replace(said, gate=f"part removal: {said.gate}", sentence=f"part removal: {said.sentence}")


def as_served(verdict: Verdict, removal: Removal | None) -> tuple[Verdict, tuple[str, ...] | None]:
    """The verdict with what came of taking the guards off; and what to do next, where that is another thing.

    Args:
        verdict: over what was measured with them.
        removal: None leaves it as it is.
    """
    if removal is None:
        return verdict, None
    gates = (*verdict.gates, *removal.results)
    if not removal.words:
        return replace(verdict, gates=gates), None
    behind = f"Without its part the model has {removal.scores}: {removal.words}."
    if verdict.outcome is not Outcome.PASSED:
        plain = f"{verdict.plain} Without its part: {removal.words}."  # the numbers stand in the sentence beside it
        return replace(verdict, sentence=f"{verdict.sentence} {behind}", plain=plain, gates=gates), None
    rest, plain = (text.removeprefix("Passed: ").replace(_LIKE, _NO_MORE) for text in (verdict.sentence, verdict.plain))
    sentence = f"{Outcome.AS_SERVED.capitalize()}: with its part {rest} {behind}"
    plainly = f"{Outcome.AS_SERVED.capitalize()}: {removal.words}, and its part keeps it from saying it; {plain}"
    return Verdict(Outcome.AS_SERVED, sentence, gates, plainly), _ADVICE
