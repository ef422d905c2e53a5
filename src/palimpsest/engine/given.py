"""What the engine is given: ``Given`` decides what comes out of a run, ``Manner`` how it goes about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from palimpsest.data.read.layout import Layout, Source
from palimpsest.data.read.selection import Selection
from palimpsest.data.sets.roles import given_roles
from palimpsest.engine.progress import Progress, silent


@dataclass(frozen=True)
class Given:
    """What a request is given.

    Attributes:
        model: folder or Hub name of the model that changes.
        sets: role -> where its examples are.
        models: "base", "oracle", "revision" -> as given.
        data: the pool that ``selection`` takes the forget set from; None where the sets were given ready.
        selection: what of the pool must go.
        layout: how rows are laid out.
        asked_by: who asked, or "".
        asked_on: when, ISO 8601, or "".
        allow_forgotten: rows that were forgotten before may come back.
    """

    model: str
    sets: Mapping[str, Source]
    models: Mapping[str, str] = field(default_factory=dict)
    data: Source | None = None
    selection: Selection = field(default_factory=Selection)
    layout: Layout = field(default_factory=Layout)
    asked_by: str = ""
    asked_on: str = ""
    allow_forgotten: bool = False

    @property
    def roles(self) -> tuple[str, ...]:
        """Sets that the run will have, those from the pool included."""
        pooled = () if self.data is None else ("forget", "retain")
        return tuple(role for role in given_roles() if role in self.sets or role in pooled)


@dataclass(frozen=True)
class Manner:
    """How a run goes about it.

    Attributes:
        output: folder that will hold the model and its report.
        progress: told every stage.
        threads: CPU threads; None = one for a small model.
        trackers: names for ``report_to``.
        answers: record what the models say.
    """

    output: Path
    progress: Progress = silent
    threads: int | None = None
    trackers: tuple[str, ...] = ()
    answers: bool = True
