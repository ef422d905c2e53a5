"""What to do after "failed" and "undecided": facts of a run -> a short list of sentences, each with its flag."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from palimpsest.audit.judging import MIN_EXAMPLES, NO_ORACLE, ONE_OR_ZERO, Finding, Why
from palimpsest.audit.since import Since
from palimpsest.in_words import so_many
from palimpsest.records import Outcome

_MOST_ROWS = 10_000
MAKE = "--make-oracle --base DIR"
CHECKS = {
    "holdout": "rows of the same kind that the model never saw (--holdout FILE)",
    "general": "general text (--replay FILE and --general FILE)",
}
"""Set that was not given -> what would check an estimated level of never seen."""


class AdviceFacts(NamedTuple):
    """What the advice is drawn from.

    Attributes:
        findings: of gates and checks.
        outcome: of the verdict.
        given: options that named a file or a model, e.g. "retain", "base", "oracle".
        takes: sets that the method can draw from.
        sizes: set -> number of examples.
        level: is there an estimated level of never seen?
        doubted: is what the verdict rests on an estimate that nothing checks, or that is uncertain?
        unknown_oracle: has the oracle no record of what it learned?
        steps: optimizer iterations that were taken.
        rate_given: was the rate chosen by hand, and not by a preset?
        finds_rate: did the run find its rate itself?
        own_schedule: did it run at the rate and length that its method brings?
        budget_ended: the budget that ended the run before all examples passed, or None.
        short: why a run that finds its own rate ended before its level, or None.
        others: methods that could be tried instead.
        metrics: that the plan asks for.
        guards: does the method change no weight, and guard instead?
        edits: does it edit at once, without steps of its own?
    """

    findings: Sequence[Finding]
    outcome: Outcome
    given: Collection[str] = ()
    takes: Collection[str] = ("retain", "replay")
    sizes: Mapping[str, int] = {}
    level: bool = False
    doubted: bool = False
    unknown_oracle: bool = False
    steps: int | None = None
    rate_given: bool = False
    finds_rate: bool = False
    own_schedule: bool = False
    budget_ended: str | None = None
    short: str | None = None
    others: Sequence[str] = ()
    metrics: Sequence[str] = ()
    guards: bool = False
    edits: bool = False


def advise(facts: AdviceFacts) -> tuple[str, ...]:
    """What to do next; nothing after "passed".

    >>> advise(AdviceFacts((), Outcome.PASSED))
    ()
    """
    if facts.outcome is Outcome.PASSED:
        return ()
    kinds = (_guarding if facts.guards else _forgetting, _keeping, _learning, _level, _size, _metrics, _length)
    advice = [line for kind in kinds for line in kind(facts)]
    return tuple(dict.fromkeys(advice))


def _reasons(facts: AdviceFacts, *sets: str) -> set[Why]:
    """Why gates on these sets did not hold."""
    return {f.why for f in facts.findings if f.set in sets and f.outcome is not Outcome.PASSED}


def _level(facts: AdviceFacts) -> list[str]:
    """A better source for what a model scores that never saw the forget set."""
    make = "--make-oracle" if "base" in facts.given else MAKE
    other = _other_oracle(_reasons(facts, "forget"), make)
    if other or not {"forget"} & {f.set for f in facts.findings}:
        return [other] if other else []
    if not facts.level and not {"oracle", "holdout"} & set(facts.given):
        return [
            "Give a level to compare with: --holdout FILE (comparable rows that the model never saw), --oracle DIR (a "
            f"model retrained without the forget set), or {make} to have one retrained."
        ]
    return [line] if (line := _sounder_level(facts, make)) else []


def _other_oracle(reasons: Collection[Why], make: str) -> str:
    """In the place of one that shows no level; else empty."""
    if {Why.ORACLE_KNOWS, Why.ORACLE_SAW} & set(reasons):
        return f"Leave this oracle out and have one retrained without the forget set: {make} instead of --oracle."
    if Why.ORACLE_UNTAUGHT in reasons:
        return (
            "Leave this oracle out and give one trained as the model was, on all that stays and nothing else: --oracle "
            f"DIR, or {make} to have one retrained."
        )
    return ""


def _sounder_level(facts: AdviceFacts, make: str) -> str:
    """Beside an estimate, or instead of an oracle that nobody knows; else empty."""
    enough = facts.sizes.get("forget", 0) >= MIN_EXAMPLES
    if Why.BY_CHANCE in _reasons(facts, "forget") and enough and "oracle" not in facts.given:
        return f"A model retrained without the forget set tells it row by row: --oracle DIR, or {make}."
    if facts.doubted:
        return f"{_checks_to_give(facts)} a model retrained without the forget set: --oracle DIR, or {make}."
    if facts.unknown_oracle:
        return f"This oracle is of unknown origin: have one made whose record is known, {make} instead of --oracle."
    return ""


def _checks_to_give(facts: AdviceFacts) -> str:
    of_classes = any(f.set == "forget" and f.metric in ONE_OR_ZERO for f in facts.findings)
    checks = ("holdout",) if of_classes else tuple(CHECKS)  # general text says nothing of classes
    missing = [CHECKS[name] for name in checks if name not in facts.given]
    return f"Give {' or '.join(missing)}, which check the estimate, or" if missing else "Give"


def _size(facts: AdviceFacts) -> list[str]:
    """More rows, for sets that are too small or too uncertain."""
    names = dict.fromkeys(f.set for f in facts.findings)
    return [line for name in names for line in _rows_of(facts, name)]


def _rows_of(facts: AdviceFacts, name: str) -> list[str]:
    """What rows one set lacks."""
    reasons = _reasons(facts, name)
    has = f" has {so_many(facts.sizes[name], 'example')}" if name in facts.sizes else " is small"
    said = []
    if Why.FEW in reasons:
        said.append(_few(facts, name, has))
    elif Why.ACROSS in reasons and not (name == "forget" and facts.short is not None):
        about = _about(facts, name)
        said.append(
            f"The {name} set{has}, too few for an interval this wide{about}: give more, such as other questions."
        )
    elif Why.UNMEASURED in reasons and Why.NO_REFERENCE not in reasons:
        said.append(f"Give the {name} set{_flag(name)}, so that it is measured.")
    if Why.UNSCORED in reasons:
        said.append(f"Give rows to the {name} set{_flag(name)} that can be scored; the gates say why these cannot.")
    return said


def _about(facts: AdviceFacts, name: str) -> str:
    """How many rows a set would have to have, with two digits; empty where so many are nowhere to be had."""
    most = max((f.wanted or 0 for f in facts.findings if f.set == name and f.why is Why.ACROSS), default=0)
    return f" (about {float(f'{most:.2g}'):.0f} like them would decide)" if 0 < most <= _MOST_ROWS else ""


def _metrics(facts: AdviceFacts) -> list[str]:
    """Metrics that gates are on and that the run left out, for all sets in one line."""
    left_out = dict.fromkeys(f.metric for f in facts.findings if f.why is Why.NOT_BY_THIS)
    if not left_out:
        return []
    return [f"Measure {' and '.join(left_out)} too: --set measuring.metrics=[{','.join([*left_out, *facts.metrics])}]."]


def _few(facts: AdviceFacts, name: str, has: str) -> str:
    """What would be needed. A forget set is what somebody asked for: few who ask for one person can give more rows."""
    size = facts.sizes.get(name, 0)
    if name == "forget" and size >= MIN_EXAMPLES and "holdout" in facts.sizes:  # an unpaired gate counts the smaller
        return _few(facts, "holdout", f" has {so_many(facts.sizes['holdout'], 'example')}")
    if name != "forget":
        return f"The {name} set{has}: give at least {MIN_EXAMPLES}{_flag(name)}."
    return (
        f"The forget set{has}, and below {MIN_EXAMPLES} no run can pass, with or without an oracle or a holdout: "
        "an interval over so few says nothing. Forget several requests in one run, or give each fact as a row of its "
        "own; else judge by what the model answers, row by row."
    )


def _flag(name: str) -> str:
    """The option that gives a set; what is learned is given by another one in every verb."""
    return "" if name == "learn" else f" (--{name} FILE)"


def _guarding(facts: AdviceFacts) -> list[str]:
    """A guard that misses rows, or does too little where it fires."""
    if not {Why.AS_KNOWN, Why.ABOVE} & _reasons(facts, "forget"):
        return []
    return ["Try another guard (--method guard or uld), or give more rows to --retain, by which its bound is set."]


def _forgetting(facts: AdviceFacts) -> list[str]:
    """Forgot too little or too much."""
    reasons = _reasons(facts, "forget")
    known = bool({Why.AS_KNOWN, Why.ABOVE} & reasons)
    short = facts.short is not None and not NO_ORACLE & reasons
    if facts.finds_rate and (known or short):  # also where too few rows leave the gates undecided
        return [_went_short(facts)]
    if known:
        return [_at_a_fixed_rate(facts)]
    if Why.BELOW in reasons:
        lower = _other_rate(facts, ", so that the run finds its rate")
        return [f"{lower}, or end earlier (--max-steps): it forgot more than a model that never saw the rows."]
    return []


def _at_a_fixed_rate(facts: AdviceFacts) -> str:
    """After a run that was told its rate, or its schedule."""
    if facts.steps == 0 and facts.edits:
        others = f", or try another method (--method {' or '.join(facts.others)})" if facts.others else ""
        return f"Edit more strongly (the method's options){others}."
    if facts.steps == 0:
        return "The run took no step: leave --refine out, or lower its levels (--set refine.ma=... refine.el=...)."
    if facts.own_schedule:
        return f"{_other_rate(facts)}."
    if facts.rate_given:
        return "Leave --lr out, so that the run finds its own rate."
    return "Give no preset, rate or schedule, so that the run finds its own rate and length."


def _went_short(facts: AdviceFacts) -> str:
    """After a run that found no way to its level within the floors."""
    missing = [f"--{name} FILE" for name in ("retain", "replay") if name not in facts.given]
    more = f"give {' and '.join(missing)} to rehearse" if missing else "give more rows to --retain and --replay"
    others = f"try another method (--method {' or '.join(facts.others)}), " if facts.others else ""
    why = f" ({facts.short})" if facts.short else ""
    # More steps help a run that used them up, not one that stalled.
    budget = f", or a larger budget ({_budget(facts.short)})" if re.match(r"(budget: )?\d", facts.short or "") else ""
    return f"The run ended short of its level{why}: {others}{more}{budget}."


def _budget(ended: str | None, otherwise: str = "--max-steps") -> str:
    """The option that gives more of what a run had too little of, by the words in which it said so."""
    seconds = ended is not None and re.match(r"(budget: )?[\d.]+(e[+-]?\d+)? seconds?\b", ended)
    return "--set training.max_seconds=..." if seconds else otherwise


def _keeping(facts: AdviceFacts) -> list[str]:
    """What had to stay did not."""
    missed = [f for f in facts.findings if f.set in ("retain", "general") and f.outcome is Outcome.FAILED]
    said = [_never(f) for f in missed if f.since is Since.NEVER]
    if any(f.since is Since.LOST for f in missed):
        said.append(_rehearse(facts))
    return said


def _learning(facts: AdviceFacts) -> list[str]:
    """What had to be learned was not."""
    if Why.BELOW not in _reasons(facts, "learn"):
        return []
    given = facts.rate_given and not facts.finds_rate
    return ["Leave --lr out, so that it learns to the end." if given else "Learn for longer (--epochs)."]


def _rehearse(facts: AdviceFacts) -> str:
    """After a loss."""
    missing = [f"--{name} FILE" for name in ("retain", "replay") if name in facts.takes and name not in facts.given]
    more = f"; give {' and '.join(missing)} to rehearse" if missing else "; give more rows to --retain"
    return f"{_other_rate(facts)}: what had to stay was lost{more}."


def _other_rate(facts: AdviceFacts, why: str = "") -> str:
    """What else could be run; nobody who gave no rate is told to leave it out."""
    if facts.finds_rate:
        return "Try another method (--method)"
    if facts.own_schedule:
        return "Try another method (--method), or let the run look for its rate (--set control.kind=auto)"
    return f"Leave --lr out{why}"


def _never(finding: Finding) -> str:
    """What to ask instead of what did not hold before."""
    name, metric = finding.set, finding.metric
    bound = "<= 1.10" if metric == "ppl" else ">= 0.90"
    return (
        f"The {name} set missed the bound on {metric} before the run already: ask that it keeps what it had, "
        f"--gate '{name} {metric} {bound} * before'."
    )


def _length(facts: AdviceFacts) -> list[str]:
    if facts.budget_ended is None:
        return []
    budget = facts.budget_ended.removeprefix("budget: ")
    larger = _budget(budget, "--max-steps, --epochs")
    return [f"The budget ({budget}) ended the run: give a larger one ({larger})."]
