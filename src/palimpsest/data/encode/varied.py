"""A set whose rows come in one of several forms, under their own ids.

Whose row it is does not depend on the form: what a run records, checks, measures and purges by id concerns the row. A
form is drawn row by row, by torch's global random numbers, which a run seeds and its checkpoints keep; as images are
augmented.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from palimpsest.data.encode.batch import ExampleSet


@dataclass(frozen=True)
class VariedSet:
    """Rows as they are, or in other words.

    Attributes:
        bare: the rows as they are: what is measured, and what ``plain`` gives.
        forms: all forms, the rows themselves among them, under ids of their own.
        names: id of a row -> ids of its forms.
    """

    bare: Any
    forms: ExampleSet
    names: Mapping[str, tuple[str, ...]]

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the rows."""
        ids: tuple[str, ...] = self.bare.ids
        return ids

    @property
    def family(self) -> str:
        """Of models that take it."""
        return str(self.bare.family)

    def __len__(self) -> int:
        return len(self.bare)

    def __getitem__(self, example_id: str) -> Any:
        return self.bare[example_id]

    @property
    def pad_id(self) -> int:
        """What fills its batches up."""
        return int(self.bare.pad_id)

    def batch(self, ids: Sequence[str]) -> Any:
        """The rows with these ids, each in a form that is drawn, under the ids of the rows."""
        drawn = torch.randint(0, 2**31 - 1, (len(ids),)).tolist()
        chosen = [self.names[i][word % len(self.names[i])] for i, word in zip(ids, drawn, strict=True)]
        made: Any = self.forms.batch(chosen)
        return replace(made, ids=tuple(ids))

    def subset(self, ids: Iterable[str]) -> VariedSet:
        """The rows with these ids as a set, in the order of this one."""
        return VariedSet(self.bare.subset(ids), self.forms, self.names)

    def plain(self) -> Any:
        """The rows as they are."""
        return self.bare.plain()


def as_written(examples: Any) -> Any:
    """A set without its other forms."""
    return examples.bare if isinstance(examples, VariedSet) else examples
