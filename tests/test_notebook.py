"""The notebook is run: its cells in order, in one fresh process; what it shows is what they print.

No jupyter is needed. Outputs are compared by the rule of ``tests/documents.py``: words as they stand, numbers by their
number, the time of the run left out; a cell with the tag "varies" (what a model says after it forgot) has only to run.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from tests.documents import ROOT, difference
from tests.warm import WarmPython

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"
MARK = "=== cell {} ==="
MOMENT = re.compile(r"\d+ \w+ \d{4}, \d\d:\d\d UTC")
LARGEST = 60_000  # bytes

HARNESS = """
import ast, json, sys
cells = json.load(sys.stdin)
space = {"__name__": "__main__"}
for number, source in enumerate(cells):
    print(f"=== cell {number} ===")
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, f"cell {number}", "exec"), space)
    value = None if last is None else eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), space)
    if value is not None:
        shown = getattr(value, "_repr_html_", None)
        print(repr(value) if shown is None else shown())
"""


def code_cells() -> list[dict]:
    return [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def shown_by(cell: dict) -> str:
    """What the file shows below a cell, as text."""
    parts = []
    for output in cell["outputs"]:
        data = output.get("data", {})
        parts += output.get("text", []) + data.get("text/html", data.get("text/plain", []))
        parts.append("\n")
    return "".join(parts)


@pytest.mark.slow
def test_the_notebook_runs_and_prints_what_it_shows(warm: WarmPython, tmp_path: Path) -> None:
    cells = code_cells()
    done = warm.run(["-c", HARNESS], tmp_path, given=json.dumps(["".join(cell["source"]) for cell in cells]))
    assert done.returncode == 0, done.stdout
    assert list(tmp_path.iterdir()) == []  # nothing is left behind
    for number, cell in enumerate(cells):
        printed = done.stdout.split(MARK.format(number))[1].split(MARK.format(number + 1))[0]
        assert printed.strip() or not cell["outputs"]
        if "varies" not in cell["metadata"].get("tags", []):
            shown, printed = (MOMENT.sub("#", text) for text in (shown_by(cell), printed))
            missing = difference([line for line in shown.splitlines() if line.strip()], printed)
            assert missing is None, f"cell {number}: {missing}\n{printed}"


def test_the_notebook_was_run_in_order_and_is_light() -> None:
    cells = code_cells()
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert NOTEBOOK.stat().st_size < LARGEST
    assert all("<script" not in shown_by(cell) for cell in cells)
    assert any(shown_by(cell) for cell in cells)
    ids = [cell["id"] for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]]
    assert len(set(ids)) == len(ids)
