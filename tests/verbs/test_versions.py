"""What ``env`` says, from package metadata and the driver's files."""

from __future__ import annotations

import json
from importlib.metadata import version

from palimpsest.cli import main
from palimpsest.engine.outcome import environment
from palimpsest.engine.versions import accelerators, versions


def test_a_result_holds_the_versions_and_where_it_ran():
    found = environment(3)
    assert found["threads"] == "3"
    assert found["device"] in {"cpu", "cuda", "mps", "xpu"}
    assert versions().items() <= found.items()
    assert found["torch"] == version("torch")


def test_env_prints_the_same_versions(capsys):
    assert main(["env", "--json"]) == 0
    assert versions().items() <= json.loads(capsys.readouterr().out).items()


def test_accelerators_are_those_the_driver_lists(tmp_path):
    assert accelerators(tmp_path) == []
    for number, name in enumerate(("NVIDIA H200", "NVIDIA L4")):
        folder = tmp_path / f"0000:0{number}:00.0"
        folder.mkdir()
        (folder / "information").write_text(f"Model: \t\t {name}\nIRQ:   \t 16\n")
    assert accelerators(tmp_path) == ["NVIDIA H200", "NVIDIA L4"]
