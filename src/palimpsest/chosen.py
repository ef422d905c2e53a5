"""What every group of options has in common."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ValidationInfo, field_validator


class Chosen(BaseModel):
    """Base of what a user chooses: true and false are no numbers, though Python counts them as 1 and 0."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, bool) and not _takes_truth(cls.model_fields[str(info.field_name)].annotation):
            raise ValueError(f"Input should be a value of its kind, not {str(value).lower()}")
        return value


def _takes_truth(kind: Any) -> bool:
    """May a field of this type be true or false? Alternatives and literals are looked into, lists are not."""
    return kind is bool or kind is Any or isinstance(kind, bool) or any(map(_takes_truth, _alternatives(kind)))


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return () if isinstance(kind, type) else get_args(kind)
