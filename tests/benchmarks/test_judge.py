"""What passes: by hand, at the bounds and beyond them."""

from __future__ import annotations

import math

import pytest

from out_of_the_box.judge import broken_floors, false_pass, forgotten, judged, level_error, share


def texts(es: float, ma: float, nats: float = 2.0, *, retain: float = 1.0, ppl: float = 4.0) -> dict:
    return {"forget": {"es": es, "ma": ma, "nats": nats}, "retain": {"es": retain}, "general": {"ppl": ppl}}


def images(accuracy: float, *, retain: float = 1.0, general: float = 0.5) -> dict:
    return {
        "forget": {"accuracy": accuracy, "nats": 1.0},
        "retain": {"accuracy": retain},
        "general": {"accuracy": general},
    }


@pytest.mark.parametrize(
    ("es", "ma", "passes"),
    [(0.2, 0.6, True), (0.0, 0.4, True), (0.21, 0.5, False), (0.1, 0.61, False), (0.1, 0.39, False), (0.1, 0.5, True)],
)
def test_forgotten_is_near_the_oracle_on_both_sides(es: float, ma: float, passes: bool) -> None:
    assert forgotten(texts(es, ma), texts(0.1, 0.5), "text") is passes


def test_of_images_accuracy_counts() -> None:
    assert forgotten(images(0.5), images(0.6), "image")
    assert not forgotten(images(0.4), images(0.6), "image")


@pytest.mark.parametrize(
    ("retain", "ppl", "broken"),
    [(0.9, 4.4, ()), (0.89, 4.4, ("retain",)), (0.9, 4.41, ("general",)), (0.0, math.inf, ("retain", "general"))],
)
def test_floors_of_texts(retain: float, ppl: float, broken: tuple[str, ...]) -> None:
    assert broken_floors(texts(0, 0, retain=retain, ppl=ppl), texts(1, 1), "text") == broken


def test_what_was_not_measured_breaks_its_floor() -> None:
    assert broken_floors(texts(0, 0, retain=math.nan, ppl=math.nan), texts(1, 1), "text") == ("retain", "general")


@pytest.mark.parametrize(
    ("retain", "general", "broken"), [(0.9, 0.45, ()), (0.9, 0.44, ("general",)), (0.8, 0.5, ("retain",))]
)
def test_floors_of_images(retain: float, general: float, broken: tuple[str, ...]) -> None:
    assert broken_floors(images(0, retain=retain, general=general), images(1), "image") == broken


def test_level_error_has_a_sign_and_needs_a_level() -> None:
    assert level_error(0.7, texts(0.0, 0.5), "text") == pytest.approx(0.2)
    assert level_error(0.3, images(0.5), "image") == pytest.approx(-0.2)
    assert level_error(None, texts(0.0, 0.5), "text") is None


@pytest.mark.parametrize(
    ("verdict", "error", "false"),
    [
        ("passed", 0.11, True),
        ("passed", -0.11, True),
        ("passed", 0.1, False),
        ("undecided", 0.5, False),
        ("passed", None, False),
        (None, 0.5, False),
    ],
)
def test_false_pass(verdict: str | None, error: float | None, false: bool) -> None:
    assert false_pass(verdict, error) is false


def test_share_of_nothing() -> None:
    assert share(1.0, 4.0) == 0.25
    assert share(1.0, 0.0) is None


def test_judged_together() -> None:
    """0.06 and 0.1 from the oracle, retain whole, nats twice the oracle's; its level was 0.15 too high."""
    scores = {"before": texts(1, 1), "after": texts(0.06, 0.6, 4.0), "oracle": texts(0.0, 0.5, 2.0)}
    found = judged(scores, modality="text", verdict="passed", level=0.65)
    assert found["passed"]
    assert found["broken"] == []
    assert found["level_error"] == pytest.approx(0.15)
    assert found["false_pass"]
    assert not found["wrong_pass"]
    assert found["nats_ratio"] == 2.0


@pytest.mark.parametrize("after", [texts(1, 1), texts(0.0, 0.5, retain=0.5)], ids=["still known", "retain lost"])
def test_said_passed_and_is_not(after: dict) -> None:
    found = judged(
        {"before": texts(1, 1), "after": after, "oracle": texts(0.0, 0.5)}, modality="text", verdict="passed"
    )
    assert not found["passed"]
    assert found["wrong_pass"]


def test_a_model_that_says_infinity_has_no_ratio() -> None:
    scores = {"before": texts(1, 1), "after": texts(0, 0, math.inf), "oracle": texts(0, 0)}
    assert judged(scores, modality="text")["nats_ratio"] == math.inf
