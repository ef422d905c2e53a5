from __future__ import annotations

from collections.abc import Callable

from hypothesis import example, given
from hypothesis import strategies as st

from palimpsest.records import Direction
from palimpsest.report.numbers import show_or_dash
from palimpsest.report.schema import COLUMNS, RunResult, ScoreRow
from palimpsest.report.terminal import table


def test_rows_and_columns(result: RunResult) -> None:
    lines = table(result).splitlines()
    assert lines[0].split() == ["set", "metric", "n", "before", "after", "oracle", "worst"]
    cells = ["0.98 [0.98, 0.98]", "0.04 [0.04, 0.05]", "0.03 [0.03, 0.04]"]
    assert lines[2].split(maxsplit=3)[:3] == ["forget", "es", "16"]
    assert all(cell in lines[2] for cell in cells)
    assert [line.split()[:2] for line in lines[2:10]] == [
        ["forget", "es"],
        ["forget", "ma"],
        ["forget", "el_10"],
        ["retain", "es"],
        ["retain", "ma"],
        ["holdout", "es"],
        ["holdout", "ma"],
        ["general", "ppl"],
    ]
    assert "higher is more known: es (share of tokens), ma (share of tokens), el_10 (share of 10-grams)" in lines
    assert "lower is more known: ppl (equally likely tokens (exp of nats per token))" in lines
    assert table(result).isascii()


def test_every_value_stands_in_the_table(result: RunResult) -> None:
    words = table(result)
    for sets in result.scores.values():
        for metrics in sets.values():
            for score in metrics.values():
                assert f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]" in words


def test_columns_are_aligned(result: RunResult) -> None:
    lines = table(result).splitlines()
    for column in ("before", "after", "oracle"):
        start = lines[0].index(column)
        assert all(line[start - 1] == " " and line[start] != " " for line in lines[2:10])


def test_what_was_not_scored_is_said(bare: RunResult) -> None:
    lines = table(bare).splitlines()
    assert lines[0].split() == ["set", "metric", "n", "after"]
    assert lines[-1] == "could not be scored, and never counted as 0: forget es after 1 of 3"


def test_a_missing_column_entry_is_a_dash(result: RunResult) -> None:
    scores = {column: dict(sets) for column, sets in result.scores.items()}
    del scores["oracle"]["general"]
    lines = table(result.model_copy(update={"scores": scores})).splitlines()
    assert "[5.19, 5.81]  -  " in next(line for line in lines if line.startswith("general"))


def test_nothing_measured(bare: RunResult) -> None:
    assert table(bare.model_copy(update={"scores": {}})).splitlines()[0] == "set  metric  n"


values = st.floats(min_value=0, allow_nan=False)
names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)


def _with_columns(columns: int, numbers: list[float], n: int, name: str, metric: str) -> RunResult:
    """A run with one row; the k-th column has the k-th three of the numbers."""
    rows = [
        ScoreRow(
            value=numbers[3 * k],
            low=numbers[3 * k + 1],
            high=numbers[3 * k + 2],
            n=n + 3 * k,
            unscored=k,
            direction=Direction.HIGHER,
            unit="share of tokens",
            version=1,
        )
        for k in range(columns)
    ]
    scores = {column: {name: {metric: row.model_dump()}} for column, row in zip(COLUMNS, rows, strict=False)}
    empty = dict.fromkeys(("method", "plan_digest", "created"), "")
    return RunResult.model_validate({"kind": "measure", "plan": {}, "sets": {}, "scores": scores, **empty})


@given(
    columns=st.integers(1, len(COLUMNS)),
    name=names,
    metric=names,
    numbers=st.lists(values, min_size=3 * len(COLUMNS), max_size=3 * len(COLUMNS)),
    n=st.integers(0, 10**9),
)
@example(columns=3, name="0" * 11, metric="0" * 12, numbers=[0.0, 9.5e99, 9.5e99] * 5, n=1000)
@example(columns=5, name="retain", metric="es", numbers=[9.5e99, 0.0, 9.5e99] * 5, n=10**9)
def test_no_line_is_longer_than_100(columns: int, name: str, metric: str, numbers: list[float], n: int) -> None:
    lines = table(_with_columns(columns, numbers, n, name, metric)).splitlines()
    assert max(map(len, lines)) <= 100
    assert all(show_or_dash(numbers[3 * k]) in lines[2] for k in range(columns))


def test_names_give_way_to_wide_numbers_and_intervals_last() -> None:
    wide = table(_with_columns(3, [1e300] * 9, 1000, "calibration", "mia_entropy")).splitlines()[2]
    assert wide.split()[:3] == ["calibration", "mia_entr..", "1000-1006"]
    assert wide.count("[1e300, 1e300]") == 3
    row = table(_with_columns(5, [9.5e99] * 15, 1000, "calibration", "accuracy")).splitlines()[2]
    assert row.split() == ["calibration", "accuracy", "1000-1012", *["9e99"] * 5]


def test_a_large_run_prints_as_quickly_as_a_small_one(make_run: Callable[[int], RunResult]) -> None:
    assert len(table(make_run(1203)).splitlines()) == len(table(make_run(16)).splitlines())
