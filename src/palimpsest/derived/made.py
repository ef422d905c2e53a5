"""What a derived set must provide, and what it is made into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from palimpsest.method_card import Config

if TYPE_CHECKING:
    from palimpsest.data.encode.batch import ExampleSet
    from palimpsest.models.load import Loaded


@dataclass(frozen=True)
class Made:
    """A derived set as a run made it.

    Attributes:
        examples: of the set.
        partner: id of a set it is paired with -> id of its own; empty where nothing is paired.
        note: a sentence about it, for the report.
    """

    examples: ExampleSet
    partner: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


class Derived:
    """One way to make a set. Subclass it in ``derived/<name>.py`` and set ``DERIVED`` to an instance.

    Class attributes:
        Config: its options, in a plan under ``derived.<name>``.
        about: what is in it, in half a sentence.
        sources: sets it is made of, which the user must give.
        modalities: kinds of models that it can be made for.
        of_rows: it is made of the rows alone and nothing is asked or written, so that a method can look at it before
            anything is measured.
        speaks: is it what the model says, each token of which would be a question to one that can only be asked?
        reads_prefixes: must each token be predicted from those before it alone, as in a causal LM?
    """

    Config: ClassVar[type[BaseModel]] = Config
    about: ClassVar[str] = ""
    sources: ClassVar[tuple[str, ...]] = ()
    modalities: ClassVar[tuple[str, ...]] = ("text", "labels", "image")
    of_rows: ClassVar[bool] = False
    speaks: ClassVar[bool] = False
    reads_prefixes: ClassVar[bool] = True

    def make(self, loaded: Loaded, sets: Mapping[str, ExampleSet], config: Any, *, seed: int, folder: Path) -> Made:
        """Make the set, the same way at the start of a run and at every resume.

        Args:
            loaded: the model before the run, on its device.
            sets: all encoded sets of the run; those of ``sources`` are among them.
            config: validated options.
            seed: of the run.
            folder: of the run, for what cannot be made twice; must hold nothing of it when the run ends.
        """
        raise NotImplementedError
