"""A finished folder and what is in it, bound by a manifest: the digest of every file that decides an answer.

Written last of all, and looked at by whoever uses the folder again. It holds no key: who changes a folder on purpose
can write another one; what copies, edits and disks change by accident shows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from palimpsest.errors import ModelError, UsageError
from palimpsest.files import write_atomic
from palimpsest.models.adapter_base import adapter_in, base_of
from palimpsest.models.deciding import deciding_files, file_digest
from palimpsest.models.plain import read_json_object
from palimpsest.models.sources import source_digest
from palimpsest.records import digest

MANIFEST = "manifest.json"
_SCHEMA = "palimpsest.manifest/1"
_RECORD = "result.json"
_DECIDING_RECORDS = ("learned.json",)
"""Records that decide what is accepted: one that was put there is as bad as one that was changed."""
_LOOSE = frozenset({MANIFEST, "metrics.jsonl"})
_BASE = "the base of the adapter"
_MOST_SAID = 4


class Differences(NamedTuple):
    """How a folder differs from its manifest, by names of files.

    Attributes:
        changed: other content.
        missing: no longer there.
        additional: not there when the run ended, and deciding.
    """

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    additional: tuple[str, ...] = ()

    @property
    def words(self) -> tuple[str, ...]:
        """Such as "model.safetensors was changed"."""
        kinds = zip(self, ("was changed", "is missing", "was added"), strict=True)
        return tuple(f"{name} {what}" for names, what in kinds for name in names)


def has_manifest(folder: Path) -> bool:
    """Is there one?"""
    return (folder / MANIFEST).exists()


def write_manifest(folder: Path, leave_out: Collection[str] = ()) -> None:
    """Bind a folder to what is in it now.

    Args:
        folder: of a finished run.
        leave_out: names of what is about to be removed.
    """
    names = _bound(folder, leave_out)
    content = {"schema_id": _SCHEMA, "files": {name: file_digest(names[name]) for name in sorted(names)}}
    base = _base_digest(folder)
    values = content if base is None else {**content, "base": base}
    write_atomic(folder / MANIFEST, json.dumps({**values, "digest": digest(values)}, indent=1) + "\n")


def expect(folder: Path, name: str, text: str) -> None:
    """Have the manifest take what we ourselves are about to write anew, beside what is there; nothing without one.

    Whoever dies in between leaves the old file or the new one, and a manifest that holds for both.

    Args:
        folder: of a finished run that is as its manifest says.
        name: of the file.
        text: its content to be, UTF-8.
    """
    values = _read(folder)
    if name not in values.get("files", {}):
        return
    both = [file_digest(folder / name), hashlib.sha256(text.encode()).hexdigest()]
    values = {**values, "files": {**values["files"], name: both}}
    write_atomic(folder / MANIFEST, json.dumps({**values, "digest": digest(values)}, indent=1) + "\n")


def changes_in(folder: Path, leave_out: Collection[str] = ()) -> Differences | None:
    """How a folder differs from its manifest; None where it has none.

    Args:
        folder: of a run.
        leave_out: names of files and folders in it that do not count.
    """
    if not has_manifest(folder):
        return None
    values = _read(folder)
    if not values:
        return Differences(changed=(MANIFEST,))
    then, there = values["files"], _bound(folder, leave_out)
    changed = [name for name in then if name in there and not _holds(there[name], then[name])]
    if "base" in values and "adapter_config.json" not in changed and _base_digest(folder) != values["base"]:
        changed.append(_BASE)
    missing = sorted(then.keys() - there.keys())
    return Differences(tuple(changed), tuple(missing), tuple(sorted(_deciding(folder).difference(then, leave_out))))


def _deciding(folder: Path) -> set[str]:
    """What decides an answer, of a model or of a verb."""
    return {*deciding_files(folder), *(name for name in _DECIDING_RECORDS if (folder / name).is_file())}


def check_bound(source: str | Path, what: str = "model") -> None:
    """Refuse a folder that is not as its run left it, and an adapter over one; one without a manifest is taken.

    Args:
        source: folder, or anything else that a model may be.
        what: word for it.

    Raises:
        ModelError: names the files.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return
    found = changes_in(folder)
    if found is not None and any(found):
        words = found.words
        more = f" (and {len(words) - _MOST_SAID} more)" if len(words) > _MOST_SAID else ""
        raise ModelError(
            f"{what} {folder} is not as its run left it: {', '.join(words[:_MOST_SAID])}{more}; "
            f"palimpsest verify {folder} says what can be done"
        )
    if adapter_in(folder):
        check_bound(base_of(folder).source, f"{what} {folder}: its base")


def unbound(source: str | Path) -> str | None:
    """Word on a run that has no manifest; None of what has one, or is no run."""
    folder = Path(source).expanduser()
    if not (folder / _RECORD).is_file() or has_manifest(folder):
        return None
    return f"{folder} is a run without {MANIFEST}: whether its files are still those of the run cannot be told"


def _bound(folder: Path, leave_out: Collection[str]) -> dict[str, Path]:
    """What a manifest binds: what decides answers, and the records beside it."""
    records = {path.name: path for path in folder.iterdir() if path.suffix in {".json", ".jsonl"} and path.is_file()}
    found = {**records, **deciding_files(folder)}
    return {n: p for n, p in found.items() if n not in _LOOSE and n not in leave_out and not n.startswith(".")}


def _holds(file: Path, content: object) -> bool:
    """Has a file this digest, or one of these? One that cannot be read has not."""
    try:
        return file_digest(file) in (content if isinstance(content, list) else [content])
    except OSError:
        return False


def _base_digest(folder: Path) -> str | None:
    """Of an adapter's base; None without one that can be found."""
    if not adapter_in(folder):
        return None
    try:
        return source_digest(*base_of(folder))
    except UsageError:
        return None


def _read(folder: Path) -> Mapping[str, Any]:
    """A manifest whose digest is its own; empty where there is none."""
    values = dict(read_json_object(folder / MANIFEST))
    said = values.pop("digest", None)
    files = values.get("files")
    if not isinstance(files, dict) or said != _digest(values):
        return {}
    return values


def _digest(values: Mapping[str, Any]) -> str | None:
    try:
        return digest(values)
    except (ValueError, TypeError):
        return None
