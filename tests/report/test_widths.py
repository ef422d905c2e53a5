"""Both pages in a browser: nothing off screen, nothing cut, on a desk and on a phone, and on paper.

The pages stay as they are: each lies in a frame of the width looked at, and a script outside the frame measures.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from palimpsest.bench.results import NOTHING, ORACLE, BenchResult, RowStep, SetScore, StepReading, StreamRequestInfo
from palimpsest.bench.show.bench_page import render_bench
from palimpsest.report.page import render
from palimpsest.report.schema import RunResult

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=2000",
)
SCREENS = {"desk": (1280, 800), "phone": (390, 844)}
SMALLEST = 8.5  # px: of words in a figure, after it was made to fit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser here; looked for {', '.join(BROWSERS)}"),
]

WRAPPER = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0">
<iframe style="border:0;width:WIDTHpx;height:HEIGHTpx" srcdoc="PAGE"></iframe><pre id="found"></pre>
<script>
const frame = document.querySelector("iframe");
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement, width = root.clientWidth, problems = [];
  const bottom = selector => { const e = page.querySelector(selector); return e && e.getBoundingClientRect().bottom; };
  const first = {
    verdict: bottom(".verdict"), asked: bottom(".brief dd"), brief: bottom(".brief"),
    prompt: bottom(".card .line"), card: bottom(".card"),
  };
  const hidden = [...page.querySelectorAll("details")].filter(d => !d.open).length;
  const unfolded = [...page.querySelectorAll("details > :last-child")].every(e => e.getBoundingClientRect().height > 0
    && e.checkVisibility({ contentVisibilityAuto: true }));
  page.querySelectorAll("details").forEach(d => { d.open = true; });
  const words = e => e.textContent.trim().replace(/\\s+/g, " ").slice(0, 40);
  const name = e => `${e.tagName.toLowerCase()}.${e.getAttribute("class") || ""} "${words(e)}"`;
  const away = e => getComputedStyle(e).clipPath !== "none" || e.parentElement && away(e.parentElement);
  const sideways = e => e.closest(".scroll");
  if (root.scrollWidth > width) problems.push(`the page is ${root.scrollWidth} wide`);
  for (const e of page.body.querySelectorAll("*")) {
    if (e.closest("svg") && e.tagName !== "svg" && e.tagName !== "text" || away(e)) continue;
    const box = e.getBoundingClientRect(), style = getComputedStyle(e);
    if (!box.width || !box.height) continue;
    const frameOf = sideways(e) && e !== sideways(e) ? null : { left: 0, right: width };
    if (frameOf && (box.right > frameOf.right + 0.5 || box.left < -0.5)) problems.push(`off screen: ${name(e)}`);
    if (e.tagName === "text") {
      const svg = e.ownerSVGElement, around = svg.getBoundingClientRect();
      if (box.right > around.right + 1 || box.left < around.left - 1) problems.push(`cut in its figure: ${name(e)}`);
      const size = parseFloat(style.fontSize) * around.width / svg.viewBox.baseVal.width;
      if (size < SMALLEST) problems.push(`too small (${size.toFixed(1)} px): ${name(e)}`);
    } else if (e.clientWidth && e.scrollWidth > e.clientWidth + 1 && e !== sideways(e) && style.display !== "inline") {
      problems.push(`wider than its box: ${name(e)}`);
    }
    if (e.scrollHeight > e.clientHeight + 1 && style.overflowY === "hidden") problems.push(`cut below: ${name(e)}`);
  }
  const scrollers = [...page.querySelectorAll(".tall, .long")].filter(e => e.scrollHeight > e.clientHeight + 1).length;
  const finding = page.querySelector(".gates tbody td:last-child");
  const narrowest = finding && finding.getBoundingClientRect().width;
  const found = { problems, first, scrollers, narrowest, hidden, unfolded };
  document.getElementById("found").textContent = JSON.stringify(found);
};
</script>"""


def look(page: str, folder: Path, size: tuple[int, int]) -> dict[str, Any]:
    """What a browser finds on a page in a window of a size; what is folded is opened after that was looked at."""
    values = {"WIDTH": size[0], "HEIGHT": size[1], "SMALLEST": SMALLEST, "PAGE": html.escape(page)}
    wrapped = re.sub("|".join(values), lambda match: str(values[match[0]]), WRAPPER)
    (folder / "wrapper.html").write_text(wrapped, encoding="utf-8")
    window = f"--window-size={max(size[0], 500)},{size[1]}"
    done = browse(folder, window, "--dump-dom", (folder / "wrapper.html").as_uri())
    found = re.search(r'<pre id="found">(\{.*?\})</pre>', done, re.DOTALL)
    assert found, f"the browser measured nothing: {done[-500:]}"
    return dict(json.loads(html.unescape(found[1])))


