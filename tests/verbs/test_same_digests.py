"""The same run from five kinds of data and three kinds of model; the caller's module is only read, no file stays."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import palimpsest as pal
from palimpsest.models.load import load
from palimpsest.models.resnet import SmallResNet, resnet_config
from palimpsest.models.scope import tensor_digest

FAST = {"training": {"learning_rate": 1e-2, "max_steps": 2, "batch_size": 4}, "measuring": {"metrics": ["ma"]}}
PIXELS = {"training": {"learning_rate": 1e-2, "max_steps": 2, "batch_size": 4}}


class OwnLlama(nn.Module):
    """The layers of a Llama in a class that no library knows."""

    def __init__(self, llama) -> None:
        super().__init__()
        self.model, self.lm_head = llama.model, llama.lm_head

    def forward(self, tokens, attention_mask=None):
        return self.lm_head(self.model(input_ids=tokens, attention_mask=attention_mask, use_cache=False)[0])


class OwnNet(nn.Module):
    """The layers of a small ResNet in a class that no library knows."""

    def __init__(self, net: SmallResNet) -> None:
        super().__init__()
        for name, layer in net.named_children():
            self.add_module(name, layer)

    def forward(self, images):
        seen = torch.relu(self.bn1(self.conv1(images.contiguous(memory_format=torch.channels_last))))
        return self.linear(self.layer3(self.layer2(self.layer1(seen))).mean(dim=(2, 3)))


def all_of(module: nn.Module) -> dict:
    """Everything that a caller could see changed."""
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    seen = {
        name: (
            tensor_digest(t),
            t.dtype,
            t.device,
            t.requires_grad,
            t.data_ptr(),
            None if t.grad is None else t.grad.sum(),
        )
        for name, t in tensors.items()
    }
    modes = {name: layer.training for name, layer in module.named_modules()}
    config = module.config.to_dict() if hasattr(module, "config") else {}
    return {"tensors": seen, "modes": modes, "config": config, "hooks": len(module._forward_hooks)}


def in_use(module: nn.Module) -> nn.Module:
    """A module as it stands in the middle of somebody's work: in train mode but for a layer, partly frozen."""
    module.train()
    first, last = next(iter(module.children())), list(module.children())[-1]
    first.eval()
    next(first.parameters()).requires_grad_(False)
    weight = next(last.parameters())
    weight.grad = torch.ones_like(weight) if weight.requires_grad else None
    return module


@pytest.fixture
def watched(tmp_path, monkeypatch) -> Path:
    """The place where temporary folders are made."""
    place = tmp_path / "temporary"
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    return place


def rows_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def dataset(rows):
    return pytest.importorskip("datasets").Dataset.from_list(rows)


def frame(rows):
    return pytest.importorskip("pandas").DataFrame(rows)


def records(rows):
    return [pal.Example(row["id"], pal.Completion(row["prompt"], row["completion"]), row["subject"]) for row in rows]


KINDS = {"path": None, "records": records, "dicts": list, "dataset": dataset, "frame": frame}


@pytest.fixture(scope="module")
def through_files(clinic, tmp_path_factory) -> Path:
    """The run with everything in files; the model saved by us, as a model in memory is."""
    place = tmp_path_factory.mktemp("files")
    loaded = load(clinic / "model")
    pal.Model.of(loaded.model, loaded.tokenizer).save(place / "model")
    retain = clinic / "retain.jsonl"
    pal.unlearn(
        place / "model", clinic / "forget.jsonl", retain=retain, method="grad_diff", plan=FAST, output=place / "out"
    )
    return place / "out"


def same_weights(run: pal.Run, folder: Path) -> bool:
    saved, own = load_file(folder / "model.safetensors"), run.model.module.state_dict()
    return saved.keys() <= own.keys() and all(torch.equal(own[name], tensor) for name, tensor in saved.items())


def said_in(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_five_kinds_of_data_give_one_run(clinic, through_files, watched, kind):
    files = {name: clinic / f"{name}.jsonl" for name in ("forget", "retain")}
    sets = {name: file if kind == "path" else KINDS[kind](rows_of(file)) for name, file in files.items()}
    tokenizer = AutoTokenizer.from_pretrained(clinic / "model")
    module = in_use(AutoModelForCausalLM.from_pretrained(clinic / "model"))
    before = all_of(module)
    run = pal.unlearn(pal.Model.of(module, tokenizer), **sets, method="grad_diff", plan=FAST)
    expected = said_in(through_files)
    assert run.plan["digests"] == expected["plan"]["digests"]
    assert run.plan_digest == expected["plan_digest"]
    assert same_weights(run, through_files)
    assert all_of(module) == before
    assert not list(watched.iterdir())


@pytest.mark.slow
def test_a_causal_lm_of_ones_own_gives_the_weights_that_its_folder_gives(clinic, through_files, watched):
    loaded = load(clinic / "model")
    module = in_use(OwnLlama(loaded.model))
    before = all_of(module)
    model = pal.Model.of(module, loaded.tokenizer, num_outputs=loaded.num_outputs, max_length=128)
    run = pal.unlearn(model, clinic / "forget.jsonl", retain=clinic / "retain.jsonl", method="grad_diff", plan=FAST)
    expected = said_in(through_files)
    assert {name: run.plan["digests"][name] for name in ("forget", "retain")} == {
        name: expected["plan"]["digests"][name] for name in ("forget", "retain")
    }
    assert type(run.model.module) is OwnLlama
    assert same_weights(run, through_files)
    found = {name: score.value for name, score in run.scores["after"]["forget"].items()}
    assert found == {name: score["value"] for name, score in expected["scores"]["after"]["forget"].items()}
    assert all_of(module) == before
    assert not list(watched.iterdir())


@pytest.fixture
def album(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 3, 24)
    images = rng.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8)
    for name, part in (("forget", slice(0, 8)), ("retain", slice(8, 24))):
        np.savez(tmp_path / f"{name}.npz", x=images[part], y=label[part])
    return tmp_path


@pytest.mark.slow
def test_an_image_classifier_of_ones_own_gives_the_weights_that_its_folder_gives(album, watched):
    torch.manual_seed(0)
    net = SmallResNet(resnet_config("resnet20", 3, widths=(4, 4, 4), image_size=8))
    net.save_pretrained(album / "model")
    files = {name: album / f"{name}.npz" for name in ("forget", "retain")}
    of_folder = pal.unlearn(album / "model", **files, plan=PIXELS, output=album / "out")
    module = in_use(OwnNet(net))
    before = all_of(module)
    half = (0.5, 0.5, 0.5)
    model = pal.Model.of(module, num_outputs=3, image_size=8, image_mean=half, image_std=half)
    run = pal.unlearn(model, **files, plan=PIXELS)
    assert run.method == of_folder.method
    assert same_weights(run, album / "out")
    assert run.scores["after"]["forget"]["prob"].by_id == of_folder.scores["after"]["forget"]["prob"].by_id
    assert run.verdict == of_folder.verdict
    assert all_of(module) == before
    assert not list(watched.iterdir())
