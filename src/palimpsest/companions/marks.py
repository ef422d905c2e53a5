"""Marks of rows: keyed digests (HMAC-SHA256), so that who finds a folder cannot try names and texts against it.

The key is a file of this user, outside every folder that is handed on: ``PALIMPSEST_KEY_FILE``, else ``palimpsest/key``
in the folder where the system keeps the state of programs. It is made on first use, readable by its owner alone.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from collections.abc import Container, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from palimpsest.data.sets.alike import plain_reading
from palimpsest.errors import DataError, ModelError, reachable
from palimpsest.records import Example

KEY_VARIABLE = "PALIMPSEST_KEY_FILE"
_BYTES = 32  # of a key
_DIGITS = 32  # of a mark: 128 bits

Mark = tuple[str, str]
"""Of one row: its id, and what it says; "" where that was never recorded."""


@dataclass(frozen=True)
class MarkKey:
    """A key, and the marks that it makes."""

    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """Tells keys apart, and tells nothing of the key."""
        return self._digest("name", "")[:16]

    def of(self, example: Example) -> Mark:
        """The mark of a row."""
        return self.of_id(example.id), self.of_content(example)

    def of_id(self, example_id: str) -> str:
        """The mark of an id."""
        return self.of_digest(hashlib.sha256(example_id.encode("utf-8", "surrogatepass")).hexdigest())

    def of_ids(self, ids: Iterable[str]) -> set[str]:
        """The marks of some ids."""
        return set(map(self.of_id, ids))

    def known(self, ids: Iterable[str], marks: Container[str]) -> frozenset[str]:
        """Those of some ids whose marks are among these."""
        return frozenset(i for i in ids if self.of_id(i) in marks)

    def of_digest(self, id_digest: str) -> str:
        """The mark of an id, from its SHA-256: all that records of version 0.1.0 have of it."""
        return self._digest("id", id_digest)

    def of_content(self, example: Example) -> str:
        """The mark of what a row says, however it is written."""
        return self._digest("content", plain_reading(example.content))

    def seal(self, text: str) -> str:
        """Of a whole record, so that a change of it shows."""
        return self._digest("record", text)

    def _digest(self, kind: str, text: str) -> str:
        said = f"{kind}\0{text}".encode("utf-8", "surrogatepass")
        return hmac.digest(self.secret, said, "sha256").hex()[:_DIGITS]


def key_file() -> Path:
    """Where the key lies, or will."""
    placed = os.environ.get(KEY_VARIABLE)
    if placed:
        return Path(placed).expanduser()
    state = os.environ.get("XDG_STATE_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(state) if state else Path("~/.local/state").expanduser()) / "palimpsest" / "key"


def own_key() -> MarkKey | None:
    """The key of this user, made where there is none yet; None where the usual place cannot be written to.

    Raises:
        DataError: the file is no key, or ``PALIMPSEST_KEY_FILE`` names a place that cannot be used.
    """
    try:
        path = key_file()
        return MarkKey(_read(path) if _is_there(path) else _made(path))
    except (OSError, RuntimeError) as error:  # no home, no permission, a full disk
        if not os.environ.get(KEY_VARIABLE):
            return None
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{KEY_VARIABLE} = {os.environ[KEY_VARIABLE]}: {reason}; give a file you can write") from None


def check_key(folder: Path, name: str, key: MarkKey, *, whose: str = "") -> None:
    """Refuse a history that was recorded with another key.

    Args:
        folder: of the history.
        name: of the key that it was recorded with.
        key: at hand.
        whose: what of the rows is in it, in words, where this user's key may be anywhere.

    Raises:
        ModelError: it is another one.
    """
    if name == key.name:
        return
    if not whose:
        raise ModelError(f"{folder} was recorded with another key; bring back the key it was made with")
    raise ModelError(
        f"{folder} was recorded with another key (not {key_file()}), so that whose {whose} are in it cannot be told; "
        f"bring the key and set {KEY_VARIABLE}"
    )


def known_key() -> MarkKey | None:
    """The key of this user as far as there is one; none is made.

    Raises:
        DataError: as ``own_key``.
    """
    with suppress(OSError, RuntimeError):
        return own_key() if key_file().exists() else None
    return None


def _is_there(path: Path) -> bool:
    if os.environ.get(KEY_VARIABLE):
        reachable(path, KEY_VARIABLE)
    return path.exists()


def _read(path: Path) -> bytes:
    with suppress(ValueError):
        if path.is_file():  # a pipe would be waited for, and a device read without end
            with path.open("rb") as file:
                key = bytes.fromhex(file.read(1000).decode("ascii").strip())
            if len(key) >= _BYTES:
                return key
    raise DataError(
        f"{path} is no key of palimpsest (accepted: {2 * _BYTES} hexadecimal digits); bring back the right file, or "
        f"set {KEY_VARIABLE} to another: what was recorded with the old one can then not be checked"
    )


def _made(path: Path) -> bytes:
    """A new key in its place, or the one that another process put there meanwhile."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(temporary, path)  # never over a key that is there
    finally:
        temporary.unlink(missing_ok=True)
    return _read(path)
