"""What every scenario must keep, also one that is added tomorrow; and the registry that finds it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest
from tests.data.scenarios.conftest import keeps_the_law

from palimpsest.data.streams import scenarios
from palimpsest.data.streams.request_stream import RequestStream
from palimpsest.data.streams.scenario import ScenarioConfig, StreamMaterial
from palimpsest.data.streams.tasks import Task
from palimpsest.errors import PlanError

GIVEN: dict[str, dict[str, Any]] = {"interleaved": {"pattern": "LLULULL", "forget": "a file"}}
"""Options that a scenario does not do without."""
every = pytest.mark.parametrize("name", scenarios.names())


def made(name: str, tasks: tuple[Task, ...], seed: int = 3) -> RequestStream:
    scenario = scenarios.load(name)
    marked = [i for task in tasks for i in task.ids[::2]]
    material = StreamMaterial(tasks, seed, ids_in=lambda file: marked)
    return scenario.make(material, scenario.Config(**GIVEN.get(name, {})))


@every
def test_its_requests_keep_the_law_of_streams(name, five_tasks):
    stream = made(name, five_tasks)
    keeps_the_law(stream)
    assert set(stream.pool) == {i for task in five_tasks for i in task.ids}
    assert stream == made(name, five_tasks)


@every
def test_it_says_what_it_is_and_what_its_options_mean(name):
    scenario = scenarios.load(name)
    assert scenario.about.strip()
    assert "\n" not in scenario.about
    assert not scenario.about.endswith(".")
    config = scenario.Config()
    assert type(config)(**json.loads(config.model_dump_json())) == config
    assert all(field.description for field in scenario.Config.model_fields.values())


@every
def test_it_has_its_own_test_file(name):
    assert (Path(__file__).parent / f"test_{name.replace('-', '_')}.py").is_file()


def test_an_unknown_one_is_refused_with_the_closest():
    with pytest.raises(PlanError, match="unknown scenario 'tasks-aware'; did you mean 'task-aware'"):
        scenarios.load("tasks-aware")


def test_the_options_of_all_are_there_with_their_defaults():
    found = scenarios.options("random", {"after": [1], "share": "0.5"})
    defaults = {k: v for name in scenarios.names() for k, v in scenarios.load(name).Config().model_dump().items()}
    assert found == {**defaults, "after": (1,), "share": 0.5}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder beside the package's own, whose files are scenarios too."""
    monkeypatch.setattr(scenarios, "__path__", [*scenarios.__path__, str(tmp_path)])
    importlib.invalidate_caches()
    return tmp_path


HALF = """
from palimpsest.data.streams.scenario import Scenario, ScenarioConfig
from palimpsest.data.streams.scenarios.incremental import incremental

class HalfConfig(ScenarioConfig):
    share: str = "half"

SCENARIO = Scenario(about="as incremental", make=lambda m, c: incremental(m.tasks), Config=HalfConfig)
"""


def test_a_name_that_two_have_belongs_to_the_chosen_one(folder):
    (folder / "own_half.py").write_text(HALF)
    assert scenarios.options("own-half", {})["share"] == "half"
    assert scenarios.options("own-half", {"share": "third"})["share"] == "third"
    assert scenarios.options("random", {})["share"] == 0.1
    with pytest.raises(ValueError, match="share"):
        scenarios.options("random", {"share": "third"})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("own_broken", "import no_such_package", "scenario file own_broken.py cannot be imported: No module named"),
        ("own_empty", "SCENARIO = None", "scenario file own_empty.py sets no SCENARIO; end it with"),
        (
            "own_strict",
            HALF.replace(' = "half"', ""),
            "option 'share' of HalfConfig has no default; accepted: any, and None",
        ),
    ],
)
def test_a_file_that_is_no_scenario_is_refused_in_one_line(folder, name, text, message):
    (folder / f"{name}.py").write_text(text)
    with pytest.raises(PlanError, match=message):
        scenarios.load(name.replace("_", "-"))


def test_the_base_has_no_options():
    assert not ScenarioConfig.model_fields
