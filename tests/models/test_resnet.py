"""The residual networks against their definition, their folders, and the published weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForImageClassification

from palimpsest.models.architectures import ARCHITECTURES
from palimpsest.models.resnet import SmallResNet, register, resnet_config


def tiny(architecture: str = "resnet20", **options) -> SmallResNet:
    """A few thousand parameters, random but seeded."""
    torch.manual_seed(0)
    widths = tuple(2 * (stage + 2) for stage in range(len(ARCHITECTURES[architecture][0])))
    return SmallResNet(resnet_config(architecture, 4, widths=widths, image_size=8, **options)).eval()


def test_the_forward_pass_is_the_written_formula():
    """ResNet-20 again, from its state dict alone."""
    model = tiny()
    state = model.state_dict()

    def bn(x, name):
        mean, var, scale, shift = (
            state[f"{name}.{k}"][:, None, None] for k in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift

    with torch.no_grad():
        for name, buffer in model.named_buffers():  # statistics that are not 0 and 1
            if name.endswith(("running_mean", "running_var")):
                buffer.uniform_(0.5, 1.5)
        x = images = torch.rand(3, 3, 8, 8)
        x = F.relu(bn(F.conv2d(x, state["conv1.weight"], padding=1), "bn1"))
        for stage in (1, 2, 3):
            for block in range(3):
                at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
                y = F.relu(bn(F.conv2d(x, state[f"{at}.conv1.weight"], stride=stride, padding=1), f"{at}.bn1"))
                y = bn(F.conv2d(y, state[f"{at}.conv2.weight"], padding=1), f"{at}.bn2")
                if stride == 2:
                    x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))  # two channels more than before
                x = F.relu(x + y)
        expected = x.mean((2, 3)) @ state["linear.weight"].T + state["linear.bias"]
        assert torch.allclose(model(pixel_values=images).logits, expected, atol=1e-5)


@pytest.mark.parametrize(("architecture", "parameters"), [("resnet20", 269_722), ("resnet32", 464_154)])
def test_published_numbers_of_parameters(architecture, parameters):
    assert SmallResNet(resnet_config(architecture, 10)).num_parameters() == parameters


def test_resnet18_halves_the_image_three_times_and_projects_its_shortcuts():
    model = tiny("resnet18")
    features = []
    model.layer4.register_forward_hook(lambda _module, _inputs, output: features.append(output.shape))
    model(pixel_values=torch.zeros(2, 3, 32, 32))
    assert features == [(2, 10, 4, 4)]
    assert [n for n in model.state_dict() if n.endswith("shortcut.0.weight")] == [
        f"layer{stage}.0.shortcut.0.weight" for stage in (2, 3, 4)
    ]
    assert SmallResNet(resnet_config("resnet18", 10)).num_parameters() == 11_173_962


def test_digits_of_28_pixels_and_one_channel():
    model = tiny("resnet18", image_mean=(0.1,), image_std=(0.3,))
    assert model(pixel_values=torch.zeros(2, 1, 28, 28)).logits.shape == (2, 4)


def test_weights_begin_as_the_paper_says():
    """Standard deviation sqrt(2 / fan-in), of the head too; no other bias than 0."""
    torch.manual_seed(0)
    model = SmallResNet(resnet_config("resnet56", 100))
    for name in ("layer3.8.conv2.weight", "linear.weight"):
        weight = model.get_parameter(name)
        assert weight.std().item() == pytest.approx((2 / weight[0].numel()) ** 0.5, rel=0.05)
    assert not model.linear.bias.any()


def test_a_folder_loads_to_the_same_bits(tmp_path):
    register()
    model = tiny("resnet18", image_mean=(0.1, 0.2, 0.3), image_std=(0.4, 0.5, 0.6))
    model.bn1.running_mean.uniform_()
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert isinstance(again, SmallResNet)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())
    assert AutoConfig.from_pretrained(tmp_path).image_mean == [0.1, 0.2, 0.3]


def test_the_head_of_its_features_is_its_output():
    model, images = tiny(), torch.rand(2, 3, 8, 8)
    seen = []
    model.get_output_embeddings().register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    logits = model(pixel_values=images).logits
    assert torch.equal(logits, F.linear(seen[0], model.linear.weight, model.linear.bias))


@pytest.mark.shared
def test_published_weights_reach_their_published_accuracy(shared_data):
    """resnet20: 91.40 % of all 4,000 images of test.npz; the first 400 are 91 % with a standard error of 1.4 points."""
    config = resnet_config("resnet20", 10, image_mean=(0.485, 0.456, 0.406), image_std=(0.229, 0.224, 0.225))
    model = SmallResNet(config).eval()
    missing, unexpected = model.load_state_dict(
        load_file(shared_data / "cifar10-resnets" / "resnet20.safetensors"), strict=False
    )
    assert not unexpected
    assert all(name.endswith("num_batches_tracked") for name in missing)
    file = np.load(shared_data / "cifar10" / "test.npz")
    images = torch.tensor(file["x"][:400]).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (config.image_mean, config.image_std))
    with torch.no_grad():
        right = model(pixel_values=(images - mean) / std).logits.argmax(1).numpy() == file["y"][:400]
    assert 0.87 < right.mean() < 0.95
