"""The day on which somebody asked for something to be forgotten, as it is recorded."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from palimpsest.errors import PlanError

_ACCEPTED = "accepted: a date as YYYY-MM-DD"


def day_of(value: object, *, today: date | None = None) -> str:
    """A given day, ISO 8601; "" for none.

    Args:
        value: a date, or one as YYYY-MM-DD.
        today: None = by the clock of this machine; a day more is let through, since it is tomorrow elsewhere.

    Raises:
        PlanError: it is no date, or one that is still to come.
    """
    if value is None or value == "":
        return ""
    try:
        day = date.fromisoformat(value.isoformat()[:10] if isinstance(value, date) else str(value))
    except ValueError:
        raise PlanError(f"asked_on is {value!r}; {_ACCEPTED}") from None
    now = today or datetime.now(UTC).date()
    if day > now + timedelta(days=1):
        raise PlanError(f"asked_on is {day}, still to come: this machine has {now}; {_ACCEPTED}, no later than that")
    return day.isoformat()
