"""How rows are laid out, as one text: a run of Flower's bears texts and numbers alone."""

from __future__ import annotations

import json
from dataclasses import asdict

from palimpsest.data.read.layout import Layout


def layout_text(layout: Layout) -> str:
    """A layout as JSON."""
    return json.dumps({**asdict(layout), "columns": dict(layout.columns), "ignore": sorted(layout.ignore)})


def layout_from(text: str) -> Layout:
    """And back.

    >>> layout_from(layout_text(Layout(ignore=frozenset({"b"}), token_ids=True))).ignore
    frozenset({'b'})
    """
    values = json.loads(text)
    return Layout(**{**values, "ignore": frozenset(values["ignore"])})
