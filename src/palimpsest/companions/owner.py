"""Which version a history belongs to: the digest of the model that it was written for, in a file of its own beside it.

A history that was put beside another model, even one on the same backbone, counts other rows, under other classes: what
would be taken off with it is not what that model learned.
"""

from __future__ import annotations

from pathlib import Path

from palimpsest.companions.companion import damaged
from palimpsest.errors import ModelError
from palimpsest.models.sealed_json import read_sealed, write_sealed

_FILE = "version.json"


def write_owner(folder: Path, model: str) -> None:
    """Bind a history to a version; on return it is on the disk.

    Args:
        folder: of the history.
        model: digest of the version (``models/sources.py: source_digest``).
    """
    write_sealed(folder / _FILE, {"model": model})


def check_owner(folder: Path, model: str, where: str) -> None:
    """Refuse a history of another version; one that is not bound, as of earlier releases, is taken.

    Args:
        folder: of the history.
        model: digest of the version that it lies beside.
        where: that version, in words.

    Raises:
        ModelError: it belongs to another version, or its file is damaged.
    """
    path = folder / _FILE
    if not path.is_file():
        return
    try:
        said = read_sealed(path)["model"]
    except (OSError, ValueError, LookupError, TypeError):
        raise damaged(path) from None
    if said != model:
        raise ModelError(
            f"the {folder.name} beside {where} are of another version than the model there (other weights, head or "
            f"classes); accepted: the folder as its run left it; or delete {folder} and learn anew"
        )
