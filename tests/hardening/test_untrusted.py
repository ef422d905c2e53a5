"""Folders of strangers: no code of one is run or offered, no pickle is read through any door; a line says so."""

from __future__ import annotations

import ast
import io
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.test_house import FILES, dotted, parsed, where

from palimpsest.cli import main
from palimpsest.errors import ModelError
from palimpsest.models.load import load
from palimpsest.models.sources import check_source, source_digest

LOADERS = ("from_pretrained", "load_adapter", "from_config", "get_config_dict", "get_image_processor_dict",
           "SentenceTransformer", "CrossEncoder", "pipeline")  # fmt: skip
WITHOUT_WEIGHTS = ("Tokenizer", "Processor", "Config", "get_config_dict", "get_image_processor_dict")


def unsafe_loads(tree: ast.Module) -> list[ast.Call]:
    """Calls that load what others made, without saying that no code of it is run and no pickle read."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call) and loads(node) and not is_safe(node)]


def loads(call: ast.Call) -> bool:
    name = dotted(call.func) or (call.func.attr if isinstance(call.func, ast.Attribute) else "")
    return name.rpartition(".")[2] in LOADERS


def is_safe(call: ast.Call) -> bool:
    said = ast.unparse(call)
    weightless = any(word in ast.unparse(call.func) for word in WITHOUT_WEIGHTS)
    weights = weightless or "use_safetensors=True" in said or "'use_safetensors': True" in said
    return ("trust_remote_code=False" in said or "'trust_remote_code': False" in said) and weights


def test_every_load_of_a_library_runs_no_code_and_reads_no_pickle() -> None:
    calls = [node for path in FILES for node in ast.walk(parsed(path)) if isinstance(node, ast.Call) and loads(node)]
    assert len(calls) >= 6, "the scan finds nothing"
    assert not [where(path, call) for path in FILES for call in unsafe_loads(parsed(path))]


@pytest.mark.parametrize(
    "code",
    [
        "AutoModel.from_pretrained(x, use_safetensors=True)",
        "AutoModel.from_pretrained(x, trust_remote_code=False)",
        "getattr(transformers, auto).from_pretrained(x, trust_remote_code=True, use_safetensors=True)",
        "AutoTokenizer.from_pretrained(x)",
        "PeftModel.from_pretrained(base, x)",
        "model.load_adapter(x)",
        "SentenceTransformer(x, trust_remote_code=False)",
    ],
)
def test_the_scan_sees(code: str) -> None:
    assert unsafe_loads(ast.parse(code))


EVIL = "from pathlib import Path\nPath({here!r}, 'it_ran').touch()\nclass X: pass\nY = X\n"


def evil(folder: Path, file: str, auto_map: Any, **more: Any) -> Path:
    values = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    (folder / file).write_text(json.dumps({**values, **more, "auto_map": auto_map}))
    (folder / "evil.py").write_text(EVIL.format(here=str(folder)))
    return folder


MODELS = {"AutoConfig": "evil.Y", "AutoModelForCausalLM": "evil.X", "AutoTokenizer": ["evil.X", None]}


@pytest.mark.parametrize("verb", ["learn", "measure", "bench", "learn --base", "unlearn --oracle"])
@pytest.mark.parametrize(
    "file", ["config.json", "tokenizer_config.json", "generation_config.json", "preprocessor_config.json"]
)
def test_code_of_a_folder_is_neither_run_nor_offered(refused, clinic, folder_with, tmp_path, monkeypatch, verb, file):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 100))
    folder = evil(folder_with(), file, MODELS)
    data, out = clinic / "learn.jsonl", tmp_path / "out"
    sets = ("--forget", clinic / "forget.jsonl", "--retain", clinic / "retain.jsonl")
    command = {
        "learn": ("learn", "--model", folder, "--data", data, "-o", out),
        "measure": ("measure", "--model", folder, "--data", data),
        "bench": ("bench", "clu", "--methods", "er+npo", "--model", folder, "--data", data, "-o", out),
        "learn --base": (
            "unlearn",
            "--model",
            clinic / "model",
            *sets,
            "--base",
            folder,
            "--method",
            "retrain",
            "-o",
            out,
        ),
        "unlearn --oracle": ("unlearn", "--model", clinic / "model", *sets, "--oracle", folder, "-o", out),
    }[verb]
    line = refused(*command)
    assert f"{file} asks for code of its own (auto_map), which is never run" in line
    assert not (folder / "it_ran").exists()
    assert not out.exists()


@pytest.mark.parametrize("where_in", ["text_config", "vision_config", "a.b"])
def test_code_that_is_asked_for_deep_inside(folder_with, where_in):
    inner: dict[str, Any] = {"auto_map": MODELS}
    for name in reversed(where_in.split(".")):
        inner = {name: inner}
    with pytest.raises(ModelError, match="asks for code of its own"):
        load(folder_with(**inner))


def test_a_model_that_transformers_does_not_know_is_not_looked_for(folder_with):
    folder = folder_with(model_type="\x1b[2Jevil")
    (folder / "evil.py").write_text(EVIL.format(here=str(folder)))
    with pytest.raises(ModelError, match="cannot be loaded as a causal LM"):
        load(folder)
    assert not (folder / "it_ran").exists()


def test_an_architecture_that_is_looked_up_elsewhere(folder_with):
    for name in ("hf-hub:someone/model", "local-dir:/tmp"):
        with pytest.raises(ModelError, match="looked up elsewhere"):
            load(folder_with(model_type="timm_wrapper", pretrained_cfg={"input_size": [3, 8, 8]}, architecture=name))


def test_weights_of_a_timm_folder_that_lie_elsewhere(folder_with):
    """timm would read a checkpoint of any kind from there."""
    timm = {"pretrained_cfg": {"input_size": [3, 8, 8]}, "architecture": "resnet18"}
    with pytest.raises(ModelError, match="model_args of its config.json have checkpoint_path, by which weights would"):
        load(folder_with(model_type="timm_wrapper", **timm, model_args={"checkpoint_path": "/tmp/weights.bin"}))


class Bomb:
    def __init__(self, here: Path) -> None:
        self.here = here

    def __reduce__(self) -> Any:
        return Path.touch, (self.here / "it_ran",)


def pickled(file: Path) -> Path:
    file.write_bytes(pickle.dumps(Bomb(file.parent)))
    return file


def adapter(folder: Path, base: Path, **more: Any) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 2, "lora_alpha": 2, "target_modules": ["q_proj"],
              "base_model_name_or_path": str(base)}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps({**config, **more}))
    return folder


@pytest.fixture
def pickled_model(folder_with):
    """A model whose weights are a pickle, under any name that a loader may look for."""

    def make(*names: str) -> Path:
        folder = folder_with()
        (folder / "model.safetensors").unlink()
        for name in names:
            pickled(folder / name)
        return folder

    return make


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "model.pt", "pytorch_model-00001-of-00001.bin", "model.ckpt", "model.pth"]
)
def test_a_model_that_is_a_pickle(pickled_model, name):
    folder = pickled_model(name)
    for door in (load, check_source, source_digest):
        with pytest.raises(ModelError, match=f"no .safetensors weights .found {name}, which is never unpickled"):
            door(folder)
    assert not (folder / "it_ran").exists()


def test_a_pickle_beside_a_dummy(pickled_model, clinic):
    folder = pickled_model("pytorch_model.bin")
    shutil.copy(clinic / "model" / "model.safetensors", folder / "dummy.safetensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": {"x": "pytorch_model.bin"}}))
    with pytest.raises(ModelError, match="cannot be loaded"):
        load(folder)
    assert not (folder / "it_ran").exists()


def test_an_adapter_that_is_a_pickle(clinic, tmp_path):
    folder = adapter(tmp_path / "adapter", clinic / "model")
    pickled(folder / "adapter_model.bin")
    shutil.copy(clinic / "model" / "model.safetensors", folder / "dummy.safetensors")
    for door in (load, check_source, source_digest):
        with pytest.raises(ModelError, match="no adapter_model.safetensors .found adapter_model.bin, which is never"):
            door(folder)
    assert not (folder / "it_ran").exists()


def test_an_adapter_whose_base_is_a_pickle(pickled_model, clinic, tmp_path):
    base = pickled_model("pytorch_model.bin")
    folder = adapter(tmp_path / "adapter", base)
    shutil.copy(clinic / "model" / "model.safetensors", folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="the base of its adapter cannot be loaded.*never unpickled"):
        load(folder)
    assert not (base / "it_ran").exists()


def test_an_adapter_whose_base_asks_for_code(folder_with, clinic, tmp_path):
    base = evil(folder_with(), "config.json", MODELS)
    folder = adapter(tmp_path / "adapter", base)
    shutil.copy(clinic / "model" / "model.safetensors", folder / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="asks for code of its own"):
        load(folder)
    assert not (base / "it_ran").exists()


@pytest.mark.parametrize("length", [1, 2, 20])
def test_adapters_that_lie_on_each_other(clinic, tmp_path, length):
    for number in range(length):
        folder = adapter(tmp_path / f"a{number}", tmp_path / f"a{(number + 1) % length}")
        shutil.copy(clinic / "model" / "model.safetensors", folder / "adapter_model.safetensors")
    for door in (load, check_source, source_digest):
        with pytest.raises(ModelError, match="in the end on itself"):
            door(tmp_path / "a0")


@pytest.mark.parametrize("more", [{"megatron_config": {"a": 1}, "megatron_core": "evil.core"}, {"r": "many"}, {"r": 0},
                                  {"target_modules": 5}, {"peft_type": "EVIL"}, {"peft_type": [1]}, {"r": 10**9},
                                  {"base_model_name_or_path": None}, {"base_model_name_or_path": 5},
                                  {"target_modules": "(" * 50}, {"task_type": "EVIL"}])  # fmt: skip
def test_an_adapter_of_any_configuration_is_one_error(clinic, tmp_path, more):
    folder = adapter(tmp_path / "adapter", clinic / "model", **more)
    shutil.copy(clinic / "model" / "model.safetensors", folder / "adapter_model.safetensors")
    with pytest.raises(ModelError):
        load(folder)


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer_config.json", "generation_config.json", "model.safetensors"]
)
@pytest.mark.parametrize("what", ["folder", "ring", "dangling", "pipe"])
def test_a_file_that_is_none(refused, clinic, folder_with, name, what):
    import os

    folder = folder_with()
    (folder / name).unlink(missing_ok=True)
    match what:
        case "folder":
            (folder / name).mkdir()
        case "ring":
            (folder / name).symlink_to(name)
        case "dangling":
            (folder / name).symlink_to("nowhere")
        case _:
            os.mkfifo(folder / name)
    assert name.partition(".")[0] in refused("measure", "--model", folder, "--data", clinic / "forget.jsonl") or (
        name == "model.safetensors"
    )


def test_nothing_of_a_plain_folder_is_refused(clinic, capsys):
    check_source(clinic / "model")
    assert load(clinic / "model").num_outputs > 0
    assert main(["measure", "--model", str(clinic / "model"), "--data", str(clinic / "forget.jsonl")]) == 0
    capsys.readouterr()
