"""Which code a digest covers: what a run imports, and nothing else. On copies of the package; src is only read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

import palimpsest
from palimpsest import methods, metrics
from palimpsest.bench.perform.request_cell import READING
from palimpsest.engine.plan import EVERY_RUN, Plan
from palimpsest.metrics.per_set import set_metric_files
from palimpsest.models.sources import source_digest
from palimpsest.source import code_behind, code_digest

PACKAGE = Path(palimpsest.__file__).parent


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("as_it_was") / "palimpsest"
    shutil.copytree(PACKAGE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def edited(original, tmp_path):
    """A copy of the package in which some files have one line more."""

    def edit(*paths: str) -> Path:
        folder = tmp_path / "palimpsest"
        shutil.copytree(original, folder)
        for path in paths:
            file = folder / path
            file.write_text(file.read_text(encoding="utf-8") + "\nEDITED = True\n", encoding="utf-8")
        return folder

    return edit


def of_a_run(package: Path, method: str) -> str:
    by_name = [package / "methods" / f"{method}.py", *(package / "metrics" / f.name for f in metrics.files())]
    return code_digest([EVERY_RUN], by_name, package=package)


@pytest.mark.parametrize(
    ("method", "path", "counts"),
    [
        ("icu", "methods/icu.py", True),
        ("icu", "methods/npo.py", False),
        ("icu", "loop/step.py", True),
        ("icu", "engine/train.py", True),
        ("icu", "engine/prepare.py", True),
        ("icu", "engine/save.py", True),
        ("icu", "models/scope.py", True),
        ("icu", "models/reference.py", True),  # imported by name in the contract
        ("icu", "audit/continuation.py", True),  # imported inside a function
        ("icu", "audit/gates.py", True),
        ("icu", "derived/nearest.py", True),
        ("icu", "metrics/es.py", True),
        ("icu", "metrics/greedy/decode.py", True),
        ("icu", "contract.py", True),
        ("icu", "rules/saliency_bits.py", False),
        ("icu", "rules/fast_slow.py", False),
        ("icu", "report/page.py", False),
        ("icu", "report/schema.py", False),
        ("icu", "cli/runs.py", False),
        ("icu", "bench/perform/one_run.py", False),
        ("icu", "demo/story.py", False),
        ("ug_clu", "rules/saliency_bits.py", True),
        ("ug_clu", "rules/fast_slow.py", True),
        ("ug_clu", "methods/icu.py", False),
        ("salun", "rules/saliency_bits.py", True),
        ("salun", "rules/fast_slow.py", False),
    ],
)
def test_what_changes_the_digest_of_a_run(original, edited, method, path, counts):
    assert (of_a_run(edited(path), method) != of_a_run(original, method)) is counts


def test_no_run_depends_on_another_method(original, edited):
    others = [f"methods/{name}.py" for name in methods.names() if name != "icu"]
    assert of_a_run(edited(*others), "icu") == of_a_run(original, "icu")


def test_where_the_package_lies_does_not_count(original, edited):
    assert of_a_run(edited(), "icu") == of_a_run(original, "icu")


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("bench/beside_oracle.py", True),
        ("metrics/es.py", True),
        ("metrics/per_set/mia_entropy.py", True),  # loaded by name
        ("metrics/per_set/entropy_attack.py", True),
        ("models/load.py", True),
        ("methods/icu.py", False),
    ],
)
def test_what_changes_the_digest_of_a_reading(original, edited, path, counts):
    def of_a_reading(package: Path) -> str:
        by_name = [package / "metrics" / "per_set" / file.name for file in set_metric_files()]
        return code_digest(READING, by_name, package=package)

    assert (of_a_reading(edited(path)) != of_a_reading(original)) is counts


def test_a_plan_is_named_by_the_code_of_its_own_method():
    plans = {name: Plan(kind="unlearn", method=name, model="m", files={}) for name in ("icu", "npo")}
    assert plans["icu"].digest() != plans["npo"].digest()
    assert plans["icu"].digest() == plans["icu"].model_copy().digest()


def test_a_plan_is_named_by_the_code_of_the_sets_that_its_method_is_given(monkeypatch):
    covered: list[Path] = []
    monkeypatch.setattr("palimpsest.engine.plan.code_digest", lambda modules, files: covered.extend(files))
    Plan(kind="unlearn", method="npo", model="m", files={}).digest()
    assert "analogous.py" not in {file.name for file in covered}
    Plan(kind="unlearn", method="icu", model="m", files={}).digest()
    assert {"icu.py", "analogous.py", "es.py"} <= {file.name for file in covered}


MAIN = """
from __future__ import annotations
import json
import palimpsest.a
from palimpsest import b
from palimpsest.folder import c, thing
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from palimpsest import never
else:
    from palimpsest import otherwise
def f():
    from palimpsest.folder.deep import d as other
    try:
        from .e import x
    except ImportError:
        pass
"""


@pytest.fixture
def small(tmp_path) -> Path:
    package = tmp_path / "palimpsest"
    files = {"main": MAIN, "e": "from . import f\n", "folder/deep/d": "from ..c import y\nfrom ... import g\n"}
    for name in (
        "a",
        "b",
        "f",
        "g",
        "never",
        "otherwise",
        "unused",
        "folder/c",
        "folder/deep/__init__",
        "folder/__init__",
    ):
        files[name] = "import palimpsest.main\n"  # in a circle
    files["report/page"] = files["__init__"] = ""
    for name, text in files.items():
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / f"{name}.py").write_text(text)
    return package


def test_every_kind_of_import_is_followed(small):
    found = code_behind(["palimpsest.main"], package=small)
    short = {name.removeprefix("palimpsest").lstrip(".") for name in found}
    assert short == {
        "",
        "main",
        "a",
        "b",
        "folder",
        "folder.c",
        "folder.deep.d",
        "otherwise",
        "e",
        "f",
        "g",
        "folder.deep",
    }


def test_a_file_that_lies_elsewhere_leads_into_the_package(small, tmp_path):
    (tmp_path / "own.py").write_text("from palimpsest.report import page\nfrom palimpsest.e import f\nimport torch\n")
    found = code_behind([], [tmp_path / "own.py"], package=small)
    assert {"own.py", "palimpsest.e", "palimpsest.f"} <= found.keys()
    assert not any("report" in name for name in found)


def test_the_digest_of_an_adapter_holds_its_base(tiny_llama, tmp_path):
    tiny_llama.save_pretrained(tmp_path / "base")
    (tmp_path / "adapter").mkdir()
    save_file({}, tmp_path / "adapter" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    before = source_digest(tmp_path / "adapter")
    assert source_digest(tmp_path / "adapter") == before
    tiny_llama.model.norm.weight.data.mul_(2)
    tiny_llama.save_pretrained(tmp_path / "base")
    assert source_digest(tmp_path / "adapter") != before
