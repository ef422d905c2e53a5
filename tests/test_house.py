"""The rules of the house that no other tool checks."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

import palimpsest

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src" / "palimpsest"
FILES = sorted(SRC.rglob("*.py"))
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(palimpsest.__path__, "palimpsest.")
    if not module.name.endswith("__main__")
)
UNSAFE_MODULES = {"pickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
UNSAFE_CALLS = {"eval", "exec", "compile", "os.system", "os.popen", "torch.load", "torch.save", "numpy.load", "np.load"}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def where(path: Path, node: ast.expr | ast.stmt) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("name", MODULES)
def test_every_module_can_be_imported(name: str) -> None:
    if name.startswith("palimpsest.federated.flower."):  # tests/federated_flower imports them where Flower is
        pytest.importorskip("flwr", reason="Flower has an environment of its own: make test-federated")
    assert importlib.import_module(name).__doc__, f"{name} has no docstring"


def test_the_walk_finds_every_file() -> None:
    expected = {".".join(("palimpsest", *path.relative_to(SRC).with_suffix("").parts)) for path in FILES}
    expected = {name.removesuffix(".__init__") for name in expected if not name.endswith("__main__")}
    assert set(MODULES) | {"palimpsest"} == expected, "a folder under src/palimpsest has no __init__.py"


def test_all_is_sorted_and_equals_what_is_exported() -> None:
    names = {
        name
        for name, value in vars(palimpsest).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and getattr(value, "__module__", "").startswith("palimpsest")
    }
    assert palimpsest.__all__ == sorted(palimpsest.__all__)
    assert set(palimpsest.__all__) == names | set(palimpsest._LAZY) | {"__version__"}
    assert dir(palimpsest) == palimpsest.__all__


@pytest.mark.parametrize("name", sorted(palimpsest._LAZY))
def test_lazy_names_are_functions(name: str) -> None:
    # A verb and the module that holds it may share a name; what the user gets is the function.
    assert callable(getattr(palimpsest, name))


def test_unknown_attribute_is_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'unlern'"):
        palimpsest.unlern  # noqa: B018


def test_every_error_is_exported() -> None:
    errors = importlib.import_module("palimpsest.errors")
    classes = {n for n, v in vars(errors).items() if isinstance(v, type) and issubclass(v, errors.PalimpsestError)}
    assert classes <= set(palimpsest.__all__)


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.M)
    newest = re.search(r"^## (\d\S*)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert citation is not None
    assert newest is not None
    assert {palimpsest.__version__} == {project["version"], citation[1], newest[1]}


@pytest.mark.parametrize(
    "arguments",
    [("-c", "import palimpsest"), ("-m", "palimpsest", "--help"), ("-m", "palimpsest", "unlearn", "--help")],
    ids=["import", "help", "unlearn-help"],
)
def test_torch_is_not_imported(arguments: tuple[str, ...]) -> None:
    done = python("-X", "importtime", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "palimpsest" in imported, "the import log could not be read"
    assert not imported & {"torch", "transformers", "accelerate", "datasets", "peft", "faker"}


def defines(path: Path, name: str) -> bool:
    """Does a file set this name at module level?"""
    assigned = (node for node in parsed(path).body if isinstance(node, ast.Assign | ast.AnnAssign))
    targets = (node.targets if isinstance(node, ast.Assign) else [node.target] for node in assigned)
    return any(isinstance(target, ast.Name) and target.id == name for group in targets for target in group)


@pytest.mark.parametrize(("folder", "mark"), [("methods", "METHOD"), ("metrics", "METRIC")])
def test_every_method_and_metric_has_a_test_file(folder: str, mark: str) -> None:
    names = [path.stem for path in sorted((SRC / folder).glob("*.py")) if defines(path, mark)]
    assert names, f"no file in {folder}/ sets {mark}"
    missing = [f"tests/{folder}/test_{n}.py" for n in names if not (ROOT / "tests" / folder / f"test_{n}.py").is_file()]
    assert not missing


def test_nothing_is_asserted_in_src() -> None:
    assert not [where(p, node) for p in FILES for node in ast.walk(parsed(p)) if isinstance(node, ast.Assert)]


def dotted(node: ast.expr) -> str:
    """``a.b.c`` of a name or attribute, "" of anything else."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def unsafe(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, str]]:
    """Pickles, evaluated strings and shells."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            yield from ((node, m) for m in modules if m.partition(".")[0] in UNSAFE_MODULES)
        elif isinstance(node, ast.Call):
            if dotted(node.func) in UNSAFE_CALLS:
                yield node, dotted(node.func)
            yield from (
                (node, f"{k.arg}=")
                for k in node.keywords
                if k.arg in {"shell", "allow_pickle"} and getattr(k.value, "value", None) is not False
            )


def test_no_pickle_no_eval_no_shell() -> None:
    assert not [f"{where(path, node)} {what}" for path in FILES for node, what in unsafe(parsed(path))]


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from joblib import load", "eval('1')", "torch.load(f)", "run('ls', shell=True)", "os.system(c)"],
)
def test_the_scan_sees(code: str) -> None:
    assert list(unsafe(ast.parse(code)))


@pytest.mark.parametrize("code", ["model.eval()", "run(['ls'], shell=False)", "re.compile('a')", "json.load(f)"])
def test_the_scan_lets_pass(code: str) -> None:
    assert not list(unsafe(ast.parse(code)))
