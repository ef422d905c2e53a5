"""Clients as a user gives them, NAME=FILE, checked before torch is imported."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from palimpsest.data.read.layout import Layout, Source
from palimpsest.engine.early import check_examples
from palimpsest.engine.given import Given
from palimpsest.engine.inputs import digests, read_given
from palimpsest.engine.progress import Progress
from palimpsest.errors import DataError, PlanError
from palimpsest.federated.federated_plan import CLIENT
from palimpsest.printed import short
from palimpsest.records import Example

LEAST_CLIENTS = 2
"""Clients of a federation."""
PUBLIC_CLIENT = "public"
"""Who holds rows of no client, where an eraser teaches on such; no client may be called so."""

MEASURED_SETS = {"test": "holdout", "probe": "unseen"}
"""Option -> role that its rows are measured in."""
_AS_ASKED = {"forget": "the client that goes", PUBLIC_CLIENT: "--public"}
_AS_ASKED |= {role: f"--{option}" for option, role in MEASURED_SETS.items()}
_NAME = re.compile(r"\w[\w .+-]{0,63}")


class ReadClients(NamedTuple):
    """What was read for a federation.

    Attributes:
        rows: client -> its rows, sorted by name.
        sets: role -> rows that are measured.
        digests: "client:NAME" or role -> digest of the content.
        notes: of the reading.
        public: rows of no client that an eraser teaches on.
    """

    rows: Mapping[str, list[Example]]
    sets: Mapping[str, list[Example]]
    digests: Mapping[str, str]
    notes: tuple[str, ...]
    public: Sequence[Example] = ()


def parse_clients(given: Iterable[str]) -> dict[str, str]:
    """Name -> file, from NAME=FILE; sorted by name.

    >>> parse_clients(["b=two.csv", "a=one.csv"])
    {'a': 'one.csv', 'b': 'two.csv'}

    Raises:
        PlanError: no NAME=FILE, a name twice, or one that is none.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not (equals and file):
            raise PlanError(f"--client {short(text)}: accepted: NAME=FILE, e.g. clinic=clinic.jsonl")
        check_client_name(name)
        if name in found:
            raise PlanError(f"--client {name!r} was given twice ({found[name]}, {file}); give each client another name")
        found[name] = file
    return dict(sorted(found.items()))


def check_client_name(name: str) -> None:
    """Refuse a name that is none.

    Raises:
        PlanError: says what is accepted.
    """
    if name == PUBLIC_CLIENT:
        raise PlanError(f"client name {name!r} is kept for rows of no client (--public); give the client another name")
    if not _NAME.fullmatch(name) or name.strip(" .") != name:
        raise PlanError(
            f"client name {short(name)}: accepted: up to 64 letters, digits, blanks and . _ + - that begin "
            "with a letter or digit and end with no blank or dot"
        )


def check_enough(names: Sequence[str]) -> None:
    """Refuse a federation of one.

    Raises:
        PlanError: there are fewer than two.
    """
    if len(names) < LEAST_CLIENTS:
        raise PlanError(
            f"{len(names)} client: at least {LEAST_CLIENTS} make a federation; give --client NAME=FILE once for each"
        )


def read_clients(
    model: str, clients: Mapping[str, Source], sets: Mapping[str, Source], layout: Layout, progress: Progress
) -> ReadClients:
    """Read every client's rows and what is measured, and refuse what is nothing for the model.

    Args:
        model: folder or Hub name.
        clients: name -> its rows.
        sets: role -> rows that are measured, and "public" -> rows that an eraser teaches on.
        layout: how rows are laid out.
        progress: told what was left out.

    Raises:
        DataError: the first source that cannot be used, with its client's name; or a label that is not the model's.
    """
    given = {**{f"{CLIENT}{name}": source for name, source in sorted(clients.items())}, **sets}
    read = {name: _read_one(model, name, source, layout, progress) for name, source in given.items()}
    rows = {name.removeprefix(CLIENT): own for name, (own, _) in read.items() if name.startswith(CLIENT)}
    measured = {name: own for name, (own, _) in read.items() if not name.startswith(CLIENT)}
    public = measured.pop(PUBLIC_CLIENT, [])
    notes = tuple(note for _, said in read.values() for note in said)
    return ReadClients(rows, measured, digests({name: own for name, (own, _) in read.items()}), notes, public)


def _read_one(
    model: str, name: str, source: Source, layout: Layout, progress: Progress
) -> tuple[list[Example], list[str]]:
    """The rows of one client, or of one set that is measured, by itself: clients may share ids, and rows."""
    what = f"client {name.removeprefix(CLIENT)!r}" if name.startswith(CLIENT) else _AS_ASKED[name]
    role = "learn" if name.startswith(CLIENT) or name == PUBLIC_CLIENT else name
    try:
        read = read_given(Given(model, {role: source}, layout=layout), progress)
        check_examples(read.examples[role], model, layout.revision)
    except DataError as problem:
        raise DataError(f"{what}: {problem}") from None
    return read.examples[role], [f"{what}: {note}" for note in read.notes]


def all_rows(rows: Mapping[str, Sequence[Example]]) -> list[Example]:
    """The rows of several clients as one set; the name of its client stands before the id of each."""
    return [replace(row, id=f"{name}/{row.id}") for name, own in sorted(rows.items()) for row in own]
