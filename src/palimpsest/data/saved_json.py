"""JSON values that were saved earlier -> objects, checked against their schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from palimpsest.errors import DataError

T = TypeVar("T")


def restored(schema: type[T], value: Mapping[str, Any], what: str) -> T:
    """An instance of a pydantic model or of a dataclass.

    Args:
        schema: the class.
        value: what its ``to_json`` gave, after any trip through JSON.
        what: words for an error, such as "a request stream".

    Raises:
        DataError: the first place where the value breaks the schema, and how many more there are.
    """
    if not isinstance(value, Mapping):
        raise DataError(f"this is a {type(value).__name__} and not {what}; accepted: what was saved as one")
    try:
        return TypeAdapter(schema).validate_json(json.dumps(dict(value)), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the whole"
        problem = f"{place}: {first['msg']} ({error.error_count()} in all)"
    except (TypeError, ValueError) as error:
        problem = str(error)
    raise DataError(f"this is not {what}, {problem}; accepted: what was saved as one")
