"""Reads a method's card, or the options of a rule or an eraser, in its file, from the syntax tree.

Only what needs no running is understood: literals, names of literals, and bases. Anything else (a decorated class, a
validator, a value that is computed, a statement that could change a name later) makes the whole file unreadable,
because a half-read card could be wrong.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, reduce
from itertools import chain
from operator import or_
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, create_model

from palimpsest.method_card import OF_THE_CLASS, Config, MethodCard

_PACKAGE = Path(__file__).parent
_ROOT_OF_OPTIONS = (_PACKAGE / "method_card.py", Config.__name__)
TYPES: Mapping[str, Any] = {"bool": bool, "float": float, "int": int, "str": str}
CONTAINERS: Mapping[str, Any] = {"dict": dict, "list": list, "tuple": tuple}
INERT = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.Pass)


class Unreadable(Exception):
    """The file has to be run to know what it says."""


def read_card(name: str, path: Path) -> MethodCard | None:
    """The card of a method, or None where its class has to be asked.

    Args:
        name: of the method.
        path: of its file.
    """
    try:
        file = _file(path, path.stat().st_mtime_ns)
        place, node = file.definition("METHOD")
        members = _members(place, _class(place, node))
        said = {key: _value(*members[key]) for key in OF_THE_CLASS}
        return MethodCard(name, (ast.get_docstring(file.tree) or "").strip(), _schema(*members["Config"]), **said)
    except (Unreadable, OSError, SyntaxError, ValueError, TypeError, KeyError, RuntimeError):
        return None  # the last four: of literal_eval and of pydantic, about what is no literal or no option


def read_values(path: Path, mark: str, names: Iterable[str]) -> tuple[str, dict[str, Any]] | None:
    """The docstring of a file, and values of the class that it sets a mark to; None where that has to be asked.

    Args:
        path: of the file.
        mark: the name that the file sets to the class, e.g. "RULE".
        names: of the attributes.
    """
    try:
        file = _file(path, path.stat().st_mtime_ns)
        place, node = file.definition(mark)
        members = _members(place, _class(place, node))
        return (ast.get_docstring(file.tree) or "").strip(), {name: _value(*members[name]) for name in names}
    except (Unreadable, OSError, SyntaxError, ValueError, TypeError, KeyError):
        return None


def read_rule(path: Path) -> tuple[str, str, str] | None:
    """Of a rule its docstring, when to use it and its place; None where its class has to be asked.

    Args:
        path: of its file.
    """
    found = read_values(path, "RULE", ("use_when", "place"))
    return None if found is None else (found[0], found[1]["use_when"], found[1]["place"])


def read_options(path: Path, mark: str) -> type[BaseModel] | None:
    """The schema of a rule's options, or an eraser's; None where they check each other, which has to be run.

    Args:
        path: of its file.
        mark: the name that the file sets to the class, e.g. "RULE".
    """
    try:
        file = _file(path, path.stat().st_mtime_ns)
        place, node = file.definition(mark)
        return _schema(*_members(place, _class(place, node))["Config"])
    except (Unreadable, OSError, SyntaxError, ValueError, TypeError, KeyError, RuntimeError):
        return None


def read_names_of_rule_options(path: Path) -> tuple[str, ...] | None:
    """The names of a rule's options, also where they check each other; None where its class has to be asked.

    Args:
        path: of its file.
    """
    try:
        file = _file(path, path.stat().st_mtime_ns)
        place, node = file.definition("RULE")
        return tuple(_names_of_options(*_members(place, _class(place, node))["Config"]))
    except (Unreadable, OSError, SyntaxError, ValueError, KeyError):
        return None


class _File:
    """The names that a file sets at its top level, each once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self._nodes: dict[str, ast.stmt | ast.expr] = {}
        for statement in self.tree.body:
            for name, node in _bound(statement):
                if name in self._nodes and not isinstance(node, ast.Import):
                    raise Unreadable
                self._nodes[name] = node

    def definition(self, name: str) -> tuple[_File, ast.stmt | ast.expr]:
        """What a name stands for, and the file that says so; names of other files of the package are followed."""
        node = self._nodes.get(name)
        if isinstance(node, ast.ImportFrom):
            source = _source(node)
            return _file(source, source.stat().st_mtime_ns).definition(_imported_as(node, name))
        if isinstance(node, ast.Name):
            return self.definition(node.id)
        if node is None:
            raise Unreadable
        return self, node


