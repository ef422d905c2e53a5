"""The lines under the verdict: what was asked, what was done, how it ended, what it cost."""

from __future__ import annotations

from datetime import UTC, datetime

from palimpsest.records import short_id
from palimpsest.report.nouns import file_name, listed, of_images, passed_through, things
from palimpsest.report.numbers import count, percent
from palimpsest.report.schema import RequestInfo, RunResult


def brief(result: RunResult) -> tuple[tuple[str, str], ...]:
    """Name and value of each line; what is not known has no line."""
    lines = (
        ("Asked", what_was_asked(result)),
        *received(result.request),
        ("Done", done(result)),
        ("Ended", result.stopped),
        ("Cost", spent(result)),
    )
    return tuple((name, value) for name, value in lines if value)


def what_was_asked(result: RunResult) -> str:
    """Whose rows, how many and of which file; empty where no set is recorded.

    A request that named nobody is told by its files.
    """
    forgetting = [_to_forget(result)] if "forget" in result.sets else []
    learning = [f"learn {_rows(result, 'learn')}"] if "learn" in result.sets else []
    kept = [f"keep {_rows(result, 'retain')}"] if "retain" in result.sets and not learning else []
    wanted = [*learning, *forgetting, *kept]
    if result.kind == "measure":
        wanted = [f"measure {_rows(result, name)}" for name in result.sets]
    if result.kind == "calibrate":
        wanted = [f"give back what a change took from {_rows(result, 'retain')}"]
    if result.kind == "harden":
        wanted = [f"make what was forgotten hard to bring back, and keep {_rows(result, 'retain')}"]
    words = listed(wanted, most=len(wanted)) if wanted else ""
    return f"{words[:1].upper()}{words[1:]}"


def _to_forget(result: RunResult) -> str:
    request, rows = result.request, _rows(result, "forget")
    if request is None:
        return f"forget {rows}"
    classes = (
        f"the class{'es' if len(request.classes) > 1 else ''} {listed(request.classes)}" if request.classes else ""
    )
    ids = listed([short_id(i) for i in request.ids])
    named = [words for words in (listed(request.subjects), classes, ids) if words]
    return f"forget {'; '.join(named)} ({rows})" if named else f"forget {rows}"


def _rows(result: RunResult, name: str) -> str:
    """How many, and of which file: that of the request where it named the rows of a larger one."""
    files = result.plan.get("files")
    source = str(files.get(name, "")) if isinstance(files, dict) else ""
    if result.request is not None and result.request.data and name in ("forget", "retain"):
        source = result.request.data if name == "forget" or not source else source
    of = f" of {file_name(source)}" if source else ""
    return f"{things(result, result.sets[name].n)}{of}"


def received(request: RequestInfo | None) -> tuple[tuple[str, str], ...]:
    """By whom and when, as far as it was given."""
    if request is None:
        return ()
    on = day(request.asked_on) if request.asked_on else ""
    if not request.asked_by:
        return (("Received", on),)
    return (("Asked by", f"{request.asked_by}{f', received {on}' if on else ''}"),)


def done(result: RunResult) -> str:
    """Method and time."""
    return ", ".join(part for part in (result.method, moment(result.created)) if part)


def spent(result: RunResult) -> str:
    """What went through the model while it was prepared and trained, beside the same of the oracle.

    Positions, not seconds: these depend on the machine and on what else runs there.
    """
    mine = sum(result.cost[name].tokens for name in ("preparing", "training") if name in result.cost)
    if "training" not in result.cost:
        return ""
    share = oracle_share(result)
    beside = f", {share} of what training the oracle took" if share else ""
    return f"{count(mine)} {passed_through(result)}{beside}"


def oracle_share(result: RunResult) -> str:
    """Positions of preparing and training as a share of the oracle's, or an empty string when one is unknown."""
    oracle = result.cost.get("oracle_training")
    if "training" not in result.cost or oracle is None or oracle.tokens == 0:
        return ""
    mine = sum(result.cost[name].tokens for name in ("preparing", "training") if name in result.cost)
    return percent(mine / oracle.tokens)


def request_rows(result: RunResult) -> tuple[tuple[str, str], ...]:
    """All of a request, for the record at the end of the page."""
    request = result.request
    if request is None:
        return ()
    classes = "classes" if of_images(result) else "labels"
    rows = (
        ("subjects", "; ".join(request.subjects)),
        ("rows", "; ".join(request.ids)),
        (classes, "; ".join(request.classes)),
        ("file", request.data),
        ("asked by", request.asked_by),
        ("received", request.asked_on),
    )
    return tuple((name, value) for name, value in rows if value)


def moment(iso: str) -> str:
    """A time as people write it; what is none stays as it is.

    >>> moment("2026-07-01T12:00:00+00:00"), moment("yesterday")
    ('1 July 2026, 12:00 UTC', 'yesterday')
    """
    try:
        at = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    at = at.astimezone(UTC) if at.tzinfo is not None else at
    return f"{_date(at)}, {at:%H:%M}{' UTC' if at.tzinfo is not None else ''}"


def day(iso: str) -> str:
    """A date as people write it; what is none stays as it is.

    >>> day("2026-07-01"), day("last week")
    ('1 July 2026', 'last week')
    """
    try:
        return _date(datetime.fromisoformat(iso))
    except ValueError:
        return iso


def _date(at: datetime) -> str:
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}"


_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
"""Written out: strftime would follow the reader's locale."""
