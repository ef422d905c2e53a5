"""Image classifiers as sources: what is accepted, how images are normalised, what is refused with which words."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.models.test_resnet import tiny
from transformers import ViTConfig, ViTForImageClassification

from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.errors import MissingExtra, ModelError
from palimpsest.models.images import Preprocessor, pixel_format, without_said_twice
from palimpsest.models.load import check_folder, is_image_model, load, source_digest
from palimpsest.models.scope import Scope, apply_scope

PLAIN = {"normalize_mean": [0.4, 0.5, 0.6], "normalize_std": [0.2, 0.3, 0.4], "image_size": 8}
VIT = {
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.4, 0.3],
    "image_std": [0.2, 0.2, 0.2],
    "resample": 2,
    "rescale_factor": 1 / 255,
    "size": {"height": 8, "width": 8},
}


def put_plain(folder: Path, *names: str, config: dict | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    state = {n: t for n, t in tiny().state_dict().items() if not n.endswith("num_batches_tracked")}
    for name in names:
        save_file(state, folder / f"{name}.safetensors")
    (folder / "config.json").write_text(json.dumps(PLAIN if config is None else config))
    return folder


def vit() -> ViTForImageClassification:
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTForImageClassification(ViTConfig(**shape, image_size=8, patch_size=4, num_labels=3)).eval()


def put_vit(folder: Path, **changes) -> Path:
    vit().save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({**VIT, **changes}))
    return folder


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(pixel_values=torch.linspace(-1, 1, 192).reshape(1, 3, 8, 8)).logits


def test_a_folder_of_ours_holds_all_that_is_needed(tmp_path):
    tiny(image_mean=(0.1, 0.2, 0.3), image_std=(0.4, 0.5, 0.6)).save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert torch.equal(logits(loaded.model), logits(tiny()))
    assert not loaded.model.training
    assert (loaded.family.takes, loaded.num_outputs, loaded.tokenizer, loaded.companion) == ("image", 4, None, None)
    assert loaded.pixels == PixelFormat(8, 8, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert loaded.eos_ids == frozenset()


def test_class_names_are_those_the_config_gives(tmp_path):
    model = tiny()
    model.config.id2label = {0: "cat", 1: "LABEL_1", 2: "dog", 3: "LABEL_3"}
    model.config.label2id = {name: number for number, name in model.config.id2label.items()}
    model.save_pretrained(tmp_path)
    assert load(tmp_path).class_names == {"cat": 0, "dog": 2}


@pytest.mark.parametrize(
    "source",
    ["resnet20@{0}", "resnet20@{0}/other.safetensors", "{0}/resnet20.safetensors", "resnet20@{0}/one", "{0}/two"],
)
def test_plain_weights_with_the_name_of_their_architecture(tmp_path, source):
    put_plain(tmp_path, "resnet20", "other")
    put_plain(tmp_path / "one", "weights")
    put_plain(tmp_path / "two", "resnet20")
    named = source.format(tmp_path)
    loaded = load(named)
    assert torch.equal(logits(loaded.model), logits(tiny()))
    assert loaded.pixels == PixelFormat(8, 8, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    assert loaded.source == named
    assert is_image_model(named)
    loaded.model.save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved").pixels == loaded.pixels


def without(name: str):
    return lambda tensors: tensors.pop(name)


@pytest.mark.parametrize(
    ("source", "change", "config", "words"),
    [
        ("resnet21@{0}", None, PLAIN, "unknown architecture 'resnet21'; did you mean 'resnet"),
        ("resnet32@{0}/resnet20.safetensors", None, PLAIN, "tensors are missing, e.g. layer1.3.conv1.weight"),
        ("resnet18@{0}/resnet20.safetensors", None, PLAIN, "no tensor layer4.0.conv1.weight"),
        ("resnet20@{0}/nowhere", None, PLAIN, "no file .*nowhere/resnet20.safetensors; give ARCHITECTURE@FOLDER"),
        ("resnet20@{0}", without("linear.bias"), PLAIN, "1 tensors are missing, e.g. linear.bias"),
        ("resnet20@{0}", lambda t: t.update(more=torch.ones(1)), PLAIN, "not part of it, e.g. more"),
        ("resnet20@{0}", lambda t: t.update({"bn1.bias": torch.ones(1)}), PLAIN, "of another shape, e.g. bn1.bias"),
        ("resnet20@{0}", None, {}, "no normalize_mean and normalize_std in .*config.json"),
        ("resnet20@{0}", None, PLAIN | {"normalize_mean": [0.5]}, "takes 3 channels; normalize_mean has 1"),
        (
            "resnet20@{0}",
            None,
            PLAIN | {"normalize_std": "a"},
            "normalize_std is 'a'; accepted: one number per channel",
        ),
    ],
)
def test_plain_weights_that_do_not_fit_are_refused(tmp_path, source, change, config, words):
    put_plain(tmp_path, "resnet20", config=config)
    if change is not None:
        tensors = load_file(tmp_path / "resnet20.safetensors")
        change(tensors)
        save_file(tensors, tmp_path / "resnet20.safetensors")
    with pytest.raises(ModelError, match=words) as error:
        load(source.format(tmp_path))
    assert "\n" not in str(error.value)


def test_a_folder_of_several_plain_weights_asks_which(tmp_path):
    put_plain(tmp_path, "resnet20", "resnet32")
    with pytest.raises(ModelError, match=r"holds 2 models; accepted: resnet20@.*, resnet32@"):
        load(tmp_path)


def test_a_transformers_folder_with_its_preprocessor(tmp_path):
    loaded = load(put_vit(tmp_path / "vit"))
    assert torch.equal(logits(loaded.model), logits(vit()))
    assert loaded.pixels == PixelFormat(8, 8, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), resample=2)
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.companion.save_pretrained(tmp_path / "saved")
    assert load(tmp_path / "saved").pixels == loaded.pixels


def test_without_a_preprocessor_nothing_is_guessed(tmp_path):
    (put_vit(tmp_path) / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match=r"no preprocessor_config.json, so the normalisation of its images is unknown"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": 6}, PixelFormat(6, 6, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2), 2)),
        ({"size": {"shortest_edge": 6}}, PixelFormat(6, 6, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))),
        ({"do_center_crop": True, "crop_size": 4}, PixelFormat(4, 4, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))),
        ({"do_resize": False}, PixelFormat(8, 8, (0.5, 0.4, 0.3), (0.2, 0.2, 0.2))),
        ({"do_normalize": False}, PixelFormat(8, 8, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 2)),
    ],
)
def test_preprocessors_as_formats(changes, expected):
    assert pixel_format(Preprocessor({**VIT, **changes}), {}, "m") == expected


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rescale_factor": 1.0}, "rescales by 1.0; accepted: 1/255"),
        ({"size": {"longest_edge": 9}}, "gives no size of images"),
        ({"image_std": None}, "image_std is None; accepted: one number per channel"),
    ],
)
def test_preprocessors_that_do_something_else_are_refused(changes, words):
    with pytest.raises(ModelError, match=words):
        pixel_format(Preprocessor({**VIT, **changes}), {}, "m")


def test_a_timm_folder_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setattr("palimpsest.models.images.find_spec", lambda name: None)
    config = {"architecture": "resnet18", "num_classes": 4, "pretrained_cfg": {"input_size": [3, 8, 8]}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    check_folder(tmp_path)
    with pytest.raises(
        MissingExtra, match=r"a timm folder needs the package 'timm': pip install 'palimpsest-ml\[timm\]'"
    ):
        load(tmp_path)


def test_classes_that_a_timm_folder_says_twice_are_said_once():
    """timm 1.0.31 writes their number into model_args, too, and transformers 5.23 then gives it twice."""
    config = SimpleNamespace(model_args={"num_classes": 4, "img_size": [8, 8]})
    assert without_said_twice(config).model_args == {"img_size": [8, 8]}
    assert without_said_twice(SimpleNamespace(model_args=None)).model_args == {}


def test_the_format_of_a_timm_folder_is_in_its_config():
    timm = {"input_size": [3, 6, 8], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    assert pixel_format(None, {"pretrained_cfg": timm}, "m") == PixelFormat(6, 8, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_damaged_image_weights_are_refused_by_name(tmp_path):
    tiny().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("linear.bias")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"1 weight is missing or misshapen, e.g. linear.bias"):
        load(tmp_path)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_an_adapter_is_merged_into_its_base(tmp_path):
    tiny().save_pretrained(tmp_path / "base")
    base = load(tmp_path / "base")
    adapted = apply_scope(base.model, Scope(kind="lora", rank=2))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    adapted.save_pretrained(tmp_path / "adapter")
    loaded = load(tmp_path / "adapter")
    assert torch.allclose(logits(loaded.model), logits(adapted), atol=1e-4)
    assert not torch.allclose(logits(loaded.model), logits(tiny()), atol=1e-2)
    assert loaded.pixels == base.pixels


def test_a_digest_tells_weights_apart_wherever_they_are(tmp_path):
    put_plain(tmp_path / "a", "resnet20")
    put_plain(tmp_path / "b", "resnet20", "resnet32")
    tiny().save_pretrained(tmp_path / "c")
    same = {source_digest(f"resnet20@{tmp_path / n}") for n in "ab"} | {source_digest(tmp_path / "a")}
    assert len(same) == 1
    assert source_digest(tmp_path / "c") not in same
    before = source_digest(tmp_path / "c")
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    (tmp_path / "c" / "config.json").write_text(json.dumps({**config, "transformers_version": "0"}))
    assert source_digest(tmp_path / "c") == before
    (tmp_path / "c" / "config.json").write_text(json.dumps({**config, "image_mean": [0.1, 0.2, 0.3]}))
    assert source_digest(tmp_path / "c") != before
    assert source_digest("owner/name", "0123abc") == "owner/name@0123abc"


def test_a_text_model_is_none(tiny_llama, tmp_path):
    tiny_llama.save_pretrained(tmp_path)
    assert not is_image_model(tmp_path)
    assert not is_image_model(tmp_path / "nowhere")
