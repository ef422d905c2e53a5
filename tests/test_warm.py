"""A process off a warm one is like one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.documents import environment, run
from tests.warm import WarmPython


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmPython]:
    with WarmPython({**environment(), "WARM": "yes"}, loaded=["decimal"]) as python:
        yield python


@pytest.mark.parametrize(
    "code",
    [
        "print(__name__, __import__('sys').argv)",
        "import os; print(os.getcwd(), os.listdir())",
        "import sys; print('out'); sys.stdout.flush(); print('err', file=sys.stderr)",
        "raise SystemExit(3)",
        "raise SystemExit('no')",
        "raise SystemExit",
        "print(1 / 0)",
        "import warnings; warnings.warn('look')",
        "print(__import__('sys').stdin.read(), __import__('sys').stdout.isatty())",
        "import neighbour",
    ],
)
def test_it_says_and_ends_as_one_of_its_own(warm: WarmPython, tmp_path: Path, code: str) -> None:
    (tmp_path / "neighbour.py").write_text("print('found')")
    alone, forked = run(["-c", code], tmp_path), warm.run(["-c", code], tmp_path)
    assert forked.returncode == alone.returncode
    assert forked.stdout.splitlines()[-1:] == alone.stdout.splitlines()[-1:]


def test_a_module_is_run_with_its_arguments(warm: WarmPython, tmp_path: Path) -> None:
    alone, forked = (run_(["-m", "palimpsest", "lern"], tmp_path) for run_ in (run, warm.run))
    assert (forked.returncode, forked.stdout) == (alone.returncode, alone.stdout)
    assert forked.returncode == 2


def test_nothing_passes_from_one_to_the_next(warm: WarmPython, tmp_path: Path) -> None:
    spoil = "import os, sys, decimal; os.environ['WARM'] = 'spoilt'; decimal.getcontext().prec = 3; sys.path.clear()"
    assert warm.run(["-c", spoil], tmp_path).returncode == 0
    ask = "import os, decimal; print(os.environ['WARM'], decimal.getcontext().prec)"
    assert warm.run(["-c", ask], tmp_path).stdout == "yes 28\n"


def test_what_was_asked_for_is_loaded_and_nothing_of_ours(warm: WarmPython, tmp_path: Path) -> None:
    ask = "import sys; print('decimal' in sys.modules, [n for n in sys.modules if n.startswith('palimpsest')])"
    assert warm.run(["-c", ask], tmp_path).stdout == "True []\n"


def test_what_it_is_given_and_says_apart(warm: WarmPython, tmp_path: Path) -> None:
    code = "import sys; print(sys.stdin.read(), sys.argv); print('wrong', file=sys.stderr)"
    done = warm.run(["-c", code, "more"], tmp_path, given="this", apart=True)
    assert (done.stdout, done.stderr) == ("this ['-c', 'more']\n", "wrong\n")


def test_modules_of_another_folder_come_first(warm: WarmPython, tmp_path: Path) -> None:
    (tmp_path / "src" / "palimpsest").mkdir(parents=True)
    (tmp_path / "src" / "palimpsest" / "__init__.py").write_text("print('that one')")
    ask = "import os, palimpsest; print(os.environ['PYTHONPATH'])"
    done = warm.run(["-c", ask], tmp_path, PYTHONPATH=str(tmp_path / "src"))
    assert done.stdout == f"that one\n{tmp_path / 'src'}\n"
    assert warm.run(["-c", "import palimpsest"], tmp_path).stdout == ""
