"""A digest of the code that decides a result: some modules, and all of this package that they import.

A finished run is taken for the one that is asked for when both have one digest, so the digest has to change with every
line that could change what a run gives. The files are read, not imported: imports inside functions count, those for
type checkers alone do not. What is loaded by name (methods, metrics) no import shows; whoever uses it names it.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from palimpsest.records import digest

_PACKAGE = Path(__file__).parent
_SHOWN = "palimpsest.report"  # what only shows a result cannot change it


def code_digest(modules: Iterable[str], files: Iterable[Path] = (), *, package: Path = _PACKAGE) -> str:
    """SHA-256 over modules of this package, further files, and every module of this package they lead to.

    Args:
        modules: dotted names, each with its file in the package.
        files: modules that may lie elsewhere, such as a method of one's own.
        package: folder of the package.

    >>> code_digest(["palimpsest.records"]) == code_digest(["palimpsest.version"])
    False
    """
    return _digest(frozenset(modules), frozenset(files), package)


@lru_cache(maxsize=256)  # once per process: what was imported does not change with its file
def _digest(modules: frozenset[str], files: frozenset[Path], package: Path) -> str:
    reached = code_behind(modules, files, package=package)
    contents = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in reached.items()}
    return digest(contents)


def code_behind(modules: Iterable[str], files: Iterable[Path] = (), *, package: Path = _PACKAGE) -> dict[str, Path]:
    """The files of ``code_digest`` by name: a module's own, of a file that lies elsewhere the name of the file.

    A package is read when an import names it; one that is only passed through on the way to a module is not: what a
    module uses it imports by name.
    """
    found: dict[str, Path] = {}
    waiting = [(name, _path(name, package)) for name in modules]
    waiting += [(_name(file, package), file) for file in files]
    while waiting:
        name, path = waiting.pop()
        if path is None or name in found or f"{name}.".startswith(f"{_SHOWN}."):
            continue
        found[name] = path
        waiting += [(other, _path(other, package)) for other in imported_names(path, _around(name, path))]
    return dict(sorted(found.items()))


def imported_names(file: Path, around: str = "") -> tuple[str, ...]:
    """Names that a file imports and that may be modules: of ``from a import b`` both a and a.b.

    Args:
        file: Python, read and not run; what only type checkers import is left out.
        around: the package that its relative imports start from.
    """
    return _imported(file.read_text(encoding="utf-8"), around)


@lru_cache(maxsize=8192)  # as for the digest: what was imported does not change with its file
def _path(name: str, package: Path) -> Path | None:
    """File of a dotted name; None when it is no module of the package."""
    first, *rest = name.split(".")
    if first != "palimpsest":
        return None
    place = package.joinpath(*rest)
    return next((p for p in (place / "__init__.py", place.with_name(place.name + ".py")) if p.is_file()), None)


def _name(file: Path, package: Path) -> str:
    if not file.is_relative_to(package):
        return file.name
    return ".".join(("palimpsest", *file.relative_to(package).with_suffix("").parts))


def _around(name: str, path: Path) -> str:
    """The package that relative imports of a module start from."""
    return name if path.name == "__init__.py" else name.rpartition(".")[0]


@lru_cache(maxsize=4096)  # most runs of a process are made by the same files, but for their method
def _imported(code: str, around: str) -> tuple[str, ...]:
    """Names that may be modules: of ``from a import b`` both a and a.b."""
    found: list[str] = []
    for node in _executed(ast.parse(code)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = around.split(".")[: len(around.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            found += [source, *(f"{source}.{alias.name}" for alias in node.names)]
    return tuple(found)


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    """All statements below a node but the bodies of ``if TYPE_CHECKING``; no expression holds an import."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            continue
        if isinstance(child, ast.If) and ast.unparse(child.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for branch in child.orelse:
                yield branch
                yield from _executed(branch)
        else:
            yield child
            yield from _executed(child)
