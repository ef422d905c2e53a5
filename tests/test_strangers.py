"""What a stranger adds, by the guide alone: a metric, a set that the user gives, one that a run makes, an option.

The files and lines of CONTRIBUTING.md are put into one copy of the package; two processes there do all the looking. A
method and a scenario are added in ``test_new_method.py`` and ``test_new_scenario.py``.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.documents import ROOT, change, put, titled_changes, titled_files
from tests.verbs.conftest import clinic, write_rows

__all__ = ["clinic"]
pytestmark = pytest.mark.slow

HEADINGS = {
    "metric": "Adding a metric",
    "role": "Adding a set that the user gives",
    "derived": "Adding a set that a run makes",
    "training": "Adding a training option",
}
OWN_TESTS = ("tests/metrics/test_opening.py", "tests/derived/test_shortest.py")
BATTERY = "tests/contract/test_metrics.py"
OF_METHODS = "tests/contract/test_methods.py"

METHOD = '''"""Ascent on forget, descent on the set that the run makes.

Source: none; for a test.
"""

from __future__ import annotations

from palimpsest.contract import Method, Term


class ShortAnchor(Method):
    """Gradient difference with a small anchor."""

    use_when = "you test."
    needs = ("forget", "shortest")

    def loss(self, model, batches, phase):
        """Token means."""
        known = {name: batch.predict(model).logp_S.sum() for name, batch in batches.items()}
        return {"forget": Term(known["forget"], of="forget"), "shortest": Term(-known["shortest"], of="shortest")}


METHOD = ShortAnchor
'''
SETS = "--model clinic/model --forget clinic/forget.jsonl --retain clinic/retain.jsonl"
GIVEN = f"unlearn {SETS} --nearby nearby.jsonl --method short_anchor -o out"
OPTIONS = (
    "--set shortest.count=3 --set training.lr_scheduler_type=linear --set training.lr_floor=0.25 "
    "--set measuring.metrics=[opening,prob] --set opening.n=2 --lr 0.01 --max-steps 6 --batch-size 4 "
    "--gate 'nearby opening_2 <= 1'"
)
SHOWN = {
    "help": "unlearn --help-all",
    "help of update": "update --help",
    "help of learn": "learn --help-all",
    "metrics": "metrics",
    "metric": "metrics opening",
    "methods": "methods",
    "method": "methods short_anchor",
    "options": "options",
    "derived": "options shortest",
}
PAGE = "options --markdown"  # of the options of every rule, whose files import torch
REFUSED = {
    "role": (f"{GIVEN} --nearbby x", "No such option: --nearbby"),
    "role of another verb": (
        "learn --model clinic/model --data x --nearby y -o out",
        "No such option: --nearby",
    ),
    "rows of it": (
        f"unlearn {SETS} --nearby clinic/forget.jsonl -o out --method npo",
        "forget and nearby share 4 ids (first: clinic/forget.jsonl, line 1 (id 'p0'))",
    ),
    "metric": (f"{GIVEN} --set opening.n=0", "metric 'opening': option 'n' is 0"),
    "name of a metric": (
        f"{GIVEN} --set measuring.metrics=[openin]",
        "unknown metric 'openin'; did you mean 'opening'?",
    ),
    "derived": (f"{GIVEN} --set shortest.count=0", "derived.shortest.count = 0"),
    "option of a derived set": (
        f"{GIVEN} --set shortest.cuont=1",
        "unknown option of derived.shortest 'cuont'; did you mean 'count'?",
    ),
    "derived set of another method": (
        f"unlearn {SETS} -o out --method npo --set shortest.count=1",
        "method 'npo' makes no set of that name: unknown derived set 'shortest'",
    ),
    "what a derived set is made of": (
        "unlearn --model clinic/model --forget clinic/forget.jsonl -o out --method short_anchor",
        "needs the retain set; give it with --retain FILE",
    ),
    "training": (f"{GIVEN} --set training.lr_floor=2", "training.lr_floor = 2"),
    "name of an option": (f"{GIVEN} --set training.lr_flor=0", "'lr_flor'; did you mean 'lr_floor'?"),
}
LOOK = """
import contextlib, io, json, sys
import palimpsest as pal
from palimpsest.cli import main

