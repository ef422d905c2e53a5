"""Every error of the project.

PalimpsestError
├── UsageError              wrong input; nothing was written (CLI exit code 2)
│   ├── DataError           a file, row or id
│   ├── ModelError          a model folder, adapter or scope
│   ├── PlanError           a method, option or combination of options
│   └── MissingExtra        an optional package that is not installed
├── RunError                the run itself went wrong (CLI exit code 1)
│   ├── DivergedError       the loss or a gradient is not finite
│   ├── FrozenError         a parameter that should have moved did not, or the reverse
│   │   └── NothingToEdit   a method that edits found nothing to change (a usage error, too: CLI exit code 2)
│   └── SavedError          the saved folder does not answer as the model that was trained
├── LostFolder              the folder of a run was taken away under it (CLI exit code 1)
└── EndpointError           a model behind an endpoint cannot be asked (CLI exit code 1)

KeyboardInterrupt
└── Interrupted             Ctrl-C or SIGTERM stopped a run; the same call goes on (CLI exit code 130)

A message says what was refused, where, what is accepted and what to do. Without an error the exit code is that of the
verdict: 0 passed (or nothing was asked), 1 failed, 3 undecided.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from unicodedata import normalize

_LONGEST_SHOWN = 80
_LONGEST_PART = 255  # bytes; no system has longer names
_LONGEST_NAME = 200  # characters of a name in a message


class PalimpsestError(Exception):
    """Root of every error raised on purpose."""

    exit_code = 1


class UsageError(PalimpsestError):
    """What the user supplied cannot be used; nothing was written."""

    exit_code = 2


class DataError(UsageError):
    """A data file, a row or an id cannot be used."""


class ClassError(DataError):
    """A label is that of no class of the model."""


class ModelError(UsageError):
    """A model folder, tokenizer, adapter or scope cannot be used."""


class PlanError(UsageError):
    """A method, an option or a combination of options cannot be used."""


class MissingExtra(UsageError):
    """An optional package is needed and not installed."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs the package {package!r}: pip install 'palimpsest-ml[{extra}]'")
        self._given = (package, extra, purpose)

    def __reduce__(self) -> tuple[type[MissingExtra], tuple[str, str, str]]:
        return type(self), self._given  # it may have to cross from one process to another


class RunError(PalimpsestError):
    """The run started and could not end as planned.

    Attributes:
        seconds: that its loop took.
        tokens: positions that went forward in it.
    """

    seconds: float = 0.0
    tokens: int = 0


class DivergedError(RunError):
    """A loss or gradient became infinite or not a number."""

    remedy = "lower the learning rate"


class FrozenError(RunError):
    """A trainable parameter did not move, or a frozen one did."""


class NothingToEdit(FrozenError, UsageError):
    """A method that edits found nothing to change in what it was given; a bench counts it as a run that stopped."""

    exit_code = 2


class SavedError(RunError):
    """What was saved does not answer as the model that was trained."""


class LostFolder(PalimpsestError):
    """The folder that a run held was removed or replaced. No RunError: those leave word in the folder."""


class EndpointError(PalimpsestError):
    """A model behind an endpoint gave no usable answer. No RunError: what was paid for stays for the next go."""


class FederationError(PalimpsestError):
    """Too few clients answered. No RunError: what was heard stays for the next go, which asks only the others.

    Attributes:
        diverged: half would have answered, had their local work not led to numbers that are not finite.
    """

    def __init__(self, message: str, diverged: bool = False) -> None:
        super().__init__(message)
        self.diverged = diverged


class Interrupted(KeyboardInterrupt):
    """A run was stopped from outside; says how far it got, and where what it did is kept.

    Attributes:
        reached: how far it got, in words; empty where that is not known.
    """

    reached: str = ""


def unknown(what: str, value: str, accepted: Iterable[str], meant: str | None = None) -> str:
    r"""Message for a name that is not in a list, with the closest one that is, or the one that is known to be meant.

    Args:
        what: that it should be the name of.
        value: as it was given.
        accepted: the names there are.
        meant: the one that is known to be meant by the name, too far away to be guessed by spelling.

    >>> unknown("method", "ico", ["icu", "npo"])
    "unknown method 'ico'; did you mean 'icu'? accepted: icu, npo"
    >>> unknown("class", "Ba\u0308r", ["B\xe4r"]).partition("?")[0]  # looks the same, so code points are shown
    "unknown class 'Ba\\u0308r'; did you mean 'B\\xe4r'"
    """
    names = sorted(accepted)
    name = str(value)[:_LONGEST_NAME]  # a key of a file may be a number, and of any length
    close = [meant] if meant is not None else get_close_matches(name, names, n=1, cutoff=0.5)
    quoted = ascii if close and normalize("NFC", name) == normalize("NFC", close[0]) else repr
    hint = f"; did you mean {quoted(close[0])}?" if close else ";"
    return f"unknown {what} {quoted(name)}{hint} accepted: {', '.join(names) or 'none'}"


def encodable(value: str, where: str) -> str:
    """The value itself, which can be written as UTF-8.

    Raises:
        DataError: it holds half of a surrogate pair; says where.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where} holds half of a surrogate pair at character {error.start}; write whole characters"
        ) from None
    return value


def reachable(place: str | os.PathLike[str], what: str, error: type[UsageError] = DataError) -> str:
    """A path as text that can be looked up and written into a record; whether anything is there is not asked.

    Args:
        place: as the user gave it.
        what: words for it, such as "model".
        error: the kind to raise.

    Raises:
        UsageError: its name is not UTF-8, or the system does not even look: too long, no permission, links in a ring.
    """
    if not isinstance(place, str | os.PathLike):
        raise error(f"{what} is a {type(place).__name__}; give the path of a folder or file")
    name = os.fspath(place)
    shown = repr(name if len(name) <= _LONGEST_SHOWN else f"{name[:_LONGEST_SHOWN]}…")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise error(f"{what} {shown}: the name is not UTF-8; rename it") from None
    if any(len(os.fsencode(part)) > _LONGEST_PART for part in Path(name).parts):
        raise error(f"{what} {shown}: a name in it is longer than {_LONGEST_PART} bytes; give a path that can be")
    try:
        Path(name).expanduser().stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError, RuntimeError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{what} {shown}: cannot be opened ({reason}); give a path that you can read") from None
    return name
