from __future__ import annotations

import subprocess
import sys

import pytest

from palimpsest import metrics
from palimpsest.errors import PlanError


def test_names_are_the_metric_files_without_their_support():
    """No list of all: a new metric is two files."""
    assert {"accuracy", "el", "em", "es", "ma", "ppl", "prob"} <= set(metrics.names())
    assert not {"evaluate", "metric", "statistics", "teacher", "__init__"} & set(metrics.names())
    assert list(metrics.names()) == sorted(metrics.names())


def test_listing_and_loading_do_not_import_torch():
    code = (
        "import sys; from palimpsest import metrics; [metrics.build(n, {}) for n in metrics.names()];"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_file_dropped_into_a_folder_is_a_metric(tmp_path, monkeypatch):
    (tmp_path / "toy_metric.py").write_text(
        "from palimpsest.metrics.metric import Metric\n\n\nclass Toy(Metric):\n    version = 1\n\n\nMETRIC = Toy\n"
    )
    (tmp_path / "support.py").write_text("x = 1\n")
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    assert "toy_metric" in metrics.names()
    assert "support" not in metrics.names()
    assert metrics.build("toy_metric", {}).key == "toy_metric"
    monkeypatch.delitem(sys.modules, "palimpsest.metrics.toy_metric")


def test_unknown_metric_names_the_closest():
    accepted = ", ".join(metrics.names())
    with pytest.raises(PlanError, match=rf"unknown metric 'pp'; did you mean 'ppl'\? accepted: {accepted}$"):
        metrics.load("pp")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"first": 3},
            r"unknown option of metric 'el' 'first'; did you mean 'first_prefix'\? accepted: first_prefix, n",
        ),
        ({"n": 0}, r"metric 'el': option 'n' is 0; Input should be greater than or equal to 1"),
        ({"n": "ten"}, r"metric 'el': option 'n' is 'ten'; Input should be a valid integer"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(PlanError, match=message) as error:
        metrics.build("el", options)
    assert "\n" not in str(error.value)


def test_all_problems_come_together():
    with pytest.raises(PlanError, match=r"'n' is 0.*; .*'first_prefix' is -1"):
        metrics.build("el", {"n": 0, "first_prefix": -1})


def test_options_from_the_command_line_are_strings():
    assert metrics.build("el", {"n": "4", "first_prefix": "150"}).config.first_prefix == 150
    assert metrics.build("el", {"n": "4"}).key == "el_4"
