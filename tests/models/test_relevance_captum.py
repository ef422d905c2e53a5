"""Relevance at the head's input against captum's LayerLRP: a CNN, a ResNet, a ViT, token rows of a language model.

captum knows rules for the layers of a CNN and a ResNet and runs through them as they are. It has none for LayerNorm,
GELU and attention, so that of a ViT and a language model it is shown the head alone; the layers below have no say in
what arrives at the head's input, only in what becomes of it below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from captum.attr import LayerLRP
from captum.attr._core.lrp import SUPPORTED_LAYERS_WITH_RULES, SUPPORTED_NON_LINEAR_LAYERS
from captum.attr._utils.lrp_rules import EpsilonRule, GammaRule, PropagationRule
from torch import Tensor, nn
from transformers import ViTConfig, ViTForImageClassification

from palimpsest.methods.lra_npp import LRANPPConfig, relevance_for
from palimpsest.models.class_samples import Entered
from palimpsest.models.custom import CustomConfig, CustomForImageClassification
from palimpsest.models.head_edit import head_of
from palimpsest.models.resnet import SmallResNet, resnet_config

RULES: dict[str, Callable[[], PropagationRule]] = {
    "epsilon": lambda: EpsilonRule(epsilon=0.1),
    "gamma": lambda: GammaRule(gamma=0.1),
}
HAVE_RULES = (*SUPPORTED_LAYERS_WITH_RULES, *SUPPORTED_NON_LINEAR_LAYERS)
ROWS, CLASSES = 6, 5


class Net(nn.Module):
    """Two convolutions and a hidden layer, of layers that captum has rules for."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.relu, self.pool, self.also = nn.ReLU(), nn.MaxPool2d(2), nn.ReLU()
        self.hidden, self.last, self.head = nn.Linear(72, 20), nn.ReLU(), nn.Linear(20, CLASSES)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        images_BCHW = self.pool(self.also(self.second(self.relu(self.first(images_BCHW)))))
        return self.head(self.last(self.hidden(images_BCHW.flatten(1))))


class Said(nn.Module):
    """The logits of a model as a tensor; ``whole`` shows captum all of its layers, else the head alone."""

    def __init__(self, model: nn.Module, head: nn.Module, argument: str, *, whole: bool) -> None:
        super().__init__()
        self.shown = model if whole else head
        self.asked = (model, argument)  # in a tuple it is no submodule

    def forward(self, given: Tensor) -> Tensor:
        model, argument = self.asked
        found: Any = model(**{argument: given})
        return found if isinstance(found, Tensor) else found.logits


def theirs(said: Said, head: nn.Module, given: Tensor, target: Any, rule: str) -> Tensor:
    """LayerLRP at the head's input, its rule there the one that is asked for."""
    for layer in said.modules():
        if not list(layer.children()) and type(layer) not in HAVE_RULES:
            layer.rule = EpsilonRule()  # a shortcut, which is linear
    head.rule = RULES[rule]()
    return (
        LayerLRP(said, head)
        .attribute(given.clone().requires_grad_(), target=target, attribute_to_layer_input=True)
        .detach()
    )


def compared(theirs_SK: Tensor, looked: Entered, model: nn.Module, rule: str) -> None:
    """What the method takes for relevance has the direction of captum's, row by row; of the epsilon rule its size."""
    head = head_of(model, "lra_npp").numbers
    for relevance in ("signed", "absolute"):
        ours_SK = relevance_for(looked, head, LRANPPConfig(rule=rule, relevance=relevance))
        wanted_SK = theirs_SK if relevance == "signed" else theirs_SK.abs()
        assert torch.cosine_similarity(ours_SK.double(), wanted_SK.double()).min() >= 0.9999
        if rule == "epsilon":
            torch.testing.assert_close(ours_SK, wanted_SK, rtol=1e-3, atol=1e-6)


def entering_head(said: Said, head: nn.Module, given: Tensor) -> Tensor:
    """What enters the head."""
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _module, entering: seen.append(entering[0].detach()))
    with torch.no_grad():
        said(given)
    hook.remove()
    return seen[0]


def cnn() -> nn.Module:
    facts: dict[str, Any] = {"num_labels": CLASSES, "image_size": [10, 10], "image_mean": [0.5], "image_std": [0.5]}
    return CustomForImageClassification(CustomConfig(head="head", **facts), Net())


def resnet() -> nn.Module:
    shape: dict[str, Any] = {"widths": (4, 8, 16), "image_size": 8, "image_mean": (0.5,) * 3, "image_std": (0.5,) * 3}
    return SmallResNet(resnet_config("resnet20", CLASSES, **shape))


def vit() -> nn.Module:
    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2}
    shape: dict[str, Any] = {"num_attention_heads": 2, "image_size": 8, "patch_size": 4, "initializer_range": 0.3}
    return ViTForImageClassification(ViTConfig(num_labels=CLASSES, **sizes, **shape))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(
    ("made", "size", "whole"), [(cnn, (1, 10, 10), True), (resnet, (3, 8, 8), True), (vit, (3, 8, 8), False)]
)
def test_of_images_it_is_captums(made: Callable[[], nn.Module], size: tuple[int, ...], whole: bool, rule: str):
    torch.manual_seed(5)
    model, images = made().eval(), torch.randn(ROWS, *size)
    head, label_N = head_of(model, "lra_npp").module, torch.arange(ROWS) % CLASSES
    said = Said(model, head, "pixel_values", whole=whole)
    looked = Entered(entering_head(said, head, images), label_N, torch.arange(ROWS))
    compared(theirs(said, head, images, label_N, rule), looked, model, rule)


@pytest.mark.parametrize("rule", RULES)
def test_of_token_rows_it_is_captums(rule: str, tiny_llama: nn.Module):
    """A position for each row, and what it says there."""
    torch.manual_seed(6)
    embedded = torch.randn(ROWS, 7, 32)
    head, token_N, place_N = head_of(tiny_llama, "lra_npp").module, torch.randint(61, (ROWS,)), torch.arange(ROWS)
    said = Said(tiny_llama, head, "inputs_embeds", whole=False)
    targets = list(zip(place_N.tolist(), token_N.tolist(), strict=True))
    theirs_BTK = theirs(said, head, embedded, targets, rule)
    entered_BTK = entering_head(said, head, embedded)
    looked = Entered(entered_BTK[torch.arange(ROWS), place_N], token_N, torch.arange(ROWS))
    compared(theirs_BTK[torch.arange(ROWS), place_N], looked, tiny_llama, rule)
    assert theirs_BTK.count_nonzero(dim=2).bool().sum(1).tolist() == [1] * ROWS
