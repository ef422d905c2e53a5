from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from palimpsest.report.figures import Bar, Group, Line, Scale, bars, curve, domain_top


def elements(svg: str, tag: str, kind: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(svg).iter(tag) if kind in e.get("class", "").split()]


def test_scale_maps_and_clips() -> None:
    scale = Scale(0.0, 2.0, 100.0, 300.0)
    assert [scale.at(v) for v in (0.0, 0.5, 2.0, 3.0, -1.0)] == [100.0, 150.0, 300.0, 300.0, 100.0]
    assert Scale(0.0, 10.0, 90.0, 10.0).at(2.5) == 70.0


def test_domain_top() -> None:
    assert domain_top([0.2, None, 1.0]) == 1.0
    assert domain_top([5.2, float("inf")]) == 6.0
    assert domain_top([]) == 1.0


def test_bar_geometry_by_hand() -> None:
    # A group title takes 20, so the first bar lies at y = 20 and the second 18 lower. Values 0..1 lie on x = 76..344,
    # 268 units long: 0.5 is 134 long; the interval 0.25..0.75 runs from 76 + 67 = 143 to 76 + 201 = 277 at y = 20 + 6.
    svg = bars("t", [Group("forget", (Bar("before", 0.5, 0.25, 0.75), Bar("after", 0.1)))])
    (before,) = elements(svg, "rect", "before")
    assert [before.get(k) for k in ("x", "y", "width", "height")] == ["76", "20", "134", "12"]
    (after,) = elements(svg, "rect", "after")
    assert [after.get(k) for k in ("x", "y", "width", "height")] == ["76", "38", "26.8", "12"]
    (whisker,) = elements(svg, "path", "whisker")
    assert whisker.get("d") == "M143 22v8M143 26H277M277 22v8"
    assert [e.text for e in elements(svg, "text", "value")] == ["0.50", "0.10"]
    assert [e.text for e in elements(svg, "text", "label")] == ["before", "after"]
    assert [e.text for e in elements(svg, "text", "tick")] == ["0", "0.5", "1"]


def test_second_group_follows_the_first_and_the_axis_the_last() -> None:
    # 20 + 18 + 10 per group of one bar: the second bar lies at 48 + 20 = 68; the figure is 96 + 26 = 122 high.
    svg = bars("t", [Group("a", (Bar("after", 1.0),)), Group("b", (Bar("oracle", 1.0),))])
    (second,) = elements(svg, "rect", "oracle")
    assert (second.get("y"), second.get("width")) == ("68", "268")
    assert ET.fromstring(svg).get("height") == "122"


def test_an_unscored_bar_is_a_dash_without_a_rectangle() -> None:
    svg = bars("t", [Group("forget", (Bar("after", None),))])
    assert elements(svg, "rect", "bar") == []
    assert [e.text for e in elements(svg, "text", "value")] == ["–"]


def test_curve_geometry_by_hand() -> None:
    # Steps 0..40 lie on x = 44..284 (6 a step), values 0..1 on y = 156..44 (112 long, upwards).
    svg = curve(Line("forget ma", "share", ((0, 1.0), (10, 0.5), (40, 0.25)), level=0.75, level_name="oracle"))
    (polyline,) = elements(svg, "polyline", "curve")
    assert polyline.get("points") == "44,44 104,100 284,128"
    (level,) = elements(svg, "line", "level")
    assert [level.get(k) for k in ("x1", "y1", "x2", "y2")] == ["44", "72", "284", "72"]
    words = [e.text for e in ET.fromstring(svg).iter("text")]
    assert {"forget ma", "share", "1.00 → 0.25", "oracle 0.75", "optimizer steps", "0", "40"} <= set(words)


def test_a_value_that_is_not_finite_interrupts_the_curve() -> None:
    points = ((0, 0.5), (1, 0.5), (2, float("nan")), (3, 0.5), (4, 0.5))
    lines = elements(curve(Line("q", "", points)), "polyline", "curve")
    assert [e.get("points", "").count(",") for e in lines] == [2, 2]


def test_one_point_is_a_dot() -> None:
    svg = curve(Line("q", "", ((5, 0.5),)))
    assert elements(svg, "polyline", "curve") == []
    (dot,) = elements(svg, "circle", "dot")
    assert (dot.get("cx"), dot.get("cy")) == ("44", "100")


@pytest.mark.parametrize("hostile", ["<script>", "a & b", '"quoted"'])
def test_names_are_escaped(hostile: str) -> None:
    svg = bars(hostile, [Group(hostile, (Bar("after", 1.0),))]) + curve(Line(hostile, hostile, ((0, 1.0),)))
    assert hostile not in svg.replace("</", "") or hostile == '"quoted"'
    for figure in (bars(hostile, [Group(hostile, (Bar("after", 1.0),))]), curve(Line(hostile, "", ((0, 1.0),)))):
        assert hostile in [e.text for e in ET.fromstring(figure).iter("text")]
