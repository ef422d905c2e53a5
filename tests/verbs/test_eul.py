"""EUL as a user meets it: what is saved loads whole, and requests in a row stack, go on or are fused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.shallow import LAYERS
from tests.warm import WarmPython

import palimpsest as pal
from palimpsest.engine import execute
from palimpsest.errors import UsageError
from palimpsest.models.load import load
from palimpsest.models.parts import parts_of

QUICK = {"training": {"learning_rate": 1e-2, "max_steps": 6, "batch_size": 4}, "measuring": {"metrics": ["prob"]}}
SAID = """
import sys, torch
from safetensors.torch import save_file
with torch.no_grad():
    said = AutoModelForCausalLM.from_pretrained(sys.argv[1])(input_ids=torch.arange(5, 17).reshape(2, 6)).logits
save_file({"logits": said}, sys.argv[2])
print("palimpsest" in sys.modules)
"""


def forgotten(clinic: Path, output: Path, model: Path | None = None, *, first: int = 0, **options):
    rows = [json.loads(line) for line in (clinic / "learn.jsonl").read_text().splitlines()]
    return pal.unlearn(
        model or clinic / "model",
        rows[first : first + 2],
        retain=rows[first + 2 :],
        output=output,
        method="eul",
        plan={**QUICK, "options": {"noise": 0.02, "rank": 4, **options}},
    )


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(5, 17).reshape(2, 6)).logits


def fresh(warm: WarmPython, folder: Path, out: Path, first: str) -> tuple[str, torch.Tensor]:
    code = first + "\nfrom transformers import AutoModelForCausalLM" + SAID
    done = warm.run(["-c", code, str(folder), str(out)], out.parent, apart=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), load_file(out)["logits"]


def test_a_bottleneck_is_the_same_bits_in_the_product_and_in_a_fresh_process(warm, clinic, tmp_path):
    result = forgotten(clinic, tmp_path / "out", form="bottleneck")
    assert result.plan["scope"]["kind"] == "parts"
    loaded = load(tmp_path / "out").model
    assert len(parts_of(loaded)) == LAYERS
    _, said = fresh(warm, tmp_path / "out", tmp_path / "said.safetensors", "import palimpsest")
    assert torch.equal(said, logits(loaded))
    assert not torch.equal(said, logits(load(clinic / "model").model))


def test_folded_layers_leave_a_plain_folder_that_needs_transformers_alone(warm, clinic, tmp_path):
    forgotten(clinic, tmp_path / "folded", form="linear")
    forgotten(clinic, tmp_path / "beside", form="linear", fuse=True)  # the same run, and nothing is folded
    alone, said = fresh(warm, tmp_path / "folded", tmp_path / "said.safetensors", "")
    assert alone == "False"
    beside = load(tmp_path / "beside").model
    assert len(parts_of(beside)) == LAYERS
    assert (said - logits(beside)).abs().max() < 1e-4
    assert not torch.allclose(said, logits(load(clinic / "model").model), atol=1e-3)


def test_requests_stack_or_go_on_with_one_set_of_layers(clinic, tmp_path):
    forgotten(clinic, tmp_path / "first", form="bottleneck")
    forgotten(clinic, tmp_path / "stack", tmp_path / "first", first=2, form="bottleneck")
    forgotten(clinic, tmp_path / "one", tmp_path / "first", first=2, form="bottleneck", sequence="one")
    stacked, one = (parts_of(load(tmp_path / name).model) for name in ("stack", "one"))
    first = parts_of(load(tmp_path / "first").model)
    assert (len(stacked), len(one)) == (2 * LAYERS, LAYERS)
    assert all(torch.equal(a.up, b.up) for a, b in zip(first, stacked[:LAYERS], strict=True))
    assert not any(torch.equal(a.up, b.up) for a, b in zip(first, one, strict=True))


@pytest.fixture(scope="module")
def two_requests(clinic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("fused")
    forgotten(clinic, folder / "first", fuse=True)
    forgotten(clinic, folder / "both", folder / "first", first=2, fuse=True)
    return folder


def test_fused_layers_take_the_place_of_all_earlier_ones(two_requests, clinic, tmp_path):
    layers = parts_of(load(two_requests / "both").model)
    assert len(layers) == LAYERS
    kept = sorted(path.name for path in (two_requests / "both/companion/grams").iterdir())
    assert kept == ["0000.safetensors", "0001.safetensors", "index.json", "version.json"]
    forgotten(clinic, tmp_path / "third", two_requests / "both", first=4, fuse=True)
    assert len(parts_of(load(tmp_path / "third").model)) == LAYERS


def test_to_be_fused_a_request_starts_from_the_model_without_the_earlier_layers(two_requests, clinic, tmp_path):
    """The closed form by hand, on the inputs that the second request's own layer has."""
    first = parts_of(load(two_requests / "first").model)
    forgotten(clinic, tmp_path / "alone", first=2, fuse=True)  # the second request, as if there had been no first
    alone = parts_of(load(tmp_path / "alone").model)
    fused = parts_of(load(two_requests / "both").model)
    files = [two_requests / "first", tmp_path / "alone"]
    moments = [load_file(folder / "companion/grams/0000.safetensors") for folder in files]
    for one, other, made in zip(first, alone, fused, strict=True):
        grams = [found[f"{made.config.at}/input"] for found in moments]
        total = sum(grams)
        ridge = 1e-3 * total.diagonal().mean() * torch.eye(len(total), dtype=total.dtype)
        by_hand = torch.linalg.inv(total + ridge) @ (grams[0] @ one.map.double() + grams[1] @ other.map.double())
        assert torch.allclose(made.map.double(), by_hand, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"fuse": True, "at": ["model.layers.0.mlp"]}, "layers of different places cannot be fused"),
        ({"fuse": True, "form": "lora"}, "layers of different places cannot be fused"),
        ({"fuse": True, "sequence": "one"}, "leave out sequence = one, or fuse"),
        ({"at": ["model.layers.9.mlp"]}, "has no module"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(two_requests, clinic, tmp_path, options, reason):
    refused_before_any_work(reason, clinic, tmp_path, two_requests / "both", **options)


def refused_before_any_work(reason: str, clinic: Path, tmp_path: Path, model: Path, **options) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(execute, "measure_column", lambda *_: pytest.fail("the model was measured first"))
        with pytest.raises(UsageError, match=reason) as caught:
            forgotten(clinic, tmp_path / "out", model, first=4, **options)
    assert "\n" not in str(caught.value)
    assert not [*tmp_path.glob("out*")]


def test_a_missing_gram_matrix_is_refused_before_any_work(two_requests, clinic, tmp_path):
    shutil.copytree(two_requests / "first", tmp_path / "torn")
    (tmp_path / "torn/companion/grams/0000.safetensors").unlink()
    refused_before_any_work("0000.safetensors is missing", clinic, tmp_path, tmp_path / "torn", fuse=True)


@pytest.mark.parametrize("kind", ["all", "lora"])
def test_a_scope_that_would_move_the_base_is_refused(kind, clinic, tmp_path):
    """The layers are held against the model with them off, which must be the one that was given."""
    with pytest.raises(UsageError, match=f"scope.kind = {kind}: method 'eul' trains parts .* accepted: parts"):
        pal.unlearn(
            clinic / "model",
            clinic / "forget.jsonl",
            retain=clinic / "retain.jsonl",
            output=tmp_path / "out",
            method="eul",
            plan={**QUICK, "scope": {"kind": kind}},
        )
    assert not [*tmp_path.iterdir()]


def test_without_gram_matrices_nothing_is_fused(two_requests, clinic, tmp_path):
    shutil.copytree(two_requests / "first", tmp_path / "bare")
    shutil.rmtree(tmp_path / "bare/companion")
    with pytest.raises(UsageError, match="no Gram matrices beside it"):
        forgotten(clinic, tmp_path / "out", tmp_path / "bare", first=2, fuse=True)
