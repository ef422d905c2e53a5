"""Whole benches on a model that trains in a second: what is done, what is not done twice, what survives a kill."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest

from palimpsest.bench.define.config import make_bench
from palimpsest.bench.define.place import RESULTS
from palimpsest.bench.define.pool import stream_of
from palimpsest.bench.perform import one_run as perform
from palimpsest.bench.perform.parallel import WaitingTask
from palimpsest.bench.perform.request_cell import RequestCell
from palimpsest.bench.perform.row_step import row_step
from palimpsest.bench.results import MIXED, NOTHING, ORACLE, RANDOM, BenchResult
from palimpsest.bench.show.console import tables
from palimpsest.bench.whole_bench import run_bench
from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.stream_request import StreamRequest
from palimpsest.errors import DataError, PlanError
from palimpsest.models.load import source_digest

FIRST, SECOND = "er+grad_diff", "finetune+gradient_ascent"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(values, tmp_path_factory) -> tuple[BenchResult, Path]:
    folder = tmp_path_factory.mktemp("bench") / "out"
    return run_bench(make_bench(values), folder), folder


def weights(result: BenchResult) -> dict[str, list[str]]:
    return {label: [s.weights for steps in seeds.values() for s in steps] for label, seeds in result.rows.items()}


def test_every_row_answers_every_request(done):
    result, folder = done
    assert [r.name for r in result.streams[0]] == ["learn Ann+Bob", "learn Cid+Dot", "unlearn after Cid+Dot"]
    assert list(result.rows) == [ORACLE, FIRST, SECOND, NOTHING, RANDOM]
    for label, seeds in result.rows.items():
        for step in seeds[0]:
            assert step.stopped is None, label
            assert source_digest(step.model) == step.weights
    assert BenchResult.load(folder / RESULTS) == result
    assert "What this page does not prove" in (folder / "report.html").read_text(encoding="utf-8")


def test_sets_are_those_of_the_request(done):
    result, _ = done
    first, _, last = result.rows[ORACLE][0]
    assert {name: score.n for name, score in first.reading.sets.items()} == {
        "learn": 4,
        "test": 2,
        "task learn Ann+Bob": 4,
    }
    assert {name: score.n for name, score in last.reading.sets.items()} == {
        "forget": 4,
        "retain": 4,
        "test": 2,  # of the two people who are still known
        "task learn Ann+Bob": 2,
        "task learn Cid+Dot": 2,
        "forgot unlearn after Cid+Dot": 4,
    }
    assert result.streams[0][2].memory <= 3
    assert all(abs(score.kl) < 1e-6 for score in last.reading.sets.values())


def test_doing_nothing_is_the_model_before(done):
    _, learned, ignored = done[0].rows[NOTHING][0]
    assert ignored.weights == learned.weights
    assert (ignored.runs, ignored.seconds, ignored.norm) == ((), 0, None)


def test_the_random_edit_is_as_long_as_the_first_rows(done):
    rows = done[0].rows
    assert rows[RANDOM][0][2].norm == pytest.approx(rows[FIRST][0][2].norm, rel=1e-4)
    assert rows[RANDOM][0][2].weights != rows[RANDOM][0][1].weights


def test_rows_that_begin_alike_share_their_runs(done):
    rows = done[0].rows
    for number in (0, 1):
        assert rows[FIRST][0][number].runs == rows[NOTHING][0][number].runs == rows[RANDOM][0][number].runs
    assert rows[FIRST][0][0].runs != rows[SECOND][0][0].runs


def test_nothing_is_done_twice(done, values, monkeypatch):
    result, folder = done
    monkeypatch.setattr(perform, "train", lambda *_, **__: pytest.fail("trained again"))
    again = run_bench(make_bench({**values, "rows": {FIRST: FIRST}}), folder)
    assert {label: found for label, found in weights(result).items() if label != SECOND} == weights(again)
    assert again.rows[FIRST] == result.rows[FIRST]


def test_tasks_travel_to_other_processes(values, tmp_path):
    task = WaitingTask(row_step, (RequestCell(make_bench(values), tmp_path, tmp_path, 0, 1), FIRST), ("oracle",))
    assert ForkingPickler.loads(ForkingPickler.dumps(task)) == task


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_killed_and_continued_it_ends_the_same(done, values, tmp_path):
    folder = tmp_path / "out"
    for runs in (0, 2, 5):  # die in the middle of a run, once so many are done
        bench = in_a_fork(lambda: run_bench(make_bench(values), folder))
        wait_for(lambda runs=runs: len(finished(folder)) >= runs and checkpoints(folder), bench)
        os.kill(bench, signal.SIGKILL)
        os.waitpid(bench, 0)
    assert not (folder / RESULTS).exists()
    assert weights(run_bench(make_bench(values), folder)) == weights(done[0])


def in_a_fork(work: Callable[[], object]) -> int:
    """Process id of a forked process that does the work."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    return child


