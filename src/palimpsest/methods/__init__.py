"""One published method, one file; this folder is the registry.

A file here that sets ``METHOD`` is a method under its file name. Further folders are read from the environment
variable ``PALIMPSEST_METHODS`` (separated like ``PATH``), so a method of your own needs no fork. Importing this
package imports no torch.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from palimpsest.errors import PlanError, unknown

if TYPE_CHECKING:
    from palimpsest.contract import Method
    from palimpsest.method_card import MethodCard
    from palimpsest.models.families import Family


def names() -> tuple[str, ...]:
    """Names of all methods, sorted; nothing is imported."""
    stems = {file.removesuffix(".py") for folder in _folders() for file in _listed(folder) if file.endswith(".py")}
    return tuple(sorted(stem for stem in stems if "." not in stem and stem != "__init__"))


def _listed(folder: str) -> list[str]:
    """Names of a folder's files; a run asks some fifty times, which is why no file is looked at."""
    try:
        return os.listdir(folder)
    except OSError:  # as for an import: a folder that cannot be read has none
        return []


def load(name: str) -> type[Method]:
    """The method class of a name.

    Raises:
        PlanError: no such method; names the closest one. Or the file defines no METHOD.
    """
    if name not in names():
        raise PlanError(unknown("method", name, names()))
    method = getattr(_module(name), "METHOD", None)
    if method is None:
        raise PlanError(f"method file {name}.py sets no METHOD; end it with METHOD = <the class>")
    return method  # type: ignore[no-any-return]


def card(name: str) -> MethodCard:
    """What a method is, without importing it, unless its file is written so that only its class can tell.

    Raises:
        PlanError: no such method; or as ``load``.
    """
    path = file_of(name)
    return _card(name, path, path.stat().st_mtime_ns)


@lru_cache(maxsize=256)  # a run asks for its method's card again and again
def _card(name: str, path: Path, changed: int) -> MethodCard:
    """What a file, as it was last changed, says of its method."""
    from palimpsest.method_card import card_of
    from palimpsest.method_file import read_card

    return read_card(name, path) or card_of(name, load(name))


def works_on(method: MethodCard | type[Method]) -> tuple[str, ...]:
    """Kinds of models that a method is for: its own, as far as its derived sets can be made for them.

    >>> works_on(card("icu")), works_on(card("salun"))
    (('text',), ('text', 'labels', 'image'))
    """
    from palimpsest import derived

    able = derived.modalities_of(method.needs)
    return tuple(kind for kind in method.modalities if kind in able)


def fits_family(method: MethodCard | type[Method], family: Family) -> bool:
    """Is a method for a family of models, and can its derived sets be made for it?"""
    from palimpsest import derived

    made = [derived.load(name) for name in derived.of_needs(method.needs)]
    if method.reads_prefixes and not family.reads_prefixes:
        return False
    if not family.has_gradient and not method.only_asks:
        return False
    return family.takes in method.modalities and all(derived.can_be_made_for(one, family) for one in made)


def file_of(name: str) -> Path:
    """The file of a method.

    Raises:
        PlanError: no such method.
    """
    for folder in _folders() if name in names() else ():
        path = Path(folder) / f"{name}.py"
        if path.is_file():
            return path
    raise PlanError(unknown("method", name, names()))


def configure(name: str, options: Mapping[str, Any]) -> Any:
    """Validated options of a method.

    Raises:
        PlanError: an unknown option (names the closest one) or a value out of range.
    """
    from palimpsest.method_card import configured

    return configured(name, load(name).Config, options)


def _folders() -> list[str]:
    extra = [folder for folder in os.environ.get("PALIMPSEST_METHODS", "").split(os.pathsep) if folder]
    for folder in extra:
        if not Path(folder).is_dir():
            raise PlanError(f"PALIMPSEST_METHODS names {folder!r}, which is no folder")
    return [*__path__, *extra]


def _module(name: str) -> ModuleType:
    return _import(f"{__name__}.{name}", file_of(name))


def _import(module_name: str, path: Path) -> ModuleType:
    loaded = sys.modules.get(module_name)
    if loaded is not None and loaded.__file__ == str(path):
        return loaded
    if path.parent == Path(__path__[0]):
        return importlib.import_module(module_name)
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise PlanError(f"method file {path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    with ExitStack() as undo:
        sys.modules[module_name] = module  # pydantic resolves the file's annotations there
        undo.callback(sys.modules.pop, module_name)
        try:
            spec.loader.exec_module(module)
        except (ImportError, SyntaxError, NameError) as error:
            raise PlanError(f"method file {path} cannot be imported: {error}") from error
        undo.pop_all()
    return module


def is_guard(method: str) -> bool:
    """Does a method change no weight, and guard instead?"""
    return method in names() and card(method).approach == "guard"
