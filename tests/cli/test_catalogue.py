"""``options`` and docs/options.md are what the schemas say, and leave nothing out."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import pytest
import typer
import yaml

from palimpsest import methods, metrics
from palimpsest.audit.gates import parse_gates
from palimpsest.cli import app, main
from palimpsest.cli.catalogue import BESIDE, GATES, plan_sections
from palimpsest.cli.catalogue import page as made_page
from palimpsest.cli.options import ROUTED
from palimpsest.engine.plan import SECTIONS, Plan, make_plan

page = cache(made_page)
PAGE = Path(__file__).parents[2] / "docs" / "options.md"
FIELDS = {"kind": "unlearn", "method": "grad_diff", "model": "m", "files": {"forget": "f", "retain": "r"}}


def test_the_page_is_what_the_schemas_say():
    assert PAGE.read_text(encoding="utf-8") == page(), "run: palimpsest options --markdown > docs/options.md"


def test_every_section_is_there():
    assert {*plan_sections(), *BESIDE} == set(SECTIONS)
    assert set(plan_sections()) == {*ROUTED, "controls", "gates"}


@pytest.mark.parametrize(
    "name", [name for name in SECTIONS if name not in (*BESIDE, "controls", "gates", "head", "refine", "restore")]
)
def test_every_option_of_a_section_is_there_with_its_default(name):
    section = Plan.model_fields[name].default
    rows = {row.name: row for row in plan_sections()[name]}
    assert set(type(section).model_fields) <= set(rows)
    for option, field in type(section).model_fields.items():
        default = yaml.safe_load(rows[option].default)
        real = json.loads(json.dumps(field.get_default(call_default_factory=True)))
        assert default == real or float(default) == real
        assert f"| `{name}.{option}` |" in page()


def test_controls_are_shown_with_a_set_between():
    assert "| `controls.SET.temperature` | 1.0 |" in page()
    assert make_plan(FIELDS, {"controls": {"retain": {"cap": 3}}}).controls["retain"].cap == 3


@pytest.mark.parametrize("name", methods.names())
def test_every_option_of_a_method_is_there(name):
    for option in methods.load(name).Config.model_fields:
        assert f"| `{name}.{option}` |" in page()


def test_every_option_of_a_metric_is_there():
    for name in metrics.names():
        for option in metrics.load(name).Config.model_fields:
            assert f"| `{name}.{option}` |" in page()


@pytest.mark.parametrize("verb", ["learn", "unlearn", "update"])
def test_every_flag_is_there_those_that_help_leaves_out_too(verb):
    table = page().partition("## Flags")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if line.startswith("| `")]
    spelled = {
        flag: shown
        for names, verbs, shown, *_ in rows
        for flag in re.findall(r"-[\w-]+", names)
        if verb in verbs.split(", ") or verbs == "all"
    }
    for parameter in typer.main.get_command(app).commands[verb].params:
        for flag in (*parameter.opts, *parameter.secondary_opts):
            if flag != "--help":
                assert spelled.pop(flag) == ("--help-all" if parameter.hidden else "--help")
    assert not spelled


def test_the_gates_shown_are_gates():
    gates = parse_gates(yaml.safe_load(GATES)["gates"])
    assert gates[0].sentence == "forget ma within 0.10 of the oracle's"
    assert make_plan(FIELDS, yaml.safe_load(GATES)).gates == gates


def test_what_depends_on_the_run_is_what_the_run_takes():
    """The notes beside the defaults, against the plans that are made."""
    rows = {row.path: row for rows in plan_sections().values() for row in rows}
    assert re.search(r"1e-05 for [a-z_, ]*\bbad_teacher\b", rows["training.learning_rate"].depends)
    assert make_plan(FIELDS, {"preset": "paper"}).training.learning_rate == 1e-5
    assert rows["training.lr_scheduler_type"].depends.endswith("linear for foster, ug_clu")
    assert make_plan({**FIELDS, "method": "ug_clu"}, {}).training.lr_scheduler_type == "constant"
    fixed = make_plan({**FIELDS, "method": "ug_clu"}, {"training": {"learning_rate": 1e-3}})
    assert fixed.training.lr_scheduler_type == "linear"
    assert fixed.control.kind == "none"


def test_images_have_other_defaults(tmp_path):
    (tmp_path / "config.json").write_text('{"architectures": ["ResNetForImageClassification"]}')
    rows = {row.path: row for rows in plan_sections().values() for row in rows}
    plan = make_plan({**FIELDS, "model": str(tmp_path)}, {})
    for path, value in (("training.batch_size", plan.training.batch_size), ("repair.rows", plan.repair.rows)):
        assert rows[path].depends.startswith(f"{value} for images")


def test_one_section_or_method_is_shown_in_full(capsys):
    assert main(["options", "scope"]) == 0
    out = capsys.readouterr().out
    assert "scope.rank = 16   (whole number at least 1)" in out
    assert "False saves the adapter" in out
    assert "training." not in out
    assert main(["options", "npo", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["npo"]["beta"]["default"] == "0.1"


def test_all_of_them_fit_a_terminal(capsys):
    assert main(["options"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 100


def test_an_unknown_one_is_guessed(capsys):
    assert main(["options", "trainin"]) == 2
    assert "did you mean 'training'?" in capsys.readouterr().err


def test_a_metric_has_options_too(capsys):
    assert main(["options", "el"]) == 0
    assert "el.n = 10" in capsys.readouterr().out
