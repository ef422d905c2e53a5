"""The file of a run's JSON twin, before anybody looks whether it is one."""

from __future__ import annotations

from pathlib import Path

from palimpsest.errors import DataError
from palimpsest.untrusted import parse_json

TWIN = "the result.json that a palimpsest run writes"


def json_of(path: Path, wanted: str = TWIN) -> object:
    """The value in a file.

    Args:
        path: of the file.
        wanted: what belongs there, in words.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}; accepted: {wanted}") from error
    except ValueError as error:
        # UnicodeDecodeError and JSONDecodeError are both ValueErrors.
        raise DataError(f"'{path}' is not JSON: {error}; give {wanted}") from error


def without_record(folder: Path) -> str:
    """What a folder without a result.json is, as far as its files tell, and what to do."""
    if (folder / "plan.json").is_file():
        return f"{folder} is a run that has not ended: it has no result.json; the command that began it goes on with it"
    if any((folder / name).is_file() for name in ("config.json", "adapter_config.json")):
        return (
            f"{folder} is a model that no run has measured (it has no result.json), as parts, export and "
            f"save_pretrained write one; palimpsest measure --model {folder} --data FILE tells how it does"
        )
    return f"{folder} holds no result.json; give the folder of a finished run"
