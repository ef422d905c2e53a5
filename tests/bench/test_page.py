"""The page of a bench: whole, escaped, without torch; pictures whose numbers can be read back."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from palimpsest.bench.results import StreamRequestInfo
from palimpsest.bench.scores import Spread
from palimpsest.bench.show.bench_page import render_bench, save_bench_html
from palimpsest.bench.show.caveats import caveats
from palimpsest.bench.show.charts import CELL_HEIGHT, gap_bars, mini, stream_picture

VOID = {"meta", "rect", "line", "circle", "path", "polyline", "polygon"}


class Balanced(HTMLParser):
    """Every element that opens closes, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def known(*parts: dict[str, int], forget: dict[int, int] | None = None) -> list[StreamRequestInfo]:
    gone = forget or {}
    return [
        StreamRequestInfo(
            name=f"r{j}", kind="R", task=None, learn=int(j not in gone), forget=gone.get(j, 0), remaining=0, memory=j,
            tasks=tasks, forgotten={},
        )
        for j, tasks in enumerate(parts)
    ]  # fmt: skip


def boxes(svg: str, kind: str) -> list[float]:
    """Heights of the boxes of a kind, as shares of a cell."""
    return [float(h) / CELL_HEIGHT for h in re.findall(rf'<rect class="{kind}"[^>]* height="([\d.]+)"', svg)]


def test_the_page_is_whole_and_escapes_what_users_wrote(finished, tmp_path):
    page = render_bench(finished)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "<er>" not in page
    assert page.count("&lt;er&gt; &amp; npo") >= 5
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    save_bench_html(finished, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page


def test_the_page_shows_values_ranges_and_what_was_stopped(finished):
    page = render_bench(finished)
    assert "0.00–9.50" in page  # gap of the row over its two seeds
    assert "KL U 0.05 (0.05 to 0.05)" in page
    assert page.count("it diverged") == 4


def test_each_table_says_how_far_two_oracles_are_apart(finished):
    said = re.findall(r"Two oracles[^:]*apart: ([^<]*)</p>", " ".join(render_bench(finished).split()))
    assert said[0] == "gap U 4.00 (4.00 to 4.00)."
    assert said[1].endswith("KL U 0.05 (0.05 to 0.05), KL R 0.05 (0.05 to 0.05).")


def test_what_the_page_does_not_prove(finished):
    sentences = " ".join(caveats(finished))
    assert "2 seeds: the ranges are the lowest and highest" in sentences
    assert "No test data were given" in sentences
    assert "smallest set has 10 examples: one of them is 10 points" in sentences
    assert "No second oracle" not in sentences  # it was


def test_cells_are_filled_as_far_as_the_task_is_known():
    svg = stream_picture(known({"a": 8}, {"a": 8, "b": 4}, {"a": 2, "b": 4}, forget={2: 6}))
    assert boxes(svg, "taught") == [1.0, 1.0]
    assert sorted(boxes(svg, "known")) == [0.25, 1.0, 1.0]
    assert boxes(svg, "lost") == [0.75]
    assert ">−6<" in svg
    assert [*re.findall(r">(L|U|LU)<", svg)] == ["L", "L", "U"]


def test_bars_grow_with_the_gap():
    one, two = Spread(10, 8, 12, 3), Spread(20, 20, 20, 1)
    svg = gap_bars({"a": (one, Spread(30, 30, 30, 3)), "b": (two, None), "c": (None, None)})
    widths = [float(w) for w in re.findall(r'class="bar after"[^>]* width="([\d.]+)"', svg)]
    assert widths[1] == pytest.approx(2 * widths[0], rel=1e-3)
    assert svg.count('class="whisker"') == 1
    assert svg.count('class="worst"') == 1
    assert "10.0 (30.0)" in svg


def test_a_curve_leaves_out_requests_without_the_set():
    points = [None, Spread(100, 100, 100, 1), Spread(0, 0, 0, 1)]
    svg = mini("1: learn", points, [None, None, Spread(50, 50, 50, 1)])
    line = re.search(r'class="curve" points="([^"]+)"', svg)[1].split()
    assert len(line) == 2
    assert float(line[0].split(",")[1]) < float(line[1].split(",")[1])  # 100 is above 0
    assert 'class="ideal"' not in svg  # one point is no line
    assert svg.count('class="ring"') == 1
    assert 'class="band"' not in svg


def test_a_page_is_rendered_without_torch():
    code = (
        "import sys, palimpsest.bench.show.bench_page, palimpsest.bench.show.console; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(Path(__file__).parents[2] / "src")})
