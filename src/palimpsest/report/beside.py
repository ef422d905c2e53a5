"""An adapter that was not merged: what it was trained to forget stands in the base beside it, in full."""

from __future__ import annotations

from collections.abc import Mapping

from palimpsest import methods
from palimpsest.report.meaning import UNLEARNING

WHOLE_BASE = (
    "The adapter was not merged (scope.merge = false): the base beside it still knows every row that was to be "
    "forgotten, and whoever leaves the adapter off has the model from before"
)


def is_beside_its_base(kind: str, method: str, scope: Mapping[str, object]) -> bool:
    """Was something unlearned by an adapter alone, laid on the model that knows it?

    >>> is_beside_its_base("unlearn", "npo", {"kind": "lora", "merge": False})
    True
    """
    if kind not in UNLEARNING or scope.get("kind") != "lora" or scope.get("merge", True):
        return False
    return method not in methods.names() or methods.card(method).starts_from != "base"
