"""A method is two files: the ones of CONTRIBUTING.md are taken out of it and used, and nothing else is touched."""

from __future__ import annotations

import ast
import hashlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.documents import put, titled_files
from tests.verbs.conftest import clinic

import palimpsest as pal
from palimpsest import methods
from palimpsest.cli import main
from palimpsest.errors import PlanError

__all__ = ["clinic"]

ROOT = Path(__file__).parents[1]
COPIED = ("src", "tests", "pyproject.toml")


def files_of_the_guide() -> dict[str, str]:
    """Path -> content of every file that CONTRIBUTING.md spells out for a method."""
    return titled_files("Adding a method")


def tree(folder: Path) -> dict[str, str]:
    """Relative path -> digest of every file."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def own_folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder outside the package with the guide's method in it, named by the environment."""
    folder = tmp_path / "my_methods"
    (source,) = (content for path, content in files_of_the_guide().items() if path.startswith("src/"))
    put(folder, {"scaled_ascent.py": source})
    monkeypatch.setenv("PALIMPSEST_METHODS", str(folder))
    yield folder
    for name in [name for name in sys.modules if name.startswith("palimpsest.methods.")]:
        if (sys.modules[name].__file__ or "").startswith(str(folder)):
            del sys.modules[name]


def test_the_guide_spells_out_two_files():
    assert list(files_of_the_guide()) == [
        "src/palimpsest/methods/scaled_ascent.py",
        "tests/methods/test_scaled_ascent.py",
    ]


def test_the_commands_list_it(own_folder, capsys):
    assert main(["methods"]) == 0
    assert "  scaled_ascent   both   use when you follow this guide\n" in capsys.readouterr().out
    assert main(["methods", "scaled_ascent"]) == 0
    shown = capsys.readouterr().out
    assert "Source: none; an exercise." in shown
    assert "  scaled_ascent.scale = 1.0   (number above 0)\n      Factor of the ascent term, > 0;" in shown


def test_a_run_with_it_forgets(own_folder, clinic, tmp_path):
    plan = {"training": {"learning_rate": 1e-2, "max_steps": 6, "batch_size": 4}, "options": {"scale": 2.0}}
    result = pal.unlearn(
        clinic / "model",
        clinic / "forget.jsonl",
        retain=clinic / "retain.jsonl",
        output=tmp_path / "out",
        method="scaled_ascent",
        plan=plan,
    )
    assert result.method == "scaled_ascent"
    assert result.plan["options"] == {"scale": 2.0}
    before, after = (result.scores[column]["forget"]["prob"].value for column in ("before", "after"))
    assert after < before / 10
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_its_options_are_checked_like_any_others(own_folder):
    with pytest.raises(PlanError, match="unknown option of scaled_ascent 'scal'; did you mean 'scale'"):
        methods.configure("scaled_ascent", {"scal": 1})
    with pytest.raises(PlanError, match=r"scaled_ascent.scale = -1"):
        methods.configure("scaled_ascent", {"scale": -1})


def test_without_the_folder_it_is_unknown(own_folder, monkeypatch):
    methods.load("scaled_ascent")
    monkeypatch.delenv("PALIMPSEST_METHODS")
    assert "scaled_ascent" not in methods.names()
    with pytest.raises(PlanError, match="unknown method 'scaled_ascent'"):
        methods.load("scaled_ascent")


OPTION_OF_A_CHOICE = '''"""Needs names of its own file to understand its options."""

from __future__ import annotations

from typing import Literal

from palimpsest.contract import Config, Method


class ChoiceConfig(Config):
    """Options."""

    side: Literal["left", "right"] = "left"
    """Either."""


class Choice(Method):
    """Does nothing."""

    Config = ChoiceConfig


METHOD = Choice
'''


def test_a_file_outside_the_package_is_read_once_and_whole(own_folder):
    """Options may name types that the file imports; asked twice, the class is the same."""
    put(own_folder, {"choice.py": OPTION_OF_A_CHOICE})
    assert methods.configure("choice", {"side": "right"}).side == "right"
    assert methods.load("choice") is methods.load("choice")


def test_a_file_that_breaks_half_way_is_read_anew_when_it_is_mended(own_folder):
    put(own_folder, {"choice.py": OPTION_OF_A_CHOICE.replace("Method\n", "Methodd\n", 1)})
    with pytest.raises(PlanError, match="Methodd"):
        methods.load("choice")
    put(own_folder, {"choice.py": OPTION_OF_A_CHOICE})
    assert methods.load("choice").__name__ == "Choice"


def test_a_file_without_a_method_is_refused(own_folder):
    put(own_folder, {"choice.py": OPTION_OF_A_CHOICE.replace("METHOD = Choice\n", "")})
    with pytest.raises(PlanError, match=r"choice.py sets no METHOD; end it with METHOD = "):
        methods.load("choice")


def num_tests(path: Path) -> int:
    """Test functions of a file; a parametrised one gives at least as many results."""
    return sum(
        node.name.startswith("test_")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    )


@pytest.mark.slow
def test_in_a_checkout_two_files_are_enough(warm, tmp_path):
    """Its own test passes and the battery finds it, with nothing registered anywhere."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    before = tree(tmp_path)
    put(tmp_path, files_of_the_guide())
    own_test, battery = "tests/methods/test_scaled_ascent.py", "tests/contract/test_methods.py"
    done = warm.pytest(tmp_path, own_test, battery, "-k", "scaled_ascent", "-rA", "-p", "no:xdist")
    assert done.returncode == 0, done.stdout[-6000:]
    for path in (own_test, battery):
        assert done.stdout.count(f"PASSED {path}") >= num_tests(tmp_path / path)
    after = tree(tmp_path)
    assert {path for path in after if after[path] != before.get(path)} == set(files_of_the_guide())
    assert before.keys() <= after.keys()


def test_a_method_file_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import no_such_package\n")
    monkeypatch.setenv("PALIMPSEST_METHODS", str(tmp_path))
    with pytest.raises(PlanError, match=r"broken\.py cannot be imported: No module named"):
        methods.load("broken")


def test_a_folder_of_methods_that_is_not_there_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_METHODS", str(tmp_path / "nowhere"))
    with pytest.raises(PlanError, match="nowhere', which is no folder"):
        methods.names()