def browse(folder: Path, *arguments: str) -> str:
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def bench(requests: int = 10, seeds: int = 3) -> BenchResult:
    """A bench of texts with as many columns as there can be, ranges over the seeds, and long names."""
    names = [f"the people of Hill Road, number {i}" for i in range(requests)]

    def reading(j: int, off: float) -> StepReading:
        values = {"learn": 0.9 - off, "forget": 0.2 + off, "retain": 0.8 - off, "test": 0.5 - off / 2}
        values |= {f"task {name}": 0.9 - off for name in names[: j + 1]}
        sets = {
            name: SetScore(n=12, accuracy=v, strength=v / 2, nll=1.0, kl=off, accuracies={"x": v}, strengths={"x": v})
            for name, v in values.items()
        }
        return StepReading(sets=sets, mia=0.1 + off / 2)

    stream = tuple(
        StreamRequestInfo(
            name=name, kind="T", task=str(j), learn=12, forget=6, remaining=12 * j, memory=200,
            tasks=dict.fromkeys(names[: j + 1], 12), forgotten={},
        )
        for j, name in enumerate(names)
    )  # fmt: skip
    offs = {ORACLE: 0.0, "ug_clu": 0.05, "lwf+gradient_ascent_with_more": 0.2, NOTHING: 0.45}
    rows = {
        label: {
            seed: tuple(
                RowStep(model="m", weights="w", seconds=4321.0, tokens=10**7, reading=reading(j, off + 0.021 * seed))
                for j in range(requests)
            )
            for seed in range(seeds)
        }
        for label, off in offs.items()
    }
    return BenchResult(
        created="2026-01-01T00:00:00+00:00",
        bench={"stream": {"kind": "cross-category"}, "buffer": 100, "data": ["/d/train.jsonl"], "model": "/m/net"},
        streams=dict.fromkeys(range(seeds), stream),
        rows=rows,
        environment={"platform": "Linux-6.18.44-an-unusually-long-name-x86_64-with-glibc2.36" * 2},
    )


@pytest.fixture
def page_of(request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Name -> page: of runs with all there is, with little, with many rows; and of a bench."""

    def page(name: str) -> str:
        if name == "bench":
            return render_bench(bench())
        return render(request.getfixturevalue("make_run")(60) if name == "many" else request.getfixturevalue(name))

    return page


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", ["answered", "images", "bare", "many", "bench"])
def test_nothing_is_off_screen_or_cut(page_of: Callable[[str], str], tmp_path: Path, name: str, screen: str) -> None:
    assert "\n".join(look(page_of(name), tmp_path, SCREENS[screen])["problems"]) == ""


@pytest.mark.parametrize("screen", SCREENS)
def test_the_first_screen_has_verdict_request_and_answer(
    page_of: Callable[[str], str], tmp_path: Path, screen: str
) -> None:
    found, height = look(page_of("answered"), tmp_path, SCREENS[screen])["first"], SCREENS[screen][1]
    last = "card" if screen == "desk" else "prompt"
    assert found["verdict"] < found["asked"] < found["prompt"]
    assert found[last] <= height


def test_few_rows_are_not_put_into_a_box_and_findings_have_room(page_of: Callable[[str], str], tmp_path: Path) -> None:
    found = look(page_of("answered"), tmp_path, SCREENS["phone"])
    assert found["scrollers"] == 2  # the long prompt and the long answer before; 12 rows stand there whole
    assert found["narrowest"] >= 300
    assert look(page_of("many"), tmp_path, SCREENS["desk"])["scrollers"] == 1


@pytest.mark.parametrize("paper", [688, 710], ids=["A4", "Letter"])  # px between the margins
@pytest.mark.parametrize("name", ["answered", "bench"])
def test_on_paper_nothing_is_cut_and_nothing_is_folded_away(
    page_of: Callable[[str], str], tmp_path: Path, name: str, paper: int
) -> None:
    printed = page_of(name).replace("@media print", "@media all").replace("@media screen", "@media not all")
    found = look(printed, tmp_path, (paper, 1000))
    assert "\n".join(found["problems"]) == ""
    assert found["hidden"] > 0
    assert found["unfolded"]
    assert found["scrollers"] == 0


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext here")
@pytest.mark.parametrize("paper", ["A4", "Letter"])
def test_a_pdf_holds_the_record_and_every_answer(
    page_of: Callable[[str], str], answered: RunResult, tmp_path: Path, paper: str
) -> None:
    (tmp_path / "page.html").write_text(
        page_of("answered").replace("@page {", f"@page {{ size: {paper};"), encoding="utf-8"
    )
    browse(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", (tmp_path / "page.html").as_uri())
    read = subprocess.run(["pdftotext", str(tmp_path / "page.pdf"), "-"], capture_output=True, text=True, check=True)
    words = "".join(read.stdout.split())
    wanted = [answered.plan_digest, *(info.digest for info in answered.sets.values())]
    wanted += [text for answer in answered.answers for text in (answer.prompt, answer.expected, *answer.said.values())]
    for text in wanted:
        assert "".join(text.split()) in words
