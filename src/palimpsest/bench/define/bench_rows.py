"""Rows of a bench: a method that does all, or a chain of one that learns and one that unlearns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pydantic import Field

from palimpsest import methods
from palimpsest.bench.results import CONTROLS
from palimpsest.engine.sections import Section
from palimpsest.errors import unknown
from palimpsest.method_card import Kind

Sections = dict[str, dict[str, Any] | list[dict[str, Any]]]


class BenchRow(Section):
    """One row of the tables."""

    chain: str
    """"ug_clu", or "er+salun"."""
    methods: dict[str, Sections] = Field(default_factory=dict)
    """Method of the chain -> its sections in this row, over those of the bench."""
    only_learns: bool = False
    """Requests to forget are not answered: the control that does nothing about them."""

    @property
    def names(self) -> tuple[str, ...]:
        """Methods of the chain."""
        return tuple(self.chain.split("+"))

    @property
    def learner(self) -> str:
        """The first that learns."""
        return next(name for name in self.names if "learn" in methods.card(name).kinds)

    @property
    def unlearner(self) -> str | None:
        """The last that unlearns; None in the row that only learns."""
        if self.only_learns:
            return None
        return next((name for name in reversed(self.names) if "unlearn" in methods.card(name).kinds), None)

    @property
    def spares_weights(self) -> bool:
        """Is what it forgets taken off a head that it made, so that no weight moves?"""
        card = None if self.unlearner is None else methods.card(self.unlearner)
        return card is not None and card.edits and card.makes_head

    @property
    def isolates(self) -> bool:
        """Does it answer what is temporary by networks of their own?"""
        return not self.only_learns and methods.card(self.names[0]).isolates

    def parts(self, *, learns: bool, forgets: bool) -> tuple[tuple[Kind, str], ...]:
        """What runs on a request, in order: what it is for, and by which method."""
        if learns and forgets and self.learner == self.unlearner and "update" in methods.card(self.learner).kinds:
            return (("update", self.learner),)
        found: list[tuple[Kind, str]] = []
        if forgets and self.unlearner is not None:
            found.append(("unlearn", self.unlearner))
        return (*found, ("learn", self.learner)) if learns else tuple(found)

    def problems(self, label: str) -> Iterator[str]:
        """What is wrong with a row of this name."""
        if label in CONTROLS:
            yield f"row {label!r} is always there; accepted: other names"
        if strangers := [name for name in self.names if name not in methods.names()]:
            yield _unknown_method(label, strangers[0])
            return
        for name in filter(lambda name: name not in self.names, self.methods):
            yield unknown(f"method with sections in row {label!r}", name, self.names)
        if len(self.names) > 2:
            yield f"row {label!r} is a chain of {len(self.names)}; accepted: one method, or two joined by '+'"
        if not any(methods.card(name).isolates for name in self.names):
            yield from self._unable(label)
        elif len(self.names) > 1:
            yield f"row {label!r} joins a method that isolates to another; accepted: it stands alone"

    @property
    def _asked(self) -> tuple[Kind, ...]:
        """What the requests ask of it."""
        return ("learn",) if self.only_learns else ("learn", "unlearn")

    def _unable(self, label: str) -> Iterator[str]:
        """What no method of the chain can do, or not in its place."""
        kinds = [methods.card(name).kinds for name in self.names]
        for kind in self._asked:
            if not any(kind in own for own in kinds):
                able = ", ".join(name for name in methods.names() if kind in methods.card(name).kinds)
                yield f"row {label!r} has no method that can {kind}; accepted: a chain like er+npo, with one of {able}"
        if len(kinds) == 2 and "learn" in kinds[1] and "learn" not in kinds[0]:
            yield f"row {label!r} unlearns before it learns; accepted: {self.names[1]}+{self.names[0]}"


def _unknown_method(label: str, name: str) -> str:
    """A row that is called by its only method is not named twice."""
    return unknown("method" if label == name else f"method of row {label!r}", name, methods.names())


def merged(*layers: Sections) -> Sections:
    """Sections of several layers, the later ones over the earlier ones.

    >>> merged({"training": {"a": 1, "b": 1}}, {"training": {"b": 2}})
    {'training': {'a': 1, 'b': 2}}
    >>> merged({"rules": [{"kind": "ema"}]}, {"rules": []})
    {'rules': []}
    """
    found: Sections = {}
    for layer in layers:
        for name, values in layer.items():
            below = found.get(name, {})
            if isinstance(below, dict) and isinstance(values, dict):
                found[name] = {**below, **values}
            else:
                found[name] = values  # of lists, as rules, the later one
    return found
