"""A scenario is two files: the ones of CONTRIBUTING.md are taken out of it and used, and nothing else is touched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.documents import ROOT, titled_files

from palimpsest.cli.stream_listing import stream_tables

FILES = titled_files("Adding a scenario")
SEEN = """
import json, sys
from palimpsest.bench.define.config import make_bench
from palimpsest.bench.define.pool import stream_of
from palimpsest.cli.stream_listing import stream_tables
from palimpsest.errors import PlanError

def requests(stream):
    try:
        bench = make_bench({"model": "model", "data": "train.jsonl", "rows": "er+npo", "stream": stream})
        return [request.name for request in stream_of(bench, 0).requests]
    except PlanError as error:
        return str(error)

made = {name: requests(stream) for name, stream in json.loads(sys.argv[1]).items()}
print(json.dumps({**made, "tables": stream_tables(), "torch": "torch" in sys.modules}))
"""
STREAMS = {
    "by default": {"kind": "last-first", "classes_per_task": 1},
    "with its option": {"kind": "last-first", "classes_per_task": 1, "count": 2},
    "a wrong value": {"kind": "last-first", "count": 0},
    "a wrong option": {"kind": "last-first", "cuont": 1},
    "a wrong name": {"kind": "last-frist"},
}


def test_the_guide_spells_out_two_files() -> None:
    assert list(FILES) == [
        "src/palimpsest/data/streams/scenarios/last_first.py",
        "tests/data/scenarios/test_last_first.py",
    ]


def put(folder: Path, path: str) -> None:
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    (folder / path).write_text(FILES[path], encoding="utf-8")


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a folder, with the package that is there."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict[str, Any]:
    """What a copy of the package with one file more says of the streams above, and of what there is."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "src", folder / "src")
    put(folder, next(iter(FILES)))
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"architectures": ["LlamaForCausalLM"]}')
    rows = [{"subject": name, "text": f"{name} is here."} for name in ("Ann", "Bob", "Cid")]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = python(folder, "-c", SEEN, json.dumps(STREAMS))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_bench_takes_it_with_its_option(seen):
    learned = ["learn Ann", "learn Bob", "learn Cid"]
    assert seen["by default"] == [*learned, "unlearn Cid"]
    assert seen["with its option"] == [*learned, "unlearn Cid", "unlearn Bob"]


def test_its_option_is_checked_like_any_other(seen):
    assert seen["a wrong value"] == "stream.count: Input should be greater than or equal to 1"
    assert seen["a wrong option"].startswith("stream: unknown option 'cuont'; did you mean 'count'? accepted: after, ")


def test_a_name_that_is_none_is_told_of_it(seen):
    assert seen["a wrong name"].startswith(
        "unknown stream 'last-frist'; did you mean 'last-first'? accepted: FILE.json"
    )


def test_the_tables_of_the_docs_have_it_and_what_they_had(seen):
    lines = seen["tables"].splitlines()
    about = "all tasks are learned, then the last `count` of them forgotten, the newest first"
    more = [
        f"| `last-first` | {about} |",
        "| `stream.count` | `last-first` | 1 | whole number at least 1 | Tasks that are forgotten. |",
    ]
    assert [line for line in lines if line not in more] == stream_tables().splitlines()
    assert set(more) < set(lines)


def test_nobody_needed_torch(seen):
    assert seen["torch"] is False


@pytest.mark.slow
def test_in_a_checkout_two_files_are_enough(warm, tmp_path):
    """Its own test passes and what every scenario must keep is asked of it, with nothing registered anywhere."""
    for name in ("src", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for path in FILES:
        put(tmp_path, path)
    folder = "tests/data/scenarios"
    done = warm.pytest(tmp_path, folder, "-k", "last_first or last-first", "-rA", "-p", "no:xdist")
    assert done.returncode == 0, done.stdout[-6000:]
    assert f"PASSED {folder}/test_last_first.py" in done.stdout
    assert done.stdout.count(f"PASSED {folder}/test_every_scenario.py") == 3
