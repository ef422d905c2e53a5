"""What every row of the JSON twin is."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class ReportRow(BaseModel):
    """Base of every part of the twin: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, ser_json_inf_nan="strings")


def without_empty(values: dict[str, Any], *names: str) -> dict[str, Any]:
    """Values of a row without those that say nothing, so that files which do not need them stay as they were."""
    return {key: value for key, value in values.items() if value or key not in names}
