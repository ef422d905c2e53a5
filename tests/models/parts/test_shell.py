"""A version with parts in fresh processes: loaded by transformers once palimpsest is imported, refused without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.documents import environment
from tests.warm import WarmPython

from palimpsest.models import parts
from palimpsest.models.parts.with_parts import write_version

LOADED = """
model = AutoModelForCausalLM.from_pretrained(FOLDER)
ids = torch.arange(12).reshape(2, 6)
with torch.no_grad():
    save_file({"logits": model(input_ids=ids).logits}, OUT)
print(type(model).__module__, type(model).__name__, len(model.palimpsest_parts), model.name_or_path)
assert "palimpsest_parts" in " ".join(model.state_dict())
"""
ORDERS = {
    "palimpsest first": "import palimpsest\nfrom transformers import AutoModelForCausalLM",
    "transformers first": "from transformers import AutoModelForCausalLM\nimport palimpsest",
    "transformers alone first": "import transformers\nimport palimpsest\nfrom transformers import AutoModelForCausalLM",
    "config first": (
        "from transformers import AutoConfig\nimport palimpsest\nfrom transformers import AutoModelForCausalLM"
    ),
}

BELOW_TRANSFORMERS = (
    *("torch", "safetensors.torch", "tokenizers", "huggingface_hub", "accelerate", "scipy.optimize"),
    *("torch.distributed.tensor", "torch._dynamo"),
)


@pytest.fixture
def folder(own_parts, tiny_llama, tmp_path):
    """A version with parts of every kind that matters here, one of them scaled."""
    torch.manual_seed(3)
    kind = parts.load("nudge")
    made = [kind(kind.Config(at=f"model.layers.{i}.mlp", width=32)) for i in range(2)]
    made[1].alpha = 0.5
    write_version(parts.attach(tiny_llama, made), tmp_path / "v")
    return tmp_path / "v"


@pytest.fixture(scope="module")
def fresh() -> Iterator[Callable[[str, Path, Path], subprocess.CompletedProcess[str]]]:
    """Runs code in processes that have imported all that transformers imports, and nothing of it or of us."""
    with WarmPython(environment(), loaded=BELOW_TRANSFORMERS) as python:

        def run(code: str, folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
            names = f"FOLDER, OUT = {str(folder)!r}, {str(out)!r}\n"
            start = f"import sys\nassert not {{'transformers', 'palimpsest'}} & sys.modules.keys()\n{names}"
            imports = "import torch\nfrom safetensors.torch import save_file\n"
            ours = {"PALIMPSEST_PARTS": os.environ["PALIMPSEST_PARTS"]}
            return python.run(["-c", start + imports + code], folder, apart=True, **ours)

        yield run


@pytest.mark.parametrize("order", ORDERS)
def test_right_after_the_import_the_logits_are_the_same_bits(fresh, order, folder, tiny_llama, tmp_path):
    done = fresh(ORDERS[order] + LOADED, folder, tmp_path / "said.safetensors")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"transformers.models.llama.modeling_llama LlamaForCausalLM 2 {folder}\n"
    with torch.no_grad():
        wanted = tiny_llama(input_ids=torch.arange(12).reshape(2, 6)).logits
    assert torch.equal(load_file(tmp_path / "said.safetensors")["logits"], wanted)


def test_without_palimpsest_the_folder_is_refused(warm, folder):
    def loaded_by(loader: str) -> subprocess.CompletedProcess[str]:
        code = (
            "import sys\nfrom transformers import {0}\nassert 'palimpsest' not in sys.modules\n{0}.from_pretrained('.')"
        )
        return warm.run(["-c", code.format(loader)], folder, apart=True)

    for loader in ("AutoModelForCausalLM", "AutoModel", "AutoConfig"):
        done = loaded_by(loader)
        assert done.returncode == 1
        assert "model type `palimpsest`" in done.stderr
    done = loaded_by("LlamaForCausalLM")
    assert done.returncode == 1
    assert "no file named model.safetensors" in done.stderr


def test_dropped_tensors_are_refused_by_both_ways(fresh, folder, tmp_path):
    file = folder / "parts/0001-nudge/part.safetensors"
    tensors = load_file(file)
    del tensors["down.weight"]
    save_file(tensors, file)
    done = fresh(ORDERS["palimpsest first"] + LOADED, folder, tmp_path / "x")
    assert done.returncode == 1
    assert "part 0001-nudge: 1 of its tensors are missing, e.g. down.weight" in done.stderr


def test_options_reach_the_base(folder):
    import transformers

    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, attn_implementation="eager", output_loading_info=True
    )
    assert not info["missing_keys"]
    assert model.dtype == torch.float64
    assert {p.dtype for p in model.palimpsest_parts.parameters()} == {torch.float64}
    assert model.config._attn_implementation == "eager"
    assert model.config.model_type == "llama"


def test_what_is_loaded_so_is_saved_whole(folder, tmp_path):
    import transformers

    transformers.AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "w")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "w")
    assert len(again.palimpsest_parts) == 2
    assert json.loads((tmp_path / "w/parts/0001-nudge/part.json").read_text())["alpha"] == 0.5


def test_the_import_alone_brings_neither_torch_nor_transformers():
    code = "import sys, palimpsest; print([n for n in ('torch', 'transformers', 'safetensors') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
