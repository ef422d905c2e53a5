"""Kinds of models: each is one file here, which sets ``FAMILIES``, and is listed in ``all_families``.

A family recognises a config, loads and encodes, names the head and what enters it, and states what its runs are
measured and judged by unless a plan says otherwise (``family.py``). Everything else asks the family of a model and has
no branches of its own. Nothing here imports torch before a model is loaded: what kind a model is, is asked before.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from palimpsest.models.families.family import Family

__all__ = ["CAUSAL", "Family", "all_families", "family_named", "family_that_takes", "of_config", "of_model"]

CAUSAL = "causal"
"""The family of what no other one recognises."""


@cache
def all_families() -> tuple[Family, ...]:
    """All of them, by name; those that are made from another one come last.

    >>> [family.name for family in all_families()][:4]
    ['causal', 'image_classifier', 'seq2seq', 'text_classifier']
    """
    from palimpsest.models.families import (
        black_box,
        causal_lm,
        custom_module,
        image_classifier,
        seq2seq,
        text_classifier,
    )

    # Imported, not looked up by name, so that the digest of a run covers their code.
    files = (black_box, causal_lm, custom_module, image_classifier, seq2seq, text_classifier)
    found: list[Family] = [family for file in files for family in file.FAMILIES]
    return tuple(sorted(found, key=lambda family: (len(type(family).__mro__), family.name)))


def family_named(name: str) -> Family:
    """The family of a name.

    >>> family_named("seq2seq").takes
    'text'
    """
    return next(family for family in all_families() if family.name == name)


def family_that_takes(takes: str) -> Family:
    """The family by which runs on a kind of examples are judged, where no more is known of their model.

    >>> family_that_takes("image").name, family_that_takes("text").name
    ('image_classifier', 'causal')
    """
    return next(family for family in all_families() if family.takes == takes)


def of_config(config: Mapping[str, Any]) -> Family:
    """The family of a config.json; causal where no other one recognises it."""
    others = (family for family in all_families() if family.name != CAUSAL and family.recognises(config))
    return next(others, family_named(CAUSAL))


def of_model(model: Any) -> Family:
    """The family of a model in memory, however it is wrapped."""
    others = (family for family in all_families() if family.name != CAUSAL and family.has_made(model))
    return next(others, family_named(CAUSAL))
