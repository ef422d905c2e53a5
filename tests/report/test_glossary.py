"""The metrics in words: ours, one of a file of its own, one that nobody knows."""

from __future__ import annotations

import sys

import pytest

from palimpsest import metrics
from palimpsest.report.glossary import Entry, full_name, glossary, stem, written_name

METRIC = """from palimpsest.metrics.metric import Metric


class Strict(Metric):
    means = {means!r}


METRIC = Strict
"""


@pytest.fixture(params=["Only what counts {so} much.", "KL of two models."])
def own(request, tmp_path, monkeypatch) -> str:
    """A metric ``ma_strict`` in a folder of its own; what it means."""
    (tmp_path / "ma_strict.py").write_text(METRIC.format(means=request.param), encoding="utf-8")
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    yield request.param
    sys.modules.pop("palimpsest.metrics.ma_strict", None)


def test_a_metric_of_its_own_is_told_in_its_own_words(own):
    said = own if own.startswith("KL") else f"o{own[1:]}"
    assert glossary(("ma_strict", "ma"), images=False)[0] == Entry("ma_strict", "", said)
    assert glossary(("ma_strict_3",), images=True) == (Entry("ma_strict_3", "", said),)


def test_it_is_not_taken_for_the_one_that_its_name_begins_with(own):
    assert (stem("ma_strict"), full_name("ma_strict"), written_name("ma_strict")) == ("ma_strict",) * 3
    assert (stem("ma"), full_name("ma"), written_name("ma")) == ("ma", "memorization accuracy", "MA")


def test_one_kind_is_told_once_and_what_nobody_knows_not_at_all():
    found = glossary(("el_10", "el_3", "gone"), images=False)
    assert [(entry.name, entry.full_name) for entry in found] == [("EL", "extraction likelihood")]
    assert "runs of 10 tokens" in found[0].sentence
    assert full_name("gone") == written_name("gone") == "gone"
