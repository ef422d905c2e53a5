"""Both pages in a browser: nothing off screen, nothing cut, on a desk and on a phone, and on paper.

The pages stay as they are: each lies in a frame of the width looked at, and a script outside the frame measures. One
start of the browser looks at all of them, one frame after the other.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.report.conftest import make_answered, make_bare, make_images, make_result

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
    "--virtual-time-budget=20000",
)
SCREENS = {"desk": (1280, 800), "phone": (390, 844)}
PAPERS = {"A4": 688, "Letter": 710}  # px between the margins
PRINTED = ("answered", "bench")
SMALLEST = 8.5  # px: of words in a figure, after it was made to fit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason=f"no browser here; looked for {', '.join(BROWSERS)}"),
]

WRAPPER = """<!DOCTYPE html><meta charset="utf-8"><body style="margin:0"><pre id="found"></pre>
<script type="application/json" id="views">VIEWS</script>
<script>
const found = {};
const show = ({ width, height, page }) => new Promise(resolve => {
  const frame = document.createElement("iframe");
  frame.style = `border:0;width:${width}px;height:${height}px`;
  frame.onload = () => resolve(frame);
  frame.srcdoc = page;
  document.body.prepend(frame);
});
const measure = frame => {
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
  return { problems, first, scrollers, narrowest, hidden, unfolded };
};
(async () => {
  for (const [name, view] of Object.entries(JSON.parse(document.getElementById("views").textContent))) {
    const frame = await show(view);
    found[name] = measure(frame);
    frame.remove();
  }
  document.getElementById("found").textContent = JSON.stringify(found);
})();
</script>"""


def look(pages: Mapping[str, str], sizes: Mapping[str, tuple[int, int]], folder: Path) -> dict[str, Any]:
    """What a browser finds on each page in a window of its size; what is folded is opened after that was looked at."""
    views = {n: {"width": sizes[n][0], "height": sizes[n][1], "page": page} for n, page in pages.items()}
    values = {"SMALLEST": str(SMALLEST), "VIEWS": json.dumps(views).replace("<", "\\u003c")}
    wrapped = re.sub("|".join(values), lambda match: values[match[0]], WRAPPER)
    (folder / "wrapper.html").write_text(wrapped, encoding="utf-8")
    done = browse(folder, "--window-size=1280,1000", "--dump-dom", (folder / "wrapper.html").as_uri())
    found = re.search(r'<pre id="found">(\{.*?\})</pre>', done, re.DOTALL)
    assert found, f"the browser measured nothing: {done[-500:]}"
    return dict(json.loads(html.unescape(found[1])))


def browse(folder: Path, *arguments: str) -> str:
    command = [str(BROWSER), *FLAGS, f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


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


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """Of runs with all there is, with little, with many rows; and of a bench."""
    runs = {"answered": make_answered(), "images": make_images(), "bare": make_bare(), "many": make_result(60)}
    return {**{name: render(run) for name, run in runs.items()}, "bench": render_bench(bench())}


def on_paper(page: str) -> str:
    """A page as it is printed, to be looked at on a screen."""
    return page.replace("@media print", "@media all").replace("@media screen", "@media not all")


@pytest.fixture(scope="module")
def found(pages: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """``NAME on SCREEN`` and ``NAME on PAPER`` -> what the browser found."""
    views = {f"{name} on {screen}": (pages[name], size) for name in pages for screen, size in SCREENS.items()}
    for name in PRINTED:
        views |= {f"{name} on {paper}": (on_paper(pages[name]), (width, 1000)) for paper, width in PAPERS.items()}
    shown, sizes = ({name: view[part] for name, view in views.items()} for part in (0, 1))
    return look(shown, sizes, tmp_path_factory.mktemp("looked-at"))


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("name", ["answered", "images", "bare", "many", "bench"])
def test_nothing_is_off_screen_or_cut(found: dict[str, Any], name: str, screen: str) -> None:
    assert "\n".join(found[f"{name} on {screen}"]["problems"]) == ""


@pytest.mark.parametrize("screen", SCREENS)
def test_the_first_screen_has_verdict_request_and_answer(found: dict[str, Any], screen: str) -> None:
    first, height = found[f"answered on {screen}"]["first"], SCREENS[screen][1]
    last = "card" if screen == "desk" else "prompt"
    assert first["verdict"] < first["asked"] < first["prompt"]
    assert first[last] <= height


def test_few_rows_are_not_put_into_a_box_and_findings_have_room(found: dict[str, Any]) -> None:
    phone = found["answered on phone"]
    assert phone["scrollers"] == 2  # the long prompt and the long answer before; 12 rows stand there whole
    assert phone["narrowest"] >= 300
    assert found["many on desk"]["scrollers"] == 1


@pytest.mark.parametrize("paper", PAPERS)
@pytest.mark.parametrize("name", PRINTED)
def test_on_paper_nothing_is_cut_and_nothing_is_folded_away(found: dict[str, Any], name: str, paper: str) -> None:
    printed = found[f"{name} on {paper}"]
    assert "\n".join(printed["problems"]) == ""
    assert printed["hidden"] > 0
    assert printed["unfolded"]
    assert printed["scrollers"] == 0


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="no pdftotext here")
@pytest.mark.parametrize("paper", PAPERS)
def test_a_pdf_holds_the_record_and_every_answer(
    pages: dict[str, str], answered: RunResult, tmp_path: Path, paper: str
) -> None:
    page = pages["answered"].replace("@page {", f"@page {{ size: {paper};")
    (tmp_path / "page.html").write_text(page, encoding="utf-8")
    browse(tmp_path, f"--print-to-pdf={tmp_path / 'page.pdf'}", (tmp_path / "page.html").as_uri())
    read = subprocess.run(["pdftotext", str(tmp_path / "page.pdf"), "-"], capture_output=True, text=True, check=True)
    words = "".join(read.stdout.split())
    wanted = [answered.plan_digest, *(info.digest for info in answered.sets.values())]
    wanted += [text for answer in answered.answers for text in (answer.prompt, answer.expected, *answer.said.values())]
    for text in wanted:
        assert "".join(text.split()) in words