def finished(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*/*/result.json") if ".partial" not in str(path)]


def checkpoints(folder: Path) -> list[Path]:
    return list(folder.glob("*/*.partial/checkpoint.safetensors"))


def wait_for(what: Callable[[], object], process: int) -> None:
    while not what():
        assert os.waitpid(process, os.WNOHANG) == (0, 0), "the bench ended before it could be killed"
        time.sleep(0.002)


def test_a_run_that_diverges_is_rejected(values, tmp_path):
    broken = {"grad_diff": {"training": {"learning_rate": 1e30}}}
    bench = make_bench({**values, "rows": {"broken": {"chain": FIRST, "methods": broken}}})
    result = run_bench(bench, tmp_path)
    _, before, after = result.rows["broken"][0]
    assert after.stopped.startswith("DivergedError: phase")
    assert after.seconds > 0
    assert after.weights == before.weights
    assert after.reading.sets["forget"].accuracy == result.rows[NOTHING][0][2].reading.sets["forget"].accuracy
    assert result.rows[RANDOM][0][2].stopped.startswith("there is no edit to equal")
    assert "there is no edit to equal" in (tmp_path / "report.html").read_text(encoding="utf-8")


def saved(stream: RequestStream, folder: Path) -> dict[str, str]:
    (folder / "stream.json").write_text(json.dumps(stream.to_json()))
    return {"kind": str(folder / "stream.json")}


ANN, BOB = ("Ann-live", "Ann-work"), ("Bob-live", "Bob-work")


@pytest.mark.parametrize(
    ("requests", "row", "message"),
    [
        ((StreamRequest("a", learn=("Zoe-live",)),), FIRST, "1 of its 1 ids are not in the data .first: 'Zoe-live'"),
        (
            (StreamRequest("a", learn=ANN), StreamRequest("b", forget=ANN)),
            FIRST,
            "request 1 .'b'. leaves nothing known",
        ),
        (
            (StreamRequest("a", learn=ANN), StreamRequest("b", learn=BOB, forget=ANN)),
            FIRST,
            "request 1 .'b'.: method 'grad_diff' needs the retain set and it is empty there; accepted: .*--replay FILE",
        ),
    ],
)
def test_a_stream_that_cannot_be_followed_is_refused_before_anything_runs(values, tmp_path, requests, row, message):
    pool = tuple(dict.fromkeys(i for request in requests for i in request.learn))
    choice = saved(RequestStream(pool, requests), tmp_path)
    with pytest.raises(DataError, match=message):
        run_bench(make_bench({**values, "stream": choice, "rows": {row: row}}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_ignored_in_the_data_is_ignored_in_what_is_forgotten(values, tmp_path):
    first = json.loads(Path(values["data"]).read_text().splitlines()[0])
    (tmp_path / "forget.jsonl").write_text(json.dumps({**first, "text": "another kind of row"}) + "\n")
    stream = {"kind": "interleaved", "classes_per_task": 2, "pattern": "LLU", "forget": str(tmp_path / "forget.jsonl")}
    with pytest.raises(DataError, match="holds .*--ignore-column text"):
        stream_of(make_bench({**values, "stream": stream}), 0)
    found = stream_of(make_bench({**values, "stream": stream, "ignore_columns": ["text"]}), 0)
    assert found.requests[2].forget == (first["id"],)


@pytest.mark.parametrize(
    ("stream", "error", "message"),
    [
        ({"kind": "cross-categry"}, PlanError, "unknown stream 'cross-categry'; did you mean 'cross-category'"),
        ({"kind": "interleaved"}, PlanError, "needs a pattern and what to forget"),
        ({"classes_per_task": 3}, PlanError, "3 per task cannot be made of 4"),
        ({"after": [7]}, PlanError, "unlearning after task 7; accepted: 1 to 2"),
        ({"kind": "gone.json"}, DataError, "stream gone.json: No such file"),
        ({"kind": "task-aware"}, PlanError, "'task-aware' has 5 tasks .* and these data make 2; learn fewer classes"),
        ({"kind": "other.json"}, DataError, r"stream other.json: this is not a request stream.*; give a scenario"),
    ],
)
def test_a_stream_that_cannot_be_made_is_refused(values, tmp_path, monkeypatch, stream, error, message):
    monkeypatch.chdir(tmp_path)
    Path("other.json").write_text("{}")
    choice = {"classes_per_task": 2, "after": [2], **stream}
    with pytest.raises(error, match=message):
        run_bench(make_bench({**values, "stream": choice}), tmp_path / "out")


def test_a_folder_of_something_else_is_left_alone(values, tmp_path):
    page = tmp_path / "model" / "report.html"
    page.parent.mkdir()
    page.write_text("of a run")
    with pytest.raises(DataError, match="model holds something else than a bench; give a new folder"):
        run_bench(make_bench(values), page.parent)
    assert page.read_text() == "of a run"
    assert list(page.parent.iterdir()) == [page]


@pytest.fixture(scope="module")
def calibrated(values, done, tmp_path_factory) -> tuple[BenchResult, Path]:
    folder = tmp_path_factory.mktemp("calibrated") / "out"
    return run_bench(make_bench({**values, "calibrate": True}), folder), folder


def test_a_bench_that_calibrates_shows_every_row_that_forgets_once_more(done, calibrated):
    result, folder = calibrated
    assert [label for label in result.rows if not label.endswith(MIXED)] == list(done[0].rows)
    assert {label for label in result.rows if label.endswith(MIXED)} <= {label + MIXED for label in done[0].rows}
    for label, seeds in done[0].rows.items():  # the raw rows are what they are without it, to the bit
        assert [step.weights for step in result.rows[label][0]] == [step.weights for step in seeds[0]]
        assert [step.reading for step in result.rows[label][0]] == [step.reading for step in seeds[0]]
    assert BenchResult.load(folder / RESULTS) == result


def test_a_calibrated_row_has_the_readings_of_the_model_between(calibrated):
    result, folder = calibrated
    mixed_rows = [label for label in result.rows if label.endswith(MIXED)]
    assert mixed_rows, "the model knows too little for this test to show anything"
    for label in mixed_rows:
        *before, last = result.rows[label][0]
        assert before == list(result.rows[label.removesuffix(MIXED)][0][: len(before)])
        assert last.calibrated is not None
        assert (last.model, last.reading) == (last.calibrated.model, last.calibrated.reading)
        assert source_digest(last.model) == last.weights
        assert Path(last.model).is_relative_to(folder / "calibrated")
        assert last.calibrated.evaluations <= 7
    assert "of what it changed to forget stays" in tables(result)
    assert "of what it changed to forget stays" in (folder / "report.html").read_text(encoding="utf-8")


def test_without_it_the_results_do_not_mention_calibration(done):
    text = (done[1] / RESULTS).read_text()
    assert '"calibrated"' not in text
