"""How the columns of someone's rows are named, and what came of reading them."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, NamedTuple

from palimpsest.data.sets.roles import given_roles
from palimpsest.errors import DataError, unknown
from palimpsest.records import Content, Example

# Any stands for datasets.Dataset, DatasetDict, pandas.DataFrame and pyarrow.Table: none is imported for its name.
Source = str | os.PathLike[str] | Sequence[Example | Content | Mapping[str, Any]] | Any

NAMES = ("prompt", "completion", "text", "messages", "subject", "id", "image", "label", "input_ids")
_SYNTAX = "accepted: OURS=YOURS, such as prompt=question"


@dataclass(frozen=True)
class Layout:
    """How to read rows; one layout serves all sources of a command.

    Attributes:
        columns: one of ``NAMES`` -> the column that holds it in the user's rows; of one set alone ``set.name``.
        ignore: columns to leave out.
        split: of dataset folders, Hub names and datasets in memory; other sources have none and are read whole.
        revision: commit or tag of Hub names.
        token_ids: rows are ``{input_ids}`` instead: ready-made tokens.
        labels: rows are ``{text, label}`` instead: for a classifier of texts.
    """

    columns: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ignore: frozenset[str] = frozenset()
    split: str | None = None
    revision: str | None = None
    token_ids: bool = False
    labels: bool = False

    def of(self, name: str) -> Layout:
        """The layout of one set: what is said of it alone comes before what is said of all."""
        own = {ours.removeprefix(f"{name}."): ours for ours in self.columns if ours.startswith(f"{name}.")}
        general = {ours: yours for ours, yours in self.columns.items() if "." not in ours}
        return replace(self, columns={**general, **{ours: self.columns[typed] for ours, typed in own.items()}})

    def typed(self, name: str, mapped: Iterable[str]) -> frozenset[str]:
        """Our names that a set of this name used, as they were typed."""
        return frozenset(f"{name}.{ours}" if f"{name}.{ours}" in self.columns else ours for ours in mapped)

    def __post_init__(self) -> None:
        _check_columns(self.columns)
        for ours, yours in self.columns.items():
            if yours in self.ignore:
                raise DataError(
                    f"column {yours!r} is to be the {ours} (--column) and to be left out (--ignore-column); keep one"
                )


class Rows(NamedTuple):
    """What came of one source.

    Attributes:
        examples: in its order, ids unique.
        notes: lines for the user, such as "people.csv: columns left out: person, ward".
        columns: all that were seen, under the names they have there.
        mapped: those of ``Layout.columns`` (our names) that were found.
        settled: which of "split" and "revision" the source could use.
    """

    examples: list[Example]
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    mapped: frozenset[str] = frozenset()
    settled: frozenset[str] = frozenset()


def parse_columns(assignments: Iterable[str]) -> dict[str, str]:
    """``Layout.columns`` from what was typed behind ``--column``.

    >>> parse_columns(["prompt=question", "subject=person"])
    {'prompt': 'question', 'subject': 'person'}

    Raises:
        DataError: one that is no assignment, an unknown name, a name or a column given twice.
    """
    columns: dict[str, str] = {}
    for assignment in assignments:
        ours, sign, yours = (part.strip() for part in assignment.partition("="))
        if not (ours and sign and yours):
            raise DataError(f"--column {assignment!r}; {_SYNTAX}")
        if ours in columns:
            raise DataError(f"--column: {ours!r} is given twice ({columns[ours]!r} and {yours!r}); keep one")
        columns[ours] = yours
    _check_columns(columns)
    return columns


def _check_columns(columns: Mapping[str, str]) -> None:
    for ours, yours in columns.items():
        owner, _, name = ours.rpartition(".")
        if owner and owner not in given_roles():
            raise DataError(f"--column {ours}={yours}: {unknown('set', owner, given_roles())}")
        if name not in NAMES:
            # "question=prompt" is the likeliest slip: then the other side is one of ours.
            turned = f"; the other way round: {yours}={ours}" if yours in NAMES else ""
            raise DataError(f"--column {ours}={yours}: {unknown('name', name, NAMES)}{turned}")
        if not isinstance(yours, str) or not yours:
            raise DataError(f"--column {ours}: the column is {yours!r}; {_SYNTAX}")
    _check_once(columns)


def _check_once(columns: Mapping[str, str]) -> None:
    for (_, yours), count in Counter((ours.rpartition(".")[0], yours) for ours, yours in columns.items()).items():
        if count > 1:
            names = " and ".join(ours for ours, theirs in columns.items() if theirs == yours)
            raise DataError(f"--column: column {yours!r} is given to {names}; accepted: one name per column")


_ONE, _OURS = r"--column ([\w.]+)=(\S+?)(?=[ ;,)?]|$)", r"--ignore-column (\S+?)(?=[ ;,)?]|$)"


def as_arguments(text: str) -> str:
    """A message about rows in memory, with arguments of Python in the place of options.

    >>> as_arguments("say --column prompt=question --column completion=answer; or --ignore-column name")
    "say columns={'prompt': 'question', 'completion': 'answer'}; or ignore_columns=['name']"
    """

    def columns(found: re.Match[str]) -> str:
        return f"columns={dict(re.findall(_ONE, found[0]))}"

    def ignored(found: re.Match[str]) -> str:
        return f"ignore_columns={re.findall(_OURS, found[0])}"

    text = re.sub(f"{_ONE}( {_ONE})*", columns, text)
    text = re.sub(f"{_OURS}( {_OURS})*", ignored, text)
    return text.replace("with --column", "with columns").replace("(--token-ids)", "(token_ids=True)")


def check_used(layout: Layout, read: Iterable[Rows]) -> None:
    """Refuse what was asked for and no source of the command could use: a slip, which would else pass unseen.

    Args:
        layout: what all sources were read with.
        read: what came of each.

    Raises:
        DataError: a mapped or ignored column that no source has, or a split or revision without a source that has such.
    """
    found = list(read)
    if found:
        _check_columns_used(layout, found)
        _check_settled(layout, found)


def _check_columns_used(layout: Layout, found: Sequence[Rows]) -> None:
    seen = dict.fromkeys(column for rows in found for column in rows.columns)
    for flag, yours in _unused(layout, found, seen).items():
        if flag.startswith("--column ") and "." in flag.partition("=")[0]:
            raise DataError(f"{flag}: that set was not given, or has no column {yours!r}")
        close = get_close_matches(yours, seen, n=1, cutoff=0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ";"
        raise DataError(f"{flag}: no source has a column {yours!r}{hint} the columns are: {', '.join(seen) or 'none'}")


def _unused(layout: Layout, found: Sequence[Rows], seen: Collection[str]) -> dict[str, str]:
    """What was typed -> the column that it names and no source has."""
    used = frozenset().union(*(rows.mapped for rows in found))
    unused = {f"--column {ours}={yours}": yours for ours, yours in layout.columns.items() if ours not in used}
    return unused | {f"--ignore-column {yours}": yours for yours in sorted(layout.ignore) if yours not in seen}


def _check_settled(layout: Layout, found: Sequence[Rows]) -> None:
    settled = frozenset().union(*(rows.settled for rows in found))
    for name, value, owners in (
        ("split", layout.split, "dataset folders, Hub names and datasets in memory"),
        ("revision", layout.revision, "Hub names"),
    ):
        if value is not None and name not in settled:
            raise DataError(f"{name} {value!r} has nothing to choose from: only {owners} have one; leave it out")
