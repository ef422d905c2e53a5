"""Which examples a model folder has learned, as digests of their ids: enough to refuse a request about strangers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from palimpsest.data.sets.splits import check_known
from palimpsest.errors import DataError, ModelError
from palimpsest.files import write_atomic
from palimpsest.records import Example
from palimpsest.untrusted import parse_json, reason_of

LEARNED_FILE = "learned.json"


def read_learned(folder: str | Path | None) -> frozenset[str] | None:
    """Digests of the ids a folder's model has learned; None when it was not made by a run of ours.

    Raises:
        ModelError: the file is there and cannot be used.
    """
    path = Path(folder or "") / LEARNED_FILE
    if folder is None or not path.is_file():
        return None
    try:
        return frozenset(map(str, parse_json(path.read_text(encoding="utf-8"))["id_digests"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path} cannot be read ({reason_of(error)}); delete it to go on without the check of ids"
        ) from None


def write_learned(folder: Path, digests: Iterable[str] | None) -> None:
    """Write the digests beside the model; nothing where they are not known."""
    if digests is None:
        return
    write_atomic(folder / LEARNED_FILE, json.dumps({"id_digests": sorted(digests)}, indent=0) + "\n")


def id_digests(examples: Sequence[Example]) -> frozenset[str]:
    """SHA-256 of each id."""
    return frozenset(hashlib.sha256(example.id.encode()).hexdigest() for example in examples)


def check_learned(forget: Sequence[Example], model: str) -> None:
    """Refuse to forget what the model never learned, as far as its folder tells.

    Raises:
        DataError: ids of the forget set that are not among the learned ones.
    """
    learned = read_learned(model)
    if learned is None:
        return
    try:
        check_known(forget, [example.id for example in forget if id_digests([example]) <= learned])
    except DataError as error:
        raise DataError(
            f"{error}; delete {Path(model) / LEARNED_FILE} if the model has also learned elsewhere"
        ) from None


def learned_after(start: str, examples: Mapping[str, list[Example]], *, from_base: bool) -> frozenset[str] | None:
    """What the model of a finished run has learned: what it started with, and what was added or taken away.

    None where that is not known: a model without a record that is asked to forget has learned somewhere else.

    Args:
        start: the folder the weights started from.
        examples: the sets of the run.
        from_base: the run began before anything was learned, so its retain set was learned too.
    """
    added = ("learn", "retain") if from_base else ("learn",)
    recorded = read_learned(start)
    if recorded is None and "forget" in examples and not from_base:
        return None
    known = recorded or frozenset()
    known -= id_digests(examples.get("forget", []))
    return known.union(*(id_digests(examples.get(name, [])) for name in added))
