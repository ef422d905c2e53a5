"""Sentences of meaning are computed from the run, and say nothing where nothing is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from palimpsest.report.glossary import glossary
from palimpsest.report.meaning import meaning
from palimpsest.report.schema import RunResult
from palimpsest.report.worst import worst


def test_the_oracle_s_number_leads(result: RunResult) -> None:
    assert meaning(result) == (
        "MA 0.59 is what a model scores that never saw these rows (the oracle, retrained without them). After the run "
        "it is 0.56, before it was 0.99. Forgotten means as low as that, and lower would not be better: so much of "
        "these rows can be guessed by who never saw them."
    )


@pytest.mark.parametrize(
    ("origin", "said"),
    [
        ("unknown", "MA 0.59 is what the oracle scores, and nothing shows that it never saw these rows."),
        ("base", "(the oracle, the base before it learned anything)"),
    ],
)
def test_an_oracle_is_called_what_is_known_of_it(result: RunResult, origin: str, said: str) -> None:
    assert said in meaning(result.model_copy(update={"oracle_origin": origin}))


def test_without_an_oracle_the_holdout_and_without_both_nothing(result: RunResult) -> None:
    scores = {column: dict(sets) for column, sets in result.scores.items() if column != "oracle"}
    said = meaning(result.model_copy(update={"scores": scores}))
    assert said.startswith("MA 0.57 is what this model scores on comparable rows that it never saw (the holdout).")
    for sets in scores.values():
        sets.pop("holdout")
    assert meaning(result.model_copy(update={"scores": scores})) == ""
    assert meaning(result.model_copy(update={"kind": "learn"})) == ""


@pytest.mark.parametrize(
    ("source", "level", "said"),
    [
        ("holdout", 0.74, "(from images of the same classes that the model never saw). After the run it is 0.70"),
        ("holdout", 0.74, "Forgotten means near that level, not near 0"),
        ("classes", 0.0, "Accuracy 0.00 is what a model should score that never saw these images (no image of"),
        ("classes", 0.0, "Forgotten means as low as that."),
        ("shadow", 0.4, "(an estimate, from an n-gram model of what stays)"),
    ],
)
def test_estimates_say_what_they_are(
    images_at: Callable[[str, float], RunResult], source: str, level: float, said: str
) -> None:
    assert said in meaning(images_at(source, level))


def test_the_glossary_has_what_was_measured_once_and_no_more() -> None:
    entries = glossary(("ma", "el_5", "el_10", "mine"), images=False)
    assert [entry.name for entry in entries] == ["MA", "EL"]
    assert "runs of 5 tokens" in entries[1].sentence
    (prob,) = glossary(("prob",), images=True)
    assert prob.sentence == "how likely the model finds the class that the image has."


def test_the_worst_of_what_goes_is_the_best_known_and_of_what_stays_the_least(result: RunResult) -> None:
    # Values wobble by 0.002 around the level: rows 4, 9 and 14 are highest, 0, 5 and 10 lowest.
    found = {name: worst(result, name, "es") for name in ("forget", "retain", "holdout")}
    assert found["forget"] is not None
    assert found["retain"] is not None
    assert (found["forget"].id, round(found["forget"].value, 3)) == ("row-0004", 0.046)
    assert (found["retain"].id, round(found["retain"].value, 3)) == ("row-0000", 0.91)
    assert found["holdout"] is None
    general = worst(result, "general", "ppl")
    assert general is not None
    assert general.value == pytest.approx(5.501)  # of perplexity the highest is known least


def test_right_or_wrong_has_no_worst_and_a_measurement_neither(images: RunResult, bare: RunResult) -> None:
    assert worst(images, "forget", "accuracy") is None
    assert worst(images, "forget", "prob") is not None
    assert worst(bare, "forget", "es") is None
