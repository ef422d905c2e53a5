"""Sizes of files and functions, complexity as radon counts it, numbers of parameters, and names that occur once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from tests.test_house import FILES, ROOT, SRC, parsed

from palimpsest import verbs

MAX_FILE_LINES, MAX_FUNCTION_LINES = 350, 70
MAX_COMPLEXITY, MAX_CODE_LINES_P90, MAX_PARAMETERS = 10, 15, 8
MAX_VERB_LINES, MAX_SAME_LINES = 40, 5
NOT_ONCE = {  # public name -> the files that may share it; why
    "BOX": "models/black_boxes/*.py",  # the mark of a kind of black box
    "METHOD": "methods/*.py",  # the mark by which the registry finds a method's class
    "COMPANION": "companions/*.py",  # the same of what is kept beside a version
    "DERIVED": "derived/*.py",  # the same of a set that a run makes
    "RULE": "rules/*.py",  # the same of a rule
    "PART": "models/parts/*.py",  # the same of a part
    "FAMILIES": "models/families/*.py",  # the same of the families of models
    "SCENARIO": "data/streams/scenarios/*.py",  # the same of a scenario
    "SET_METRIC": "metrics/per_set/*.py",  # the same of what is said of several sets
    "STREAM_METRIC": "metrics/per_stream/*.py",  # and of a stream
    "METRIC": "metrics/*.py",  # the same of a metric
    "ERASER": "federated/erasers/*.py",  # the same of the ways to erase a client
    "names": "**/__init__.py",  # each registry's list, asked for as methods.names, metrics.names
    "files_of": "**/__init__.py",  # their files, for the digest of a run
    "build_config": "**/__init__.py",  # and the options of one of them
    "load": "**/*.py",  # of the registries, too; models/load.py has one of its own, pal.load
    "command": "cli/*.py",  # a file of the command line holds one command; its name there is the file's
    "app": "cli/*.py",  # typer's own word for a group of commands
    "ascent_loss": "methods/*.py",  # one-line losses stand beside their equation, and no method knows another
}
NOT_ONCE_YET = {"Progress"}  # to become empty


def test_no_file_is_long() -> None:
    long = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {path: lines for path, lines in long.items() if lines > MAX_FILE_LINES}


Function = ast.FunctionDef | ast.AsyncFunctionDef
Block = Function | ast.ClassDef


def blocks(*kinds: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    """Every function, or class, of the package, with its file."""
    yield from ((path, node) for path in FILES for node in ast.walk(parsed(path)) if isinstance(node, kinds))


FUNCTIONS = [(path, node) for path, node in blocks(ast.FunctionDef, ast.AsyncFunctionDef)]


def called(path: Path, node: Any) -> str:
    return f"{path.relative_to(SRC).as_posix()} {node.name}"


def test_no_function_is_long() -> None:
    assert not [called(path, node) for path, node in FUNCTIONS if num_lines(node) > MAX_FUNCTION_LINES]


def num_lines(node: Any) -> int:
    return int(node.end_lineno - node.lineno + 1)


def code_lines(function: Any) -> int:
    """Lines of a function without those of its docstring."""
    docstring = ast.get_docstring(function) is not None
    return num_lines(function) - (num_lines(function.body[0]) if docstring else 0)


def test_nine_of_ten_functions_are_short() -> None:
    lines = sorted(code_lines(node) for _, node in FUNCTIONS)
    assert len(lines) > 1000
    assert lines[int(0.9 * len(lines))] <= MAX_CODE_LINES_P90


def test_code_lines_leave_the_docstring_out() -> None:
    (function,) = ast.parse('def f():\n    """One.\n\n    Two.\n    """\n    return 1\n').body
    assert code_lines(function) == 2


def test_no_verb_is_long() -> None:
    lines = {node.name: num_lines(node) for path, node in FUNCTIONS if path.parent.name == "verbs"}
    assert {"learn", "unlearn", "update", "measure"} <= set(verbs.__all__)
    assert not [name for name in verbs.__all__ if lines[name] > MAX_VERB_LINES]


def lines_of_code(text: str) -> list[str]:
    """The lines of a file without imports, docstrings, comments and blank lines, each without its indent."""
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, ast.Import | ast.ImportFrom):
            left_out.update(range(node.lineno, (node.end_lineno or 0) + 1))
    lines = (line.strip() for number, line in enumerate(text.splitlines(), 1) if number not in left_out)
    return [line for line in lines if line and not line.startswith("#")]


def copied(one: list[str], other: list[str], most: int = MAX_SAME_LINES) -> list[tuple[str, ...]]:
    """Blocks of more than so many lines that occur in both."""
    mine, theirs = ({tuple(lines[n : n + most + 1]) for n in range(len(lines) - most)} for lines in (one, other))
    return sorted(mine & theirs)


@pytest.mark.parametrize("folder", ["verbs", "cli"])
def test_no_two_verbs_or_commands_are_copies(folder: str) -> None:
    code = {path.name: lines_of_code(path.read_text(encoding="utf-8")) for path in sorted((SRC / folder).glob("*.py"))}
    assert len(code) > 8
    assert not {
        (one, other): found for one, other in combinations(code, 2) if (found := copied(code[one], code[other]))
    }


SIX = "\n".join(f"    a = f({n})" for n in range(6))


@pytest.mark.parametrize(
    ("one", "other", "blocks"),
    [
        (f"def f():\n{SIX}\n    return 1", f"def g():\n{SIX}\n    return 2", 1),
        (f"def f():\n{SIX}\n    return 1", f"def g():\n{SIX.replace('f(3)', 'f(4)')}\n    return 2", 0),
        (
            f"def f():\n{SIX}",
            f"class C:\n  def g():\n    # why\n    import a\n\n{SIX}",
            1,
        ),  # what is between counts not
        ('"""One.\n\nTwo.\n"""\n' + "import a\n" * 9, '"""One.\n\nTwo.\n"""\n' + "import a\n" * 9, 0),
    ],
    ids=["same", "changed", "indented", "imports"],
)
def test_copies_are_seen(one: str, other: str, blocks: int) -> None:
    assert len(copied(lines_of_code(one), lines_of_code(other))) == blocks


def own_decisions(node: Any) -> int:
    """How many decisions radon 6 counts at one node of the syntax tree. It does not count ``with`` and ``lambda``."""
    match node:
        case ast.If() | ast.IfExp() | ast.Assert():
            return 1
        case ast.For() | ast.AsyncFor() | ast.While():
            return 1 + bool(node.orelse)
        case ast.Try() | ast.TryStar():
            return len(node.handlers) + len(node.orelse)
        case ast.BoolOp():
            return len(node.values) - 1
        case ast.comprehension():
            return 1 + len(node.ifs)
        case ast.Match():
            return len(node.cases)
    return 0


def decisions(node: ast.AST) -> int:
    """Of a piece of code, without those of the functions and classes in it, which radon grades alone."""
    if isinstance(node, Block):
        return 0
    return own_decisions(node) + sum(decisions(child) for child in ast.iter_child_nodes(node))


def complexity(block: Any) -> int:
    """Radon's number: of a function its decisions + 1; of a class the mean of its methods, + 1 where they are many."""
    own = 1 + sum(decisions(statement) for statement in block.body)
    methods = [
        complexity(node) for node in block.body if isinstance(node, Function) and isinstance(block, ast.ClassDef)
    ]
    return int((own + sum(methods)) / len(methods)) + (len(methods) > 1) if methods else own


