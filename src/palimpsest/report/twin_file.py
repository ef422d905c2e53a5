"""The file of a run's JSON twin, before anybody looks whether it is one."""

from __future__ import annotations

from pathlib import Path

from palimpsest.errors import DataError
from palimpsest.untrusted import parse_json


def json_of(path: Path) -> object:
    """The value in a file.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"cannot read '{path}': {error.strerror or error}; accepted: the result.json that a palimpsest run writes"
        ) from error
    except ValueError as error:
        # UnicodeDecodeError and JSONDecodeError are both ValueErrors.
        raise DataError(f"'{path}' is not JSON: {error}; give the result.json that a palimpsest run writes") from error
