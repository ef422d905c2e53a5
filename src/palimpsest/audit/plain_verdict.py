"""The verdict in one sentence for people who read no gates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from palimpsest.audit.judging import MIN_EXAMPLES, NO_ORACLE, Finding, ScoreTable, Why
from palimpsest.audit.since import Since
from palimpsest.in_words import show
from palimpsest.records import Outcome, Score

LONG = {"es": "ES", "ma": "MA", "el": "EL", "ppl": "perplexity"}
NEVER_SAW = {
    "oracle": "a model that never saw it scores {}",
    "level": "a model that never saw it should score about {}",
    "holdout": "comparable rows that the model never saw score {}",
}
CANNOT = {
    Why.BY_CHANCE: "the {} set is as known as before, and a model that never saw so few rows may be right as often",
    Why.TAKEN_OFF: "the {} set was taken off what the head counts, and one that never saw it may know it as well",
    Why.FEW: f"the {{}} set is too small to decide (at least {MIN_EXAMPLES} examples)",
    Why.UNMEASURED: "the {} set was not measured",
    Why.NOT_BY_THIS: "{} of the {} set was not measured",
    Why.UNSCORED: "{} of the {} set could not be scored",
    Why.NO_REFERENCE: "there is nothing to compare the {} set with",
    Why.ACROSS: "the numbers of the {} set are too uncertain to decide",
}
"""Why nothing can be decided -> how that is said; of several the first."""


def say_plainly(
    findings: Sequence[Finding],
    outcome: Outcome,
    scores: ScoreTable,
    *,
    doubts: Sequence[str] = (),
    budget_ended: str | None = None,
    short: str | None = None,
) -> str:
    """The verdict as an outsider would say it.

    Args:
        findings: of gates and checks.
        outcome: of the verdict.
        scores: column -> set -> metric key -> score.
        doubts: why nobody can call it passed though all gates hold.
        budget_ended: the budget that ended the run before all examples passed, or None.
        short: why the run ended before the forget set was at its level, or None.
    """
    if outcome is Outcome.PASSED:
        return f"Passed: {_all_held(findings, scores)}."
    mine = [f for f in findings if f.outcome is outcome]
    if outcome is Outcome.FAILED:
        parts = _by_set(_failed, mine, scores)
    elif mine:
        parts = _all_undecided(mine, scores, short)
    else:
        parts = [_doubted(findings, scores, doubts) if doubts else _ended_early(budget_ended)]
    return f"{outcome.capitalize()}: {'; '.join(part.rstrip('.') for part in parts)}."


def _by_set(
    say: Callable[[str, Sequence[Finding], ScoreTable], str], findings: Sequence[Finding], scores: ScoreTable
) -> list[str]:
    """What is to say of each set, in the order of the findings."""
    sets = dict.fromkeys(f.set for f in findings)
    return [say(name, [f for f in findings if f.set == name], scores) for name in sets]


def _all_undecided(findings: Sequence[Finding], scores: ScoreTable, short: str | None) -> list[str]:
    """What is to say of each set; why the run ended is the first to say of a forget set that it left short."""
    parts = _by_set(_undecided, findings, scores)
    no_level = NO_ORACLE & {f.why for f in findings}  # what it was to reach was none
    if short is None or findings[0].set != "forget" or no_level:
        return parts
    said = f"the run ended before the forget set was at the level of never seen ({_numbers(findings, scores)})"
    return [said, *parts[1:]]


def _doubted(findings: Sequence[Finding], scores: ScoreTable, doubts: Sequence[str]) -> str:
    """All gates hold, and nobody can rely on it."""
    seems = f"it seems that {_all_held(findings, scores)}, but " if findings else ""
    return seems + "; ".join(doubts)


def _ended_early(budget_ended: str | None) -> str:
    if budget_ended is None:
        return "nothing was asked of it"
    budget = budget_ended.removeprefix("budget: ")
    return f"all that was asked holds, but the run's budget ({budget}) ended it before every example passed"


def _all_held(findings: Sequence[Finding], scores: ScoreTable) -> str:
    kept = _all_kept(findings)
    forget = [f for f in findings if f.set == "forget"]
    if not forget:
        return f"the model {kept}"
    like = any(f.relative_to in NEVER_SAW for f in forget)
    forgot = "answers the forget set like one that never saw it" if like else "kept what was asked of the forget set"
    return f"the model {forgot} ({_numbers(forget, scores)}){f' and {kept}' if kept else ''}"


def _all_kept(findings: Sequence[Finding]) -> str:
    kept = [name for name in dict.fromkeys(f.set for f in findings) if name != "forget"]
    return f"kept what was asked of the {' and the '.join(kept)} set" if kept else ""


def _failed(name: str, findings: Sequence[Finding], scores: ScoreTable) -> str:
    if name != "forget":
        return f"{_missed(name, findings)} ({_numbers(findings, scores)})"
    reasons = {f.why for f in findings}
    if Why.AS_KNOWN in reasons:
        said = "the forget set is as known as before"
    elif Why.ABOVE in reasons:
        said = "the model still knows the forget set"
    elif any(f.relative_to in NEVER_SAW for f in findings):
        said = "the model answers the forget set worse than one that never saw it"
    else:
        said = _missed("forget", findings)
    return f"{said} ({_numbers(findings, scores)})"


def _missed(name: str, findings: Sequence[Finding]) -> str:
    """What a missed bound says of a set: a loss only where the bound held before the run and the score is worse now."""
    lost = {"retain": "the model lost part of what had to stay", "general": "the model got worse on general examples"}
    since = {f.since for f in findings}
    if name in lost and Since.LOST in since:
        return lost[name]
    if name == "learn" and any(f.why is Why.BELOW for f in findings):
        return "the model did not learn what it should"
    return f"the {name} set missed its bound{', as it did before the run' if since == {Since.NEVER} else ''}"


def _undecided(name: str, findings: Sequence[Finding], scores: ScoreTable) -> str:
    reasons = [f.why for f in findings]
    if Why.ORACLE_KNOWS in reasons:
        return (
            "the oracle seems to know the forget set itself, so that nothing shows what a model scores that never saw "
            f"it ({_numbers(findings, scores)})"
        )
    if Why.ORACLE_SAW in reasons:
        return (
            "the oracle seems to have seen rows of the forget set, so that nothing shows what a model scores that "
            f"never saw them ({_numbers(findings, scores)})"
        )
    if Why.ORACLE_UNTAUGHT in reasons:
        return (
            "the oracle knows less of what stays than the model, so it was not trained as the model was and nothing "
            f"shows what a model scores that never saw the forget set ({_numbers(findings, scores)})"
        )
    if name == "forget" and Why.NO_REFERENCE in reasons:
        return f"nothing shows what a model scores that never saw the forget set ({_numbers(findings, scores)})"
    return _cannot(name, findings, scores, next((w for w in CANNOT if w in reasons), Why.ACROSS))


def _cannot(name: str, findings: Sequence[Finding], scores: ScoreTable, why: Why) -> str:
    """What keeps a set from being decided."""
    if why in (Why.NOT_BY_THIS, Why.UNSCORED):
        metrics = " and ".join(dict.fromkeys(_called(f.metric) for f in findings if f.why is why))
        return CANNOT[why].format(metrics, name)
    numbers = "" if why is Why.UNMEASURED else f" ({_numbers(findings, scores)})"
    return f"{CANNOT[why].format(name)}{numbers}"


def _called(metric: str) -> str:
    return LONG.get(metric.partition("_")[0], metric)


def _numbers(findings: Sequence[Finding], scores: ScoreTable) -> str:
    """Before, after and the level of one metric of a set."""
    name = findings[0].set
    metric = _metric_to_show(findings, scores.get("after", {}).get(name, {}))
    found = {column: _value(scores, column, name, metric) for column in ("before", "after")}
    values = [f"{show(value)} {column}" for column, value in found.items() if value is not None]
    level = _best_level(findings, metric, scores)
    said = f"{_called(metric)} {', '.join(values)}" if values else "not measured"
    return f"{said}; {level}" if level and name == "forget" else said


def _best_level(findings: Sequence[Finding], metric: str, scores: ScoreTable) -> str:
    """What a model scores that never saw the set, by the first source that is trusted and has it."""
    doubted = NO_ORACLE & {f.why for f in findings}
    trusted = [source for source in NEVER_SAW if source != "oracle" or not doubted]
    return next(filter(None, (_level(s, findings[0].set, metric, scores) for s in trusted)), "")


def _level(source: str, name: str, metric: str, scores: ScoreTable) -> str:
    column, owner = ("after", "holdout") if source == "holdout" else (source, name)
    value = _value(scores, column, owner, metric)
    return "" if value is None else NEVER_SAW[source].format(show(value))


def _metric_to_show(findings: Sequence[Finding], measured: Mapping[str, Score]) -> str:
    """Memorization accuracy where it is among those judged, else the first of them; else one that was measured."""
    judged = [f.metric for f in findings if f.metric in measured] or [
        m for m in ("ma", "es", "accuracy") if m in measured
    ]
    return "ma" if "ma" in judged else next(iter(judged), next(iter(measured), ""))


def _value(scores: ScoreTable, column: str, name: str, metric: str) -> float | None:
    score = scores.get(column, {}).get(name, {}).get(metric)
    return None if score is None else score.value
