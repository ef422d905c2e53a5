"""Rules on the command line: the list, the flag, and what is refused."""

from __future__ import annotations

import json

import pytest

from palimpsest import rules
from palimpsest.cli import main
from palimpsest.cli.option_rows import option_rows
from palimpsest.cli.options import parse_rule, sections_from
from palimpsest.errors import PlanError


def shown(capsys, *arguments: str) -> str:
    assert main([*arguments]) == 0
    return capsys.readouterr().out


def test_the_list_has_every_rule_and_fits_a_terminal(capsys):
    text = shown(capsys, "rules")
    assert all(f"  {name:15} use when " in text for name in rules.names())
    assert max(map(len, text.splitlines())) <= 120
    values = json.loads(shown(capsys, "rules", "--json"))
    assert values.keys() == set(rules.names())
    assert values["partial"]["options"]["keep"]["default"] == "0.1"
    assert values["ema"]["place"] == "watches"


@pytest.mark.parametrize("name", rules.names())
def test_one_of_them_is_shown_with_its_source_and_options(capsys, name):
    text = shown(capsys, "rules", name)
    assert "Source:" in text
    assert rules.rule_card(name) == rules.card_of_rule(rules.load(name))
    read, asked = (option_rows(schema, name) for schema in (rules.options_of_rule(name), rules.load(name).Config))
    assert [(row.name, row.values()) for row in read] == [(row.name, row.values()) for row in asked]
    assert all(f"  {name}.{option} = " in text for option in rules.load(name).Config.model_fields)


def test_an_unknown_one_is_refused(capsys):
    assert main(["rules", "mask"]) == 2
    assert "unknown rule 'mask'; did you mean 'masked'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("ema", {"kind": "ema"}),
        ("partial:keep=0.1,rule=cyclic", {"kind": "partial", "keep": 0.1, "rule": "cyclic"}),
        ("masked:of=[forget, learn],share=0.2", {"kind": "masked", "of": ["forget", "learn"], "share": 0.2}),
        ("partial:layers={a: 0.1, b: 1}", {"kind": "partial", "layers": {"a": 0.1, "b": 1}}),
    ],
)
def test_a_flag_is_a_row_of_the_plan(text, row):
    assert parse_rule(text) == row


@pytest.mark.parametrize("text", ["partial:keep", "partial:=1", ":keep=1", "partial:keep=[1", "partial:keep=1,"])
def test_half_a_flag_is_refused(text):
    with pytest.raises(PlanError, match="accepted: KIND:OPTION=VALUE"):
        parse_rule(text)


def test_set_takes_the_whole_list():
    found = sections_from("icu", None, ["rules=[{kind: ema}]"], {}, None, None)
    assert found == {"rules": [{"kind": "ema"}]}


def test_a_run_that_cannot_be_writes_nothing(tmp_path, capsys):
    for name in ("f", "r"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"id": name, "text": f"a text of {name}"}) + "\n")
    (tmp_path / "lm").mkdir()
    (tmp_path / "lm" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (tmp_path / "lm" / "model.safetensors").write_bytes(b"")
    sets = ["--forget", str(tmp_path / "f.jsonl"), "--retain", str(tmp_path / "r.jsonl")]
    run = ["unlearn", "--model", str(tmp_path / "lm"), *sets, "-o", str(tmp_path / "out"), "--method", "grad_diff"]
    for given, said in {
        ("--rule", "ema", "--rule", "slow_weights"): "rule slow_weights: another rule ema already decides",
        ("--rule", "spring:of=replay"): "rule spring looks at the replay set; give it with --replay FILE",
        ("--rule", "partial:kep=1"): "unknown option of partial 'kep'; did you mean 'keep'?",
        ("--set", "rules=partial"): "rules = 'partial'; accepted: a list of mappings",
    }.items():
        assert main([*run, *given]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line
        assert not (tmp_path / "out").exists()
        assert not list(tmp_path.glob("out*"))