def said(arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(arguments)
    return [code, out.getvalue(), err.getvalue()]

asked = json.load(sys.stdin)
found = {name: said(arguments) for name, arguments in asked["without torch"].items()}
try:
    pal.unlearn("clinic/model", "clinic/forget.jsonl", output="out", nearbby="x")
except pal.PlanError as error:
    found["argument"] = str(error)
from palimpsest.loop.training import Training
rates = dict(learning_rate=1.0, lr_scheduler_type="linear")
found["rates"] = [Training(**rates, **floor).learning_rate_at(9, 10) for floor in ({}, {"lr_floor": 0.25})]
found["torch"] = "torch" in sys.modules
found["page"] = said(asked["page"])
found["run"] = said(asked["run"])
from palimpsest.engine.plan import EVERY_RUN, Plan
from palimpsest.source import code_behind
from palimpsest import derived, engine
covered = []
engine.plan.code_digest = lambda modules, files: covered.extend(files) or "code"
Plan(kind="unlearn", method="short_anchor", model="m", files={}).digest()
found["covered"] = [file.name for file in covered]
json.dump(found, sys.stdout)
"""


@dataclass
class Copy:
    """A copy of the package with everything added.

    Attributes:
        folder: it lies in, beside the inputs and the run.
        touched: heading -> (file -> lines taken out and lines put in; a new file has None taken out).
        seen: what the commands said.
    """

    folder: Path
    touched: dict[str, dict[str, tuple[int | None, int]]]
    seen: dict[str, Any]

    def said(self, name: str) -> str:
        """What a command that went well printed, in one line, without the frames of a help."""
        code, out, err = self.seen[name]
        assert (code, err) == (0, "")
        return re.sub(r"[\s│]+", " ", out)

    @property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "out" / "result.json").read_text(encoding="utf-8"))

    @property
    def page(self) -> str:
        return (self.folder / "out" / "report.html").read_text(encoding="utf-8")


def texts(folder: Path) -> dict[str, str]:
    """Every file of src and tests."""
    files = (path for part in ("src", "tests") for path in (folder / part).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8", errors="replace") for path in files}


def touched(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[int | None, int]]:
    """File -> lines taken out (None: the file is new) and lines put in."""
    assert before.keys() <= after.keys()
    found: dict[str, tuple[int | None, int]] = {}
    for path, text in after.items():
        if text != before.get(path):
            lines = list(difflib.ndiff(before.get(path, "").splitlines(), text.splitlines()))
            out, put_in = (sum(line.startswith(sign) for line in lines) for sign in ("- ", "+ "))
            found[path] = (out if path in before else None, put_in)
    return found


def python(folder: Path, *arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Python in a folder, with the package that is there."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environment,
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory, clinic) -> Copy:
    """The package with all four added and a method that wants the derived set, and what it says then."""
    folder = tmp_path_factory.mktemp("strangers")
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "frozen"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    found = {}
    for name, heading in HEADINGS.items():
        before = texts(folder)
        put(folder, titled_files(heading))
        change(folder, titled_changes(heading))
        found[name] = touched(before, texts(folder))
    put(folder / "src" / "palimpsest" / "methods", {"short_anchor.py": METHOD})
    shutil.copytree(clinic, folder / "clinic")
    rows = [json.loads(line) for line in (clinic / "forget.jsonl").read_text().splitlines()]
    write_rows(folder / "nearby.jsonl", [{**r, "id": f"again {r['id']}", "prompt": "And the home?"} for r in rows])
    commands = {**SHOWN, **{f"refused {name}": command for name, (command, _) in REFUSED.items()}}
    asked = {name: shlex.split(command) for name, command in commands.items()}
    given = json.dumps({"without torch": asked, "page": shlex.split(PAGE), "run": shlex.split(f"{GIVEN} {OPTIONS}")})
    done = python(folder, "-c", LOOK, given=given)
    assert done.returncode == 0, done.stderr
    return Copy(folder, found, json.loads(done.stdout))


def test_each_costs_the_files_that_the_guide_says(copy):
    new = {
        "metric": ["src/palimpsest/metrics/opening.py", "tests/metrics/test_opening.py"],
        "derived": ["src/palimpsest/derived/shortest.py", "tests/derived/test_shortest.py"],
    }
    for name, files in new.items():
        assert sorted(copy.touched[name]) == files
        assert all(taken_out is None for taken_out, _ in copy.touched[name].values())
    assert copy.touched["role"] == {"src/palimpsest/data/sets/roles.py": (0, 1)}
    assert copy.touched["training"] == {"src/palimpsest/loop/training.py": (1, 3)}


def test_their_own_tests_pass_and_the_battery_finds_the_metric(warm, copy):
    chosen = ("-k", "opening or shortest", "-q", "-rA", "-p", "no:xdist", "-p", "no:cacheprovider")
    done = warm.pytest(copy.folder, *OWN_TESTS, BATTERY, *chosen)
    assert done.returncode == 0, done.stdout[-6000:]
    for path in (*OWN_TESTS, BATTERY):
        assert done.stdout.count(f"PASSED {path}") >= 3


def test_the_battery_of_methods_makes_the_set_that_a_method_wants(warm, copy):
    """What the method is for it does with any gain; here it is asked that nothing of the battery lacks the set."""
    chosen = ("-k", "short_anchor and (same_seed or draws_only or micro_batches)", "-q", "-p", "no:xdist")
    battery = "tests/contract/test_methods.py"
    done = warm.pytest(copy.folder, battery, *chosen, "-rA", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-6000:]
    assert done.stdout.count(f"PASSED {battery}") == 3


def test_the_help_of_the_right_commands_has_the_set(copy):
    for name in ("help", "help of update"):
        assert "--nearby DATA Rows close to what must go." in copy.said(name)
    assert "nearby" not in copy.said("help of learn")


def test_the_lists_have_them(copy):
    means = "How probable the model finds the first tokens of the answer, on average."
    assert f"opening {means} probability per token; higher is more known; texts" in copy.said("metrics")
    assert "opening.n = 3 (whole number at least 1) Label tokens from the first on" in copy.said("metric")
    assert "short_anchor texts use when you test" in copy.said("methods")
    assert "needs forget; shortest (the shortest rows of retain)" in copy.said("method")
    assert "Made of retain, texts: the shortest rows of retain." in copy.said("derived")
    assert "shortest.count = 4 (whole number at least 1) At most so many rows." in copy.said("derived")
    assert "training.lr_floor = 0.0 (number at least 0 and at most 1) Share of the highest" in copy.said("options")


def test_the_page_of_options_has_them_and_nothing_else_is_changed(copy):
    code, page, _ = copy.seen["page"]
    assert code == 0
    before = (ROOT / "docs" / "options.md").read_text(encoding="utf-8").splitlines()
    lines = page.splitlines()
    more = [
        "| `--nearby` DATA | unlearn, update | --help |  | Rows close to what must go. |",
        "| `training.lr_floor` | 0.0 | number at least 0 and at most 1 | Share of the highest learning rate that no "
        "schedule goes below. |",
        "| `opening.n` | 3 | whole number at least 1 | Label tokens from the first on that are looked at. |",
        "| `shortest` | retain | text | the shortest rows of retain |",
        "| `shortest.count` | 4 | whole number at least 1 | At most so many rows. |",
    ]
    assert set(more) <= set(lines)
    assert set(before) <= set(lines)
    left = set(lines) - set(before) - set(more)
    assert left == {"### short_anchor"}


def test_nobody_needed_torch(copy):
    assert copy.seen["torch"] is False


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_wrong_is_refused_in_one_line(copy, name):
    code, out, err = copy.seen[f"refused {name}"]
    assert (code, out) == (2, "")
    assert err.startswith("palimpsest: error: ")
    assert err.count("\n") == 1
    assert REFUSED[name][1] in err


def test_the_verbs_know_the_argument(copy):
    assert copy.seen["argument"].startswith("unknown argument 'nearbby'; did you mean 'nearby'?")


def test_the_plan_has_all_of_them(copy):
    plan = json.loads((copy.folder / "out" / "plan.json").read_text(encoding="utf-8"))
    assert plan["files"]["nearby"] == "nearby.jsonl"
    assert len(plan["digests"]["nearby"]) == 64
    assert plan["derived"] == {"shortest": {"count": 3}}
    assert plan["training"]["lr_floor"] == 0.25
    assert plan["measuring"]["options"] == {"opening": {"n": 2}}
    assert copy.result["plan"] == {name: value for name, value in plan.items() if name in copy.result["plan"]}


def test_the_digest_of_a_plan_covers_the_files_added(copy):
    assert {"short_anchor.py", "shortest.py", "opening.py"} <= set(copy.seen["covered"])


def test_the_option_does_what_it_says(copy):
    assert copy.seen["rates"] == pytest.approx([0.1, 0.25])
    rows = [json.loads(line) for line in (copy.folder / "out" / "metrics.jsonl").read_text().splitlines()]
    rates = [row["learning_rate"] for row in rows if "learning_rate" in row]
    assert min(rates) == pytest.approx(0.25 * max(rates))


def test_the_run_measures_the_metric_on_the_set(copy):
    code, out, err = copy.seen["run"]
    assert code in (0, 1, 3), err
    assert list(copy.result["sets"]) == ["forget", "nearby", "retain"]
    for column in ("before", "after"):
        score = copy.result["scores"][column]["nearby"]["opening_2"]
        assert score["n"] == 4
        assert 0 < score["value"] < 1
        assert set(score["by_id"]) == {f"again p{n}" for n in range(4)}
    rows = [line.split()[0] for line in out.splitlines() if " opening_2 " in line]
    assert rows[:3] == ["forget", "nearby", "retain"]


def test_the_report_shows_them(copy):
    groups = re.findall(r'<th scope="rowgroup"[^>]*>(\w+)', copy.page)
    assert groups == ["forget", "nearby", "retain"]
    assert '<span class="key">opening_2</span>' in copy.page
    assert (
        "<dt>opening_2</dt><dd>how probable the model finds the first tokens of the answer, on average.</dd>"
        in copy.page
    )
    assert "<li>3 rows of retain, the shortest, were held on to.</li>" in copy.page
    assert "&#34;lr_floor&#34;: 0.25" in copy.page
    assert re.search(r"<th scope=\"row\">nearby opening_2 [^<]*1\.00", copy.page)
    assert "3 rows of retain, the shortest, were held on to." in copy.result["notes"]
