"""Which rows a model folder has learned, and which it was made to forget: enough to refuse requests that cannot be.

Of a row there is a mark of its id and one of its content (``marks.py``): keyed digests, which say nothing without the
key. A record that was begun with one key and gone on with on another machine has a part for each.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from palimpsest.companions import COMPANIONS
from palimpsest.companions.marks import KEY_VARIABLE, Mark, MarkKey, key_file, own_key
from palimpsest.data.sets.splits import check_known
from palimpsest.errors import DataError, ModelError
from palimpsest.files import write_atomic
from palimpsest.records import Example
from palimpsest.untrusted import parse_json, reason_of

LEARNED_FILE = "learned.json"
_Index = tuple[dict[str, set[str]], set[str]]


@dataclass(frozen=True)
class LearnedRecord:
    """What a model has learned and forgotten, as far as its folder tells.

    Attributes:
        key: that made the marks.
        learned: marks of rows.
        forgotten: marks of rows that are to stay away.
        elsewhere: it has learned other rows too, so that a row without a mark may still be one it knows.
        sealed: parts that were made with other keys, by their names; carried on as they are.
    """

    key: MarkKey
    learned: frozenset[Mark] = frozenset()
    forgotten: frozenset[Mark] = frozenset()
    elsewhere: bool = False
    sealed: Mapping[str, Any] | None = None

    def has_learned(self, example: Example) -> bool:
        """A row of this id, or one that says the same."""
        return _is_among(self._learned, self.key.of(example))

    def has_forgotten(self, example: Example) -> bool:
        """A row of this id, or one that says the same, is to stay away."""
        return _is_among(self._forgotten, self.key.of(example))

    def has_learned_otherwise(self, example: Example) -> bool:
        """What it learned under this id says something else, and what the row says it did not learn."""
        id_mark, content = self.key.of(example)
        contents = self._learned[0].get(id_mark, {""})
        return "" not in contents and content not in self._learned[1]

    @cached_property
    def _learned(self) -> _Index:
        return _index(self.learned)

    @cached_property
    def _forgotten(self) -> _Index:
        return _index(self.forgotten)

    def forgetting(self, id_marks: Collection[str]) -> LearnedRecord:
        """The record once the rows of these ids were forgotten."""
        gone = frozenset(mark for mark in self.learned if mark[0] in id_marks)
        return replace(self, learned=_without(self.learned, gone), forgotten=self.forgotten | gone)

    def after(self, learned: Iterable[Example], forgotten: Iterable[Example]) -> LearnedRecord:
        """The record once these rows were forgotten, and then those learned."""
        new, gone = frozenset(map(self.key.of, learned)), frozenset(map(self.key.of, forgotten))
        return replace(
            self,
            learned=_without(self.learned, gone) | new,
            forgotten=_without(self.forgotten | gone, new),
        )


def _index(marks: Iterable[Mark]) -> _Index:
    """Mark of an id -> those of its contents; and all of contents."""
    by_id: dict[str, set[str]] = {}
    for id_mark, content in marks:
        by_id.setdefault(id_mark, set()).add(content)
    return by_id, {content for contents in by_id.values() for content in contents if content}


def _is_among(index: _Index, own: Mark) -> bool:
    return own[0] in index[0] or own[1] in index[1]


def _without(marks: frozenset[Mark], others: Collection[Mark]) -> frozenset[Mark]:
    """Marks that share neither id nor content with any of the others."""
    ids, contents = {mark[0] for mark in others}, {mark[1] for mark in others if mark[1]}
    return frozenset(mark for mark in marks if mark[0] not in ids and mark[1] not in contents)


def read_record(folder: str | Path | None) -> LearnedRecord | None:
    """What a folder's model has learned; None where it was not made by a run of ours, or no key can be had.

    Raises:
        ModelError: the file is there and cannot be used, or was changed by others.
    """
    path = Path(folder or "") / LEARNED_FILE
    if folder is None or not path.is_file():
        return None
    try:
        values = parse_json(path.read_text(encoding="utf-8"))
        key = own_key()
        return None if key is None else _record_of(values, key)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(
            f"{path} cannot be read ({reason_of(error)}); delete it to go on without the check of ids"
        ) from None


def _record_of(values: Any, key: MarkKey) -> LearnedRecord:
    if "id_digests" in values:  # of version 0.1.0: SHA-256 of ids, nothing of contents
        return LearnedRecord(key, frozenset((key.of_digest(str(digest)), "") for digest in values["id_digests"]))
    parts = dict(values["parts"])
    own = parts.pop(key.name, None)
    record = LearnedRecord(key, elsewhere=bool(parts), sealed=parts)
    if own is None:
        return record
    if own["seal"] != key.seal(_sealed_text(own)):
        raise ValueError("it was changed after it was written")
    learned, forgotten = (frozenset((str(i), str(c)) for i, c in own[name]) for name in ("learned", "forgotten"))
    return replace(record, learned=learned, forgotten=forgotten, elsewhere=bool(own["elsewhere"]) or record.elsewhere)


def _sealed_text(part: Mapping[str, Any]) -> str:
    return json.dumps([part["learned"], part["forgotten"], part["elsewhere"]])


def write_learned(folder: Path, record: LearnedRecord | None) -> None:
    """Write it beside the model; nothing where no key can be had."""
    if record is None:
        return
    write_atomic(folder / LEARNED_FILE, learned_text(record))


def learned_text(record: LearnedRecord) -> str:
    """The text of its file."""
    part: dict[str, Any] = {
        "learned": sorted(map(list, record.learned)),
        "forgotten": sorted(map(list, record.forgotten)),
        "elsewhere": record.elsewhere,
    }
    own = {record.key.name: {**part, "seal": record.key.seal(_sealed_text(part))}}
    return json.dumps({"parts": {**(record.sealed or {}), **own}}, indent=0) + "\n"


def unread_record(folder: str | Path) -> str | None:
    """Why the record of a folder tells less than it holds, in one line; None where all of it can be read."""
    record = read_record(folder)
    path = Path(folder) / LEARNED_FILE
    if record is None:
        lost = f"{key_file()} cannot be written" if path.is_file() else None
    else:
        lost = f"not with {key_file()}" if record.sealed else None
    if lost is None:
        return None
    return (
        f"{path} was made with another key ({lost}): whether these rows were learned or forgotten there cannot be "
        f"checked, only what was recorded since; bring the key and set {KEY_VARIABLE}"
    )


def check_learned(forget: Sequence[Example], model: str, *, again: bool = False) -> None:
    """Refuse to forget what the model never learned, as far as its folder tells.

    Args:
        forget: the forget set.
        model: its folder.
        again: rows that were forgotten before may be forgotten once more.

    Raises:
        DataError: rows that it did not learn, or learned with another content, or has forgotten.
    """
    record = read_record(model)
    if record is None:
        return
    _check_content(forget, record, model)
    unknown = [example for example in forget if not record.has_learned(example)]
    gone = [example for example in unknown if record.has_forgotten(example)]
    if not record.elsewhere:
        _check_not_gone([] if again else gone, len(forget), model)
        _check_strangers(forget, {example.id for example in unknown} - {example.id for example in gone}, model)


def _check_not_gone(gone: Sequence[Example], out_of: int, model: str) -> None:
    if gone:
        raise DataError(
            f"{len(gone)} of {out_of} rows of the forget set were forgotten by {model} or before it (first: "
            f"{gone[0].name}); leave them out, or have them forgotten once more with --allow-forgotten"
        )


def _check_strangers(forget: Sequence[Example], strangers: Collection[str], model: str) -> None:
    try:
        check_known(forget, [example.id for example in forget if example.id not in strangers])
    except DataError as error:
        of_shards = (Path(model).expanduser() / COMPANIONS / "shards").is_dir()
        anyway = (
            "leave them out: no shard of the model has them"
            if of_shards  # by its record it is known what its shards hold; without it nothing of them can be deleted
            else f"delete {Path(model) / LEARNED_FILE} if the model has also learned elsewhere"
        )
        raise DataError(f"{error}; {anyway}") from None


def _check_content(forget: Sequence[Example], record: LearnedRecord, model: str) -> None:
    changed = [example for example in forget if record.has_learned_otherwise(example)]
    if changed:
        raise DataError(
            f"{len(changed)} of {len(forget)} rows of the forget set have ids that {model} learned with another "
            f"content (first: {changed[0].name}), so that what it knows would stay; give the rows as they were learned"
        )


def come_back(sets: Mapping[str, Sequence[Example]], models: Iterable[str | None]) -> dict[str, list[Example]]:
    """Set -> rows of it that one of the models was made to forget; the forget set itself is left out."""
    records = [record for record in map(read_record, models) if record is not None]
    found = {name: _forgotten_among(rows, records) for name, rows in sets.items() if name != "forget"}
    return {name: rows for name, rows in found.items() if rows}


def _forgotten_among(examples: Sequence[Example], records: Sequence[LearnedRecord]) -> list[Example]:
    asked = [record for record in records if record.forgotten]
    return [example for example in examples if any(record.has_forgotten(example) for record in asked)]


def learned_in_federation(start: str, version: str, rows: Iterable[Example], key: MarkKey) -> LearnedRecord:
    """The record of what clients have taught together; after an erasure what they alone had not taught is forgotten.

    Args:
        start: the folder that the federation began with.
        version: of an erasure the one that a client was erased from; "" where a federation learned.
        rows: of all clients that are in it.
        key: of this user.
    """
    record = (read_record(start) or LearnedRecord(key)).after(rows, [])
    before = read_record(version) if version else None
    if before is None:
        return record
    gone = before.forgotten | _without(before.learned, record.learned)
    return replace(record, forgotten=record.forgotten | _without(gone, record.learned))


def learned_after(
    start: str, examples: Mapping[str, list[Example]], drawn: Collection[str], *, model: str, from_base: bool
) -> LearnedRecord | None:
    """The record of the model that a run has made; None where no key can be had.

    Args:
        start: the folder the weights started from.
        examples: the sets of the run.
        drawn: names of those that it was trained on, but for the forget set.
        model: the folder of the model that was to change: what was forgotten before stays away, wherever a run starts.
        from_base: the run began before anything was learned.
    """
    key = own_key()
    if key is None:
        return None
    before, known = read_record(model), read_record(start)
    record = known or LearnedRecord(key, elsewhere="forget" in examples and not from_base)
    record = replace(record, forgotten=record.forgotten | (frozenset() if before is None else before.forgotten))
    trained = [example for name in drawn for example in examples.get(name, [])]
    return record.after(trained, examples.get("forget", []))
