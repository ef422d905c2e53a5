"""A method's card: what its class says of it, read in its file without importing it.

Importing a method imports torch, which takes seconds; most of what a user can get wrong about one (it does not unlearn,
it needs another set, an option is spelled otherwise) stands in its file as plain values. They are read from the syntax
tree: literals, names of literals, and the classes that a class is made from. A file that is written in another way has
no card here, and its class is imported and asked instead (``card_of``): slower, and never another answer.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from palimpsest.chosen import Chosen
from palimpsest.errors import PlanError, unknown

if TYPE_CHECKING:
    from palimpsest.contract import Method

Kind = Literal["learn", "unlearn", "update"]
Modality = Literal["text", "labels", "image"]
"""What a model takes and says: tokens of a text (causal and sequence-to-sequence), the class of a text, of an image."""
NO_FLAGS: Mapping[str, str] = MappingProxyType({})
KIND_WORDS: Mapping[str, str] = {"text": "texts", "labels": "labelled texts", "image": "images"}
"""The same in words."""
Approach = Literal[
    "continual",
    "ascent",
    "preference",
    "relabelling",
    "distillation",
    "representation",
    "editing",
    "modules",
    "history",
    "retraining",
    "guard",
    "control",
]


class Config(Chosen):
    """Base of every option schema: frozen, unknown fields refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    RETIRED: ClassVar[Mapping[str, str]] = {}
    """Option of an earlier version -> what took its place."""


@dataclass(frozen=True)
class MethodCard:
    """What is known of a method without its torch: some class attributes of ``contract.Method``, and three more.

    Attributes:
        name: of its file.
        about: docstring of its file: what it is, its source, its equation.
        schema: the schema of its options.
    """

    name: str
    about: str
    schema: type[BaseModel]
    use_when: str
    approach: Approach
    kinds: tuple[Kind, ...]
    needs: tuple[str, ...]
    one_of: tuple[tuple[str, ...], ...]
    uses: tuple[str, ...]
    instead: Mapping[str, str]
    defaults: Mapping[str, Any]
    options_for_images: Mapping[str, Any]
    starts_from: Literal["model", "base"]
    looks_only: bool
    edits: bool
    edits_matrices: bool
    own_schedule: bool
    yardstick: bool
    isolates: bool
    adds_parts: bool
    sharded: bool
    moves_all: bool
    makes_head: bool
    tunes_alone: bool
    needs_part: str
    reads_prefixes: bool
    by_id: tuple[str, ...]
    reads: tuple[str, ...]
    keeps: tuple[str, ...]
    modalities: tuple[Modality, ...]
    only_asks: bool

    def configured(self, options: Mapping[str, Any]) -> BaseModel:
        """Validated options of the method.

        Raises:
            PlanError: an unknown option (names the closest one) or a value out of range.
        """
        return configured(self.name, self.schema, options)


OF_THE_CLASS = tuple(f.name for f in fields(MethodCard) if f.name not in ("name", "about", "schema"))


def card_of(name: str, method: type[Method]) -> MethodCard:
    """The card that the class itself gives."""
    about = (sys.modules[method.__module__].__doc__ or "").strip()
    return MethodCard(name, about, method.Config, **{key: getattr(method, key) for key in OF_THE_CLASS})


def check_names(name: str, known: Collection[str], given: Iterable[str]) -> None:
    """Refuse options that there are not.

    Raises:
        PlanError: names the closest one.
    """
    for option in given:
        if option not in known:
            raise PlanError(unknown(f"option of {name}", option, known))


def configured(
    name: str, schema: type[BaseModel], options: Mapping[str, Any], flags: Mapping[str, str] = NO_FLAGS
) -> BaseModel:
    """Options of a method, validated.

    Args:
        name: of the method.
        schema: of its options.
        options: option -> value; what is left out takes its default.
        flags: option -> flag by which it is given, where it has one; others are called "NAME.OPTION".

    Raises:
        PlanError: an unknown option (names the closest one) or a value out of range.
    """
    retired: Mapping[str, str] = getattr(schema, "RETIRED", {})
    gone = next((option for option in options if option in retired), None)
    if gone is not None:
        raise PlanError(f"{name}.{gone} is gone: {retired[gone]}")
    check_names(name, schema.model_fields, options)
    try:
        return schema.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors()[0]
        loc, said = [str(part) for part in first["loc"]], first["msg"].removeprefix("Value error, ")
        place = flags.get(".".join(loc)) or ".".join([name, *loc])
        raise PlanError(f"{place} = {first['input']!r}: {said}") from None
