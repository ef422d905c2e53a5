"""Parts: modules beside a model's own. This folder is the registry of their kinds.

A file here that sets ``PART`` is a kind of part under its file name; further folders are read from the environment
variable ``PALIMPSEST_PARTS`` (separated like ``PATH``), so a part of your own needs no fork. Importing this package
imports no torch.

A model bears its parts as ``model.palimpsest_parts``, an ordered list: those of earlier requests first. They are in its
``named_parameters`` and its state dict under that name, and no other name of the model changes.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from palimpsest.errors import ModelError, PlanError, unknown
from palimpsest.method_file import files_that_set
from palimpsest.untrusted import refusing

if TYPE_CHECKING:
    from palimpsest.models.parts.part import Part

AnyPart = TypeVar("AnyPart", bound="Part")

ATTRIBUTE = "palimpsest_parts"
"""Of a model that bears parts."""


def names() -> tuple[str, ...]:
    """All kinds, sorted; nothing is imported.

    >>> "lora" in names()
    True
    """
    return tuple(sorted(_files()))


def load(kind: str) -> type[Part]:
    """The class of a kind.

    Raises:
        ModelError: no such kind; names the closest one. Or its file cannot be used.
    """
    files = _files()
    if kind not in files:
        more = "a kind of your own is found in a folder that PALIMPSEST_PARTS names"
        raise ModelError(f"{unknown('kind of part', kind, files)}; {more}")
    part: type[Part] = _module(kind, files[kind]).PART
    if part.kind != kind:
        raise ModelError(f"part file {files[kind].name} sets kind = {part.kind!r}; accepted: the file's own name")
    return part


def files_of_kinds(kinds: Iterable[str]) -> tuple[Path, ...]:
    """The files of some kinds, which decide what a model with such parts answers; unknown kinds have none."""
    files = _files()
    return tuple(files[kind] for kind in sorted(set(kinds)) if kind in files)


def part_options(kind: str, options: Mapping[str, Any]) -> Any:
    """Validated options of a part.

    Raises:
        ModelError: no such kind.
        PlanError: an unknown option or a value out of range.
    """
    from palimpsest.method_card import configured

    return configured(f"part {kind}", load(kind).Config, options)


def _files() -> dict[str, Path]:
    """Kind -> its file."""
    extra = [folder for folder in os.environ.get("PALIMPSEST_PARTS", "").split(os.pathsep) if folder]
    for folder in extra:
        if not Path(folder).is_dir():
            raise PlanError(f"PALIMPSEST_PARTS names {folder!r}, which is no folder")
    return {file.stem: file for file in files_that_set("PART", (*extra, *__path__))}


def _module(kind: str, path: Path) -> Any:
    """The module of a kind; one outside the package is run once."""
    name = f"{__name__}.{kind}"
    if path.parent == Path(__path__[0]):
        return import_module(name)
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ModelError(f"part file {path} cannot be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # pydantic resolves annotations there
    try:
        with refusing(lambda reason: ModelError(f"part file {path} cannot be imported: {reason}")):
            spec.loader.exec_module(module)
    except ModelError:
        del sys.modules[name]
        raise
    return module


def bearer_of(model: Any) -> Any:
    """The model that bears the parts: what stands in a PEFT model or a wrapper for several processes."""
    inner = getattr(model, "module", model)
    return inner.get_base_model() if hasattr(inner, "peft_config") and hasattr(inner, "get_base_model") else inner


def parts_of(model: Any) -> tuple[Part, ...]:
    """The parts of a model, oldest first; nothing for a model without any."""
    return tuple(getattr(bearer_of(model), ATTRIBUTE, ()))


def parts_of_kind(model: Any, kind: type[AnyPart]) -> list[AnyPart]:
    """Those of a kind, or of the kinds that are made of it."""
    return [part for part in parts_of(model) if isinstance(part, kind)]


def new_parts_of(model: Any) -> tuple[Part, ...]:
    """Those that the run at hand made."""
    return tuple(part for part in parts_of(model) if part.is_new)


def named_buffers_of(model: Any, part: Part) -> tuple[str, ...]:
    """Names, as in the state dict of the model, of what a part of it keeps and does not train."""
    number = next(number for number, one in enumerate(parts_of(model)) if one is part)
    return tuple(f"{ATTRIBUTE}.{number}.{name}" for name, _ in part.named_buffers())


def attach(model: Any, parts: Sequence[Part]) -> Any:
    """Add parts to a model, behind those that it has; frozen ones stay frozen.

    Returns:
        The model itself.

    Raises:
        ModelError: a place does not exist; nothing is attached then.
    """
    if not parts:
        return model
    from torch import nn

    bearer = bearer_of(model)
    if getattr(bearer, ATTRIBUTE, None) is None:
        setattr(bearer, ATTRIBUTE, nn.ModuleList())
        _save_whole(bearer)
    done: list[Part] = []
    try:
        for part in parts:
            part.attach(bearer)
            done.append(part)
    except BaseException:
        _release(bearer, [*done, part])
        raise
    getattr(bearer, ATTRIBUTE).extend(parts)
    for part in parts:
        part.train(bearer.training)
    return model


def detach(model: Any, parts: Sequence[Part] | None = None) -> tuple[Part, ...]:
    """Take parts off a model; the others stay, in their order.

    Args:
        model: bears them.
        parts: all of them when None.

    Returns:
        What was taken off, in the model's order.
    """
    bearer = bearer_of(model)
    held = parts_of(bearer)
    gone = [part for part in held if parts is None or any(part is one for one in parts)]
    kept = [part for part in held if part not in gone]
    if not held:
        return ()
    _release(bearer, held)  # all: those that stay must act in the order of the list
    delattr(bearer, ATTRIBUTE)
    bearer.__dict__.pop("save_pretrained", None)
    attach(bearer, kept)
    return tuple(gone)


def taken_up(model: Any, parts: Sequence[AnyPart]) -> list[AnyPart]:
    """Parts of an earlier run, taken off the model for the run at hand to go on with."""
    detach(model, parts)
    for part in parts:
        part.continues = True
    return list(parts)


def _release(bearer: Any, parts: Sequence[Part]) -> None:
    """No hook of these any more; a list without any is no list."""
    for part in parts:
        part.detach()
    if not len(getattr(bearer, ATTRIBUTE)):
        delattr(bearer, ATTRIBUTE)
        bearer.__dict__.pop("save_pretrained", None)


def _save_whole(bearer: Any) -> None:
    """Have ``save_pretrained`` write the parts beside the base: in one file with it they would be lost at a load."""
    from types import MethodType

    def save_pretrained(self: Any, folder: Any, **options: Any) -> None:
        """Write the model with its parts, in the layout that palimpsest reads."""
        from palimpsest.models.parts.with_parts import write_version

        write_version(self, Path(folder), **options)

    bearer.save_pretrained = MethodType(save_pretrained, bearer)  # bound: a deep copy saves the copy


@contextmanager
def base_alone(model: Any) -> Iterator[tuple[Part, ...]]:
    """The model without its parts in the block, which are given; afterwards they are on it again."""
    parts = detach(model)
    try:
        yield parts
    finally:
        attach(model, parts)


@contextmanager
def off(model: Any, parts: Sequence[Part] | None = None) -> Iterator[None]:
    """Parts leave the model alone in the block: all of them, or some."""
    silent = parts_of(model) if parts is None else tuple(parts)
    for part in silent:
        part.times_off += 1
    try:
        yield
    finally:
        for part in silent:
            part.times_off -= 1
