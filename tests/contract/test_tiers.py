"""What every metric of several sets and of a stream must state, also one that is added tomorrow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from palimpsest import metrics
from palimpsest.metrics import per_stream
from palimpsest.metrics.per_set import set_metric, set_metric_names
from palimpsest.metrics.per_stream import stream_metrics
from palimpsest.records import Direction

TESTS = Path(__file__).parents[1] / "metrics"
ALL = {name: ("per_set", set_metric(name)) for name in set_metric_names()}
ALL |= {type(metric).__module__.rpartition(".")[2]: ("per_stream", metric) for metric in stream_metrics()}


@pytest.mark.parametrize("name", sorted(ALL))
def test_it_is_one_file_that_says_what_it_is_and_one_test(name):
    tier, metric = ALL[name]
    docstring = sys.modules[type(metric).__module__].__doc__
    assert "\nSource: " in docstring
    assert "By hand" in docstring
    assert (TESTS / tier / f"test_{name}.py").is_file()
    assert metric.version >= 1
    assert metric.means.strip()
    assert metric.column.strip()


@pytest.mark.parametrize("name", set_metric_names())
def test_what_a_metric_of_sets_needs_are_metrics_of_examples(name):
    metric = set_metric(name)
    assert metric.needs
    assert set(metric.needs.values()) <= set(metrics.names())
    assert isinstance(metric.direction, Direction)
    assert metric.low < metric.high
    assert metric.unit.strip()


def test_names_and_columns_occur_once():
    columns = [metric.column for _, metric in ALL.values()]
    assert len(columns) == len(set(columns))
    assert not set(ALL) & set(metrics.names())
    assert {metric.of for metric in stream_metrics()} <= {"accuracy", "strength"}
    assert [metric.place for metric in stream_metrics()] == sorted(metric.place for metric in stream_metrics())


def test_listing_them_does_not_import_torch():
    code = (
        "import sys; from palimpsest.metrics import per_set, per_stream; per_stream.stream_metrics();"
        "[per_set.set_metric(n) for n in per_set.set_metric_names()]; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_empty_stream_has_no_value():
    assert {metric.compute(per_stream.Course([], [])) for metric in stream_metrics()} == {None}