@lru_cache(maxsize=256)
def _file(path: Path, changed: int) -> _File:
    return _File(path)


def _bound(statement: ast.stmt) -> Iterator[tuple[str, ast.stmt | ast.expr]]:
    """Names that a top-level statement sets, with what they stand for."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        yield statement.name, statement
    elif isinstance(statement, ast.Import | ast.ImportFrom):
        yield from ((_local_name(alias), statement) for alias in statement.names)
    elif isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
        yield from ((name, statement.value) for name in _names_set(statement))
    elif isinstance(statement, ast.If) and _is_for_types(statement):
        yield from chain.from_iterable(map(_bound, statement.body))
    elif not _is_docstring(statement):
        raise Unreadable


def _local_name(alias: ast.alias) -> str:
    """What an import calls a module, or a name of one (which has no dots), in the file."""
    return alias.asname or alias.name.partition(".")[0]


def _targets(statement: ast.Assign | ast.AnnAssign) -> Sequence[ast.expr]:
    return statement.targets if isinstance(statement, ast.Assign) else [statement.target]


def _names_set(statement: ast.Assign | ast.AnnAssign) -> list[str]:
    """What an assignment at the top level sets: names alone, or something of a class may be set behind its back."""
    targets = _targets(statement)
    names = [target.id for target in targets if isinstance(target, ast.Name)]
    if len(names) < len(targets):
        raise Unreadable
    return names


def _is_for_types(statement: ast.If) -> bool:
    return ast.unparse(statement.test) == "TYPE_CHECKING" and not statement.orelse


def _imported_as(statement: ast.ImportFrom, name: str) -> str:
    return next(alias.name for alias in statement.names if (alias.asname or alias.name) == name)


def _source(statement: ast.ImportFrom) -> Path:
    """The file of this package that an import names."""
    first, *rest = (statement.module or "").split(".")
    place = _PACKAGE.joinpath(*rest)
    found = [p for p in (place / "__init__.py", place.with_name(place.name + ".py")) if p.is_file()]
    if first != "palimpsest" or statement.level or not found:
        raise Unreadable
    return found[0]


def _class(file: _File, node: ast.stmt | ast.expr) -> ast.ClassDef:
    if not isinstance(node, ast.ClassDef) or node.decorator_list or node.keywords or len(node.bases) > 1:
        raise Unreadable
    if not all(isinstance(inner, INERT) or _is_docstring(inner) for inner in node.body):
        raise Unreadable
    return node


def _base(file: _File, node: ast.ClassDef) -> tuple[_File, ast.ClassDef] | None:
    if not node.bases:
        return None
    if not isinstance(node.bases[0], ast.Name):
        raise Unreadable
    place, base = file.definition(node.bases[0].id)
    return place, _class(place, base)


def _members(file: _File, node: ast.ClassDef) -> dict[str, tuple[_File, ast.expr]]:
    """Name -> value of the attributes of a class and its bases, with the file that each stands in."""
    base = _base(file, node)
    found = {} if base is None else _members(*base)
    for statement in node.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            found |= {ast.unparse(target): (file, statement.value) for target in _targets(statement)}
        elif isinstance(statement, ast.FunctionDef):
            found.pop(statement.name, None)  # a property in the place of a value
    return found


def _value(file: _File, node: ast.stmt | ast.expr) -> Any:
    """A literal, or a name of one."""
    if isinstance(node, ast.Name):
        return _value(*file.definition(node.id))
    if isinstance(node, ast.JoinedStr) or not isinstance(node, ast.expr):
        raise Unreadable
    return ast.literal_eval(node)


def _schema(file: _File, node: ast.expr) -> type[BaseModel]:
    """The option schema that a name stands for, built from its fields."""
    if not isinstance(node, ast.Name):
        raise Unreadable
    place, found = file.definition(node.id)
    return _built(place, _class_of_options(place, found))


def _class_of_options(file: _File, node: ast.stmt | ast.expr) -> ast.ClassDef:
    if not isinstance(node, ast.ClassDef) or node.decorator_list or node.keywords or len(node.bases) != 1:
        raise Unreadable
    return node


def _parent_of_options(file: _File, node: ast.ClassDef) -> tuple[_File, ast.ClassDef]:
    if not isinstance(node.bases[0], ast.Name):
        raise Unreadable
    place, base = file.definition(node.bases[0].id)
    return place, _class_of_options(place, base)


def _built(file: _File, node: ast.ClassDef) -> type[BaseModel]:
    if (file.path, node.name) == _ROOT_OF_OPTIONS:
        return Config
    parent = _built(*_parent_of_options(file, node))
    options: dict[str, Any] = {}
    retired: Mapping[str, str] | None = None
    for number, statement in enumerate(node.body):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            options[statement.target.id] = _option(file, statement, _docstring(node.body, number + 1))
        elif isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "RETIRED":
            retired = _value(file, statement.value)
        elif not (_is_docstring(statement) or isinstance(statement, ast.Pass)):
            raise Unreadable  # a validator, or something else that decides what is accepted
    schema = create_model(node.name, __base__=parent, __doc__=ast.get_docstring(node), **options)
    if retired is not None:
        schema.RETIRED = retired  # type: ignore[attr-defined]
    return schema


def _names_of_options(file: _File, node: ast.stmt | ast.expr) -> Iterator[str]:
    """The annotated fields of a schema and its bases, whatever else it says."""
    if isinstance(node, ast.Name):
        yield from _names_of_options(*file.definition(node.id))
        return
    if (file.path, getattr(node, "name", "")) == _ROOT_OF_OPTIONS:
        return
    schema = _class_of_options(file, node)
    yield from _names_of_options(*_parent_of_options(file, schema))
    for statement in schema.body:
        if isinstance(statement, ast.Assign) or "ClassVar" in ast.unparse(getattr(statement, "annotation", statement)):
            raise Unreadable
        if isinstance(statement, ast.AnnAssign):
            yield ast.unparse(statement.target)


def _option(file: _File, statement: ast.AnnAssign, about: str | None) -> tuple[Any, Any]:
    """Type and field of one option, as ``create_model`` takes them."""
    kind, given = _type(file, statement.annotation), statement.value
    if given is None:
        return kind, Field(description=about)
    if isinstance(given, ast.Call):
        if ast.unparse(given.func) != "Field" or given.args or not all(keyword.arg for keyword in given.keywords):
            raise Unreadable
        bounds = {str(keyword.arg): _value(file, keyword.value) for keyword in given.keywords}
        return kind, Field(**{"description": about, **bounds})
    return kind, Field(default=_value(file, given), description=about)


def _type(file: _File, node: ast.stmt | ast.expr) -> Any:
    """The type that an annotation stands for: plain ones, unions, literals, containers of them, and names of these."""
    if isinstance(node, ast.Name):
        return TYPES[node.id] if node.id in TYPES else _type(*file.definition(node.id))
    if isinstance(node, ast.Constant) and node.value is None:
        return None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return reduce(or_, (_type(file, side) or type(None) for side in (node.left, node.right)))
    if isinstance(node, ast.Subscript):
        return _subscripted(file, node)
    raise Unreadable


def _subscripted(file: _File, node: ast.Subscript) -> Any:
    """A ``Literal[...]``, or a container of types."""
    inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    outer = ast.unparse(node.value)
    if outer == "Literal":
        return Literal[tuple(_value(file, one) for one in inner)]
    if outer not in CONTAINERS:
        raise Unreadable
    parts = (... if ast.unparse(one) == "..." else _type(file, one) for one in inner)
    return CONTAINERS[outer][tuple(parts)]


def _docstring(body: list[ast.stmt], number: int) -> str | None:
    """The docstring of the attribute before, if the statement is one."""
    if number < len(body) and _is_docstring(body[number]):
        return inspect.cleandoc(str(body[number].value.value))  # type: ignore[attr-defined]
    return None


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def files_that_set(mark: str, folders: Iterable[str]) -> Iterator[Path]:
    """The Python files of some folders that set a name at their top level: a registry; none is imported."""
    for folder in folders:
        for file in Path(folder).glob("*.py"):
            if _sets(mark, file, file.stat().st_mtime_ns):
                yield file


@lru_cache(maxsize=1024)  # every look for a name asks all files again
def _sets(mark: str, file: Path, changed: int) -> bool:
    """Does a file, as it was last changed, set a name at its top level?"""
    return any(line.startswith(f"{mark} = ") for line in file.read_text(encoding="utf-8").splitlines())
