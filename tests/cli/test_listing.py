"""``methods`` and ``metrics``: grouped, one line each, and all there is in JSON."""

from __future__ import annotations

import json
from typing import get_args

import pytest

from palimpsest import methods, metrics
from palimpsest.cli import main
from palimpsest.cli.listing import APPROACH_WORDS, GROUPS, group_of
from palimpsest.method_card import Approach
from palimpsest.version import VERSION


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_every_method_is_listed_once_under_what_it_does(capsys):
    text = shown(capsys, "methods")
    assert max(map(len, text.splitlines())) <= 100
    blocks = dict(zip(GROUPS, (block.splitlines() for block in text.split("\n\n")), strict=False))
    for name in methods.names():
        (line,) = [line for line in text.splitlines() if line.split()[:1] == [name]]
        assert line in blocks[group_of(methods.card(name))]


def test_what_unlearns_is_grouped_by_how_it_works(capsys):
    lines = shown(capsys, "methods").splitlines()
    (at,) = [n for n, line in enumerate(lines) if line.split()[:1] == ["npo"]]
    headings = [line for line in lines[:at] if line.startswith(" by ")]
    assert headings[-1] == f" {APPROACH_WORDS['ascent']}:"
    assert set(APPROACH_WORDS) == set(get_args(Approach))
    assert f"works     {APPROACH_WORDS['ascent']}\n" in shown(capsys, "methods", "npo")


def test_a_method_shows_its_sets_training_and_options(capsys):
    text = shown(capsys, "methods", "icu")
    assert "Use when texts must go" in text
    assert "needs     forget; analogous (rows of retain that are most like those to forget)" in text
    assert "--preset paper (learning_rate 5e-06) or --lr" in text
    assert "betas [0.9, 0.98]" in text
    assert "  icu.alpha = 0.5   (number at least 0)\n      Factor of learning on the analogous set;" in text
    assert "Source: Tang, Liu et al." in text


def test_a_method_without_steps_or_rate_says_so(capsys):
    assert "takes no steps" in shown(capsys, "methods", "random_edit")
    assert "at its own length, learning_rate 0.002" in shown(capsys, "methods", "eul")
    assert "unless --lr is given, then lr_scheduler_type linear" in shown(capsys, "methods", "ug_clu")


def test_options_of_images_are_named(capsys):
    assert "ug_clu.ascent = 3.0   (number at least 0; 500.0 for images" in shown(capsys, "methods", "ug_clu")


def test_json_has_all_of_it(capsys):
    found = json.loads(shown(capsys, "methods", "--json"))
    assert sorted(found) == sorted(methods.names())
    for name, values in found.items():
        kind = methods.load(name)
        assert values["training"] == json.loads(json.dumps(kind.defaults))
        assert values["use_when"] == kind.use_when
        assert (values["needs"], values["uses"]) == (list(kind.needs), list(kind.uses))
        assert sorted(values["options"]) == sorted(kind.Config.model_fields)


def test_every_metric_says_what_its_value_means(capsys):
    text = shown(capsys, "metrics")
    for name in metrics.names():
        assert metrics.load(name).means.endswith(".")
        assert f"{name:10}{metrics.load(name).means}\n" in text
    assert "lower is more known" in text
    assert set(json.loads(shown(capsys, "metrics", "--json"))) == set(metrics.names())


def test_metrics_of_a_bench_stand_below_and_what_one_asks_for_is_said(capsys):
    text = shown(capsys, "metrics")
    assert "  BWT         backward transfer: last accuracy of a task less that when taught, points\n" in text
    assert "  MIA         The share of the forget set that an attack" in text
    one = shown(capsys, "metrics", "kl_beside")
    assert "asks for  a second model beside the measured one\n" in one
    assert "In a bench" not in one
    assert json.loads(shown(capsys, "metrics", "el", "--json"))["el"]["asks"] == ["greedy", "teacher"]


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version(capsys, flag):
    assert shown(capsys, flag) == f"palimpsest {VERSION}\n"


@pytest.mark.parametrize(
    ("word", "guess"),
    [("method", "methods"), ("metric", "metrics"), ("option", "options"), ("forget", "unlearn"), ("lern", "learn")],
)
def test_a_command_is_guessed(capsys, word, guess):
    assert main([word]) == 2
    assert f"unknown command {word!r}; did you mean {guess!r}? accepted: bench," in capsys.readouterr().err
