"""A rule is two files: the ones of CONTRIBUTING.md are taken out of it and used, and nothing else is touched."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.documents import put, titled_files
from tests.test_new_method import COPIED, num_tests, tree
from tests.verbs.conftest import clinic

import palimpsest as pal
from palimpsest import rules
from palimpsest.cli import main
from palimpsest.errors import PlanError

__all__ = ["clinic"]

ROOT = Path(__file__).parents[1]


def files_of_the_guide() -> dict[str, str]:
    """Path -> content of every file that CONTRIBUTING.md spells out for a rule."""
    return titled_files("Adding a rule")


@pytest.fixture
def guides_rule(tmp_path, monkeypatch) -> Iterator[None]:
    """The guide's rule in a further folder of the registry."""
    (source,) = (content for path, content in files_of_the_guide().items() if path.startswith("src/"))
    put(tmp_path / "more_rules", {"short_steps.py": source})
    monkeypatch.setattr(rules, "__path__", [*rules.__path__, str(tmp_path / "more_rules")])
    yield
    sys.modules.pop("palimpsest.rules.short_steps", None)
    vars(rules).pop("short_steps", None)


def test_the_guide_spells_out_two_files():
    assert list(files_of_the_guide()) == ["src/palimpsest/rules/short_steps.py", "tests/rules/test_short_steps.py"]


def test_the_commands_list_it(guides_rule, capsys):
    assert main(["rules"]) == 0
    assert "  short_steps     use when you follow this guide" in capsys.readouterr().out
    assert main(["rules", "short_steps"]) == 0
    assert "  short_steps.share = 0.01   (number above 0)\n" in capsys.readouterr().out


def test_a_run_with_it_takes_shorter_steps(guides_rule, clinic, tmp_path):
    training = {"learning_rate": 1e-2, "max_steps": 3, "batch_size": 4}
    found = {}
    for name, given in {"with": [{"kind": "short_steps", "share": 1e-3}], "without": []}.items():
        plan = {"training": training, "rules": given}
        sets = {"retain": clinic / "retain.jsonl", "output": tmp_path / name}
        found[name] = pal.unlearn(clinic / "model", clinic / "forget.jsonl", method="grad_diff", plan=plan, **sets)
    assert found["with"].plan["rules"] == [{"kind": "short_steps", "share": 1e-3}]
    fell = {name: moved(result) for name, result in found.items()}
    assert 0 < fell["with"] < fell["without"] / 4
    rows = [json.loads(line) for line in (tmp_path / "with" / "metrics.jsonl").read_text().splitlines()]
    assert any(row.get("short_steps/shortened", 0) > 0 for row in rows)


def moved(result) -> float:
    """How far the probability of the forget set fell, in powers of e."""
    import math

    before, after = (result.scores[column]["forget"]["prob"].value for column in ("before", "after"))
    return abs(math.log(before / after))


def test_its_options_are_checked_like_any_others(guides_rule):
    with pytest.raises(PlanError, match="unknown option of short_steps 'shar'; did you mean 'share'"):
        rules.chosen([{"kind": "short_steps", "shar": 1}])


def test_without_its_file_it_is_unknown():
    with pytest.raises(PlanError, match="unknown rule 'short_steps'"):
        rules.load("short_steps")


@pytest.mark.slow
def test_in_a_checkout_two_files_are_enough(warm, tmp_path):
    """Its own test passes and the battery finds it, with nothing registered anywhere."""
    for name in COPIED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    before = tree(tmp_path)
    put(tmp_path, files_of_the_guide())
    own_test, battery = "tests/rules/test_short_steps.py", "tests/contract/test_rules.py"
    done = warm.pytest(tmp_path, own_test, battery, "-k", "short_steps", "-rA", "-p", "no:xdist")
    assert done.returncode == 0, done.stdout[-6000:]
    assert done.stdout.count(f"PASSED {own_test}") >= num_tests(tmp_path / own_test)
    others = 2  # one asks those with an off alone, one a rule of its own
    assert done.stdout.count(f"PASSED {battery}") >= num_tests(tmp_path / battery) - others
    after = tree(tmp_path)
    assert {path for path in after if after[path] != before.get(path)} == set(files_of_the_guide())
    assert before.keys() <= after.keys()