def grade(number: int) -> str:
    """A to F, as in radon's documentation: 1 to 5, 6 to 10, 11 to 20, 21 to 30, 31 to 40, more."""
    return "ABCDEF"[sum(number > last for last in (5, 10, 20, 30, 40))]


IN_ALL = """
def f(rows):
    for row in rows:
        while row and rows:
            try:
                row = next(row)
            except StopIteration:
                row = None
            finally:
                rows = rows[1:]
    return [row for row in rows if row]
"""
AN_INNER = """
def f(a, b):
    def inner(c):
        return 1 if c else 2
    with a:
        return inner(b)
"""
OF_METHODS = """
class C:
    def one(self): return 1 if self else 2
    def two(self): return self and self.one()
"""


@pytest.mark.parametrize(
    ("code", "number", "letter"),
    [
        ("def f(a, b):\n  if a: return 1\n  elif b: return 2\n  else: return 3", 1 + 2, "A"),  # else adds none
        (IN_ALL, 1 + 1 + 2 + 1 + 2, "B"),  # for, while with and, except; finally adds none; comprehension with if
        (f"def f(): return {' or '.join('abcdefghij')}", 1 + 9, "B"),  # each operator adds one
        (f"def f(): return {' or '.join('abcdefghijk')}", 1 + 10, "C"),
        (AN_INNER, 1, "A"),
        (OF_METHODS, (1 + 2 + 2) // 2 + 1, "A"),
    ],
    ids=["elif", "loops", "ten", "eleven", "closure", "class"],
)
def test_complexity_is_counted_as_radon_documents_it(code: str, number: int, letter: str) -> None:
    (block,) = ast.parse(code).body
    assert (complexity(block), grade(complexity(block))) == (number, letter)


def test_everything_is_of_radons_grade_a_or_b() -> None:
    assert not [called(path, node) for path, node in blocks(*Block.__args__) if complexity(node) > MAX_COMPLEXITY]


def is_public(name: str) -> bool:
    return not name.startswith("_") or name == "__init__"


def public_functions(body: list[ast.stmt]) -> Iterator[Function]:
    """Of a module or class, with the methods of its public classes."""
    for node in body:
        if isinstance(node, Function) and is_public(node.name):
            yield node
        elif isinstance(node, ast.ClassDef) and is_public(node.name):
            yield from public_functions(node.body)


def parameters(function: Function) -> list[str]:
    given = function.args
    named = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    return [one.arg for one in named if one is not None and one.arg not in ("self", "cls")]


def test_no_public_function_takes_many_parameters() -> None:
    everything = ((path, node) for path in FILES for node in public_functions(parsed(path).body))
    assert not [called(path, node) for path, node in everything if len(parameters(node)) > MAX_PARAMETERS]


def test_parameters_are_counted_but_for_self() -> None:
    (holder,) = ast.parse("class C:\n  def f(self, a, /, b, *c, d=1, **e): ...\n  def _g(self): ...").body
    (function,) = public_functions([holder])
    assert parameters(function) == ["a", "b", "c", "d", "e"]


def public_names(tree: ast.Module) -> Iterator[str]:
    """What a file sets at its top level: classes, functions, constants, aliases."""
    for node in tree.body:
        if isinstance(node, Block):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_a_public_name_occurs_once() -> None:
    places: dict[str, list[Path]] = {}
    for path in FILES:
        for name in dict.fromkeys(filter(is_public, public_names(parsed(path)))):
            places.setdefault(name, []).append(path.relative_to(SRC))
    twice = {name: files for name, files in places.items() if len(files) > 1}
    strange = {n: f for n, f in twice.items() if not all(path.match(NOT_ONCE.get(n, "nowhere")) for path in f)}
    assert not {name: files for name, files in strange.items() if name not in NOT_ONCE_YET}
    assert not {*NOT_ONCE, *NOT_ONCE_YET} - set(twice), "these occur once by now: take them from the lists"


def test_a_file_name_occurs_once() -> None:
    stems = [path.parent.name if path.stem == "__init__" else path.stem for path in FILES]
    assert not {stem for stem in stems if stems.count(stem) > 1}


@pytest.mark.parametrize("code", ["A = 1", "A: int = 1", "def A(): ...", "class A: ...", "A = B = 1"])
def test_public_names_are_seen(code: str) -> None:
    assert "A" in set(public_names(ast.parse(code)))
