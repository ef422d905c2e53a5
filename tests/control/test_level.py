"""Where the level comes from, what corrects it, and when it is not to be trusted."""

from __future__ import annotations

import pytest

from palimpsest.control.level import from_classes, from_oracle, from_shadow
from palimpsest.control.readings import Reading, RowReading
from palimpsest.control.told import ToldClasses
from palimpsest.errors import PlanError


def known(ma: float, rows: int = 2) -> Reading:
    return Reading({f"r{n}": RowReading(3.0, 10, ma, 0.0) for n in range(rows)})


@pytest.mark.parametrize(
    ("calibrated", "correction"),
    [
        ({"general": (known(0.50), known(0.40))}, 0.06),
        ({"general": (known(0.40), known(0.50))}, -0.10),
        ({"holdout": (known(0.45), known(0.44))}, 0.06),
        ({"holdout": (known(0.50), known(0.45)), "general": (known(0.40), known(0.50))}, 0.0),
    ],
)
def test_correction_by_hand(calibrated, correction):
    level = from_shadow(known(0.30), **calibrated)
    assert level.correction == pytest.approx(correction)
    assert level.ma == pytest.approx(0.30 + correction)
    assert level.doubt == ""


def test_a_shadow_that_nothing_calibrates_is_not_trusted():
    level = from_shadow(known(0.30))
    assert level.ma == pytest.approx(0.36)
    assert "nothing given to the run checks the estimate" in level.doubt


@pytest.mark.parametrize("name", ["holdout", "general"])
def test_another_kind_of_model_is_not_trusted(name):
    level = from_shadow(known(0.30), **{name: (known(0.20), known(0.45))})
    assert "uncertain" in level.doubt
    assert name in level.doubt


def test_a_shadow_of_nothing_is_not_trusted():
    assert "no retain or replay" in from_shadow(known(0.0), empty=True).doubt


def test_an_oracle_is_taken_as_it_is():
    level = from_oracle(known(0.42))
    assert (level.ma, level.correction, level.doubt) == (0.42, 0.0, "")
    assert level.sentence == "the oracle's own reading: MA 0.42, ES 0.00, 0.30 nats per token"
    images = from_oracle(known(0.42), things="image")
    assert images.sentence == "the oracle's own reading: accuracy 0.42, 0.30 nats per image"


def test_moved_rows_stay_shares():
    assert from_shadow(known(0.99)).ma == 1.0
    assert from_shadow(known(0.01), general=(known(0.0), known(0.15))).ma == 0.0


def test_a_class_that_is_gone_is_never_predicted():
    level = from_classes({"a": 3, "b": 3}, frozenset({0, 1}), {})
    assert (level.ma, level.source, level.doubt) == (0.0, "classes", "")


def test_a_class_that_stays_is_known_as_on_the_holdout():
    unseen = {3: {"u": RowReading(0.1, 1, 1.0, 1.0), "v": RowReading(1.5, 1, 0.0, 0.0)}}
    level = from_classes({"a": 3, "b": 5}, frozenset({3}), unseen)
    assert level.reading.rows["a"].ma == 0.5
    assert level.reading.rows["b"].ma == 0.0
    assert level.doubt == ""


def test_a_text_whose_words_tell_its_class_is_as_such_texts_of_the_holdout():
    """Three of four unseen are right, and of those whose words say another class none; all of the class count once."""
    right, wrong = RowReading(0.1, 1, 1.0, 1.0), RowReading(2.1, 1, 0.0, 0.0)
    unseen = {3: {"u": right, "v": right, "w": right, "x": wrong}}
    told = ToldClasses(
        {"a": True, "b": False}, {**dict.fromkeys("uvw", True), "x": False}, dict.fromkeys("abuvwx", 3), "its words"
    )
    level = from_classes({"a": 3, "b": 3}, frozenset({3}), unseen, "text", told)
    assert level.reading.rows["a"].ma == pytest.approx((3 + 0.75) / 4)
    assert level.reading.rows["b"].ma == pytest.approx((0 + 0.75) / 2)
    assert level.reading.rows["b"].nats == pytest.approx((2.1 + 0.6) / 2)
    assert level.sentence.endswith("class by class, and by whether its words tell the class")


def test_more_rows_of_another_class_than_chance_explains_were_known_by_heart_and_nothing_passes():
    """p = (10 + 1) / 102 for all and p_i = (10 + p) / 101 of the one class: that share is as unseen rows."""
    right, wrong = RowReading(0.1, 1, 1.0, 1.0), RowReading(2.1, 1, 0.0, 0.0)
    unseen = {f"u{i}": wrong if i < 5 else right for i in range(100)}
    forget = {f"f{i}": False for i in range(6)}
    told = ToldClasses(
        forget, {i: int(i[1:]) >= 10 for i in unseen}, dict.fromkeys([*unseen, *forget], 3), "what looks like it"
    )
    level = from_classes(dict.fromkeys(forget, 3), frozenset({3}), {3: unseen}, "image", told)
    of_such = (5 + 0.95) / 11  # ten unseen ones, half of them right, and all of the class once
    assert level.ma == pytest.approx((10 + 11 / 102) / 101 * of_such)
    assert level.reading.es == pytest.approx(level.ma)
    assert "6 of 6 images to forget are of another class" in level.doubt
    assert level.doubt.endswith("of the holdout only 0.60 of so many")


def test_a_class_that_the_holdout_lacks_is_as_the_whole_holdout_and_nothing_passes():
    unseen = {1: {"u": RowReading(0.1, 1, 1.0, 1.0), "v": RowReading(1.5, 1, 0.0, 0.0)}}
    level = from_classes({"a": 3}, frozenset({1, 3}), unseen)
    assert level.ma == 0.5
    assert "class 3" in level.doubt


def test_a_class_that_stays_without_a_holdout_is_refused():
    """A level of 1 would be reached at once, and "not known: nothing to do" be said of images known by heart."""
    with pytest.raises(PlanError, match="--holdout FILE.*--make-oracle"):
        from_classes({"a": 3}, frozenset({3}), {})


def test_nothing_passes_where_nothing_tells_which_classes_stay():
    assert "no retain" in from_classes({"a": 3}, frozenset(), {}).doubt
