"""ResNets for small images (32 x 32 photographs, 28 x 28 digits) as transformers models.

Source: He et al. 2016, arXiv:1512.03385: section 4.2 for ResNet-20, -32 and -56 (3 stages of n blocks, 6n + 2 layers,
shortcuts of option A), Table 1 for ResNet-18 (4 stages of 2 blocks, shortcuts of option B). As is usual for small
images ResNet-18 begins with a 3x3 convolution and no pooling.

    block:     y = ReLU( bn2(conv2(ReLU(bn1(conv1(x))))) + shortcut(x) )
    option A:  shortcut(x) = every second pixel, the missing channels filled with zeros: no parameters
    option B:  shortcut(x) = bn(conv1x1(x)) where the shape changes
    head:      logits = linear(mean over H, W of the last stage)

Shape legend: B examples, C channels, H height, W width, D width of the last stage, K classes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

from palimpsest.models.architectures import ARCHITECTURES


class SmallResNetConfig(PreTrainedConfig):  # type: ignore[misc] # transformers is untyped
    """Shape of a small ResNet and how its input is normalised."""

    model_type = "palimpsest_resnet"

    widths: list[int] | tuple[int, ...] = (16, 32, 64)
    """channels of each stage"""
    depths: list[int] | tuple[int, ...] = (3, 3, 3)
    """blocks of each stage"""
    shortcut: str = "pad"
    """"pad" (option A) or "projection" (option B)"""
    num_channels: int = 3
    """of an image"""
    image_size: int = 32
    """height and width of an image, pixels"""
    image_mean: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    """subtracted from each channel of an image in [0, 1]"""
    image_std: list[float] | tuple[float, ...] = (0.5, 0.5, 0.5)
    """what the difference is divided by"""


def resnet_config(
    architecture: str,
    num_labels: int,
    *,
    widths: tuple[int, ...] | None = None,
    image_size: int = 32,
    image_mean: tuple[float, ...] = (0.5, 0.5, 0.5),
    image_std: tuple[float, ...] = (0.5, 0.5, 0.5),
) -> SmallResNetConfig:
    """Config of a named architecture; one mean per channel says how many channels an image has.

    Args:
        architecture: one of ``ARCHITECTURES``.
        num_labels: classes.
        widths: channels of the stages instead of the published ones, as many as there are stages.
        image_size: height and width, pixels.
        image_mean: per channel, of images in [0, 1].
        image_std: per channel.

    >>> resnet_config("resnet18", 2, widths=(8, 16, 16, 16), image_mean=(0.1,), image_std=(0.3,)).num_channels
    1
    """
    published, depths, shortcut = ARCHITECTURES[architecture]
    return SmallResNetConfig(
        widths=list(widths or published),
        depths=list(depths),
        shortcut=shortcut,
        num_labels=num_labels,
        num_channels=len(image_mean),
        image_size=image_size,
        image_mean=list(image_mean),
        image_std=list(image_std),
    )


class SmallResNet(PreTrainedModel):  # type: ignore[misc] # transformers is untyped
    """A ResNet with its classification head; the names of its weights are those of the usual CIFAR state dicts."""

    config_class = SmallResNetConfig
    main_input_name = "pixel_values"

    def __init__(self, config: SmallResNetConfig) -> None:
        super().__init__(config)
        self.conv1 = _conv3x3(config.num_channels, config.widths[0])
        self.bn1 = nn.BatchNorm2d(config.widths[0])
        entering = (config.widths[0], *config.widths[:-1])
        for stage, channels in enumerate(zip(entering, config.widths, config.depths, strict=True)):
            self.add_module(f"layer{stage + 1}", _stage(*channels, stride=1 if stage == 0 else 2, kind=config.shortcut))
        self.linear = nn.Linear(config.widths[-1], config.num_labels)
        self.post_init()

    def forward(self, pixel_values: Float[Tensor, "B C H W"], **_: Any) -> ImageClassifierOutputWithNoAttention:
        """Logits of normalised images, (B, K), in ``.logits``.

        Channels are laid out last: on processors narrow convolutions run about a third faster so (docs/log.md).
        """
        laid_out_BCHW = pixel_values.contiguous(memory_format=torch.channels_last)
        features_BCHW = F.relu(self.bn1(self.conv1(laid_out_BCHW)))
        for stage in range(len(self.config.widths)):
            features_BCHW = self.get_submodule(f"layer{stage + 1}")(features_BCHW)
        return ImageClassifierOutputWithNoAttention(logits=self.linear(features_BCHW.mean(dim=(2, 3))))

    def get_output_embeddings(self) -> nn.Linear:
        """The head: what enters it are the D features of an image."""
        return self.linear

    def _init_weights(self, module: nn.Module) -> None:
        """He initialisation with the fan of the inputs, as in the paper; of the head too."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d | nn.Linear):
            init.kaiming_normal_(module.weight, nonlinearity="relu")


class _Block(nn.Module):
    """Two convolutions and what is added to them."""

    def __init__(self, entering: int, leaving: int, stride: int, kind: str) -> None:
        super().__init__()
        self.conv1 = _conv3x3(entering, leaving, stride)
        self.bn1 = nn.BatchNorm2d(leaving)
        self.conv2 = _conv3x3(leaving, leaving)
        self.bn2 = nn.BatchNorm2d(leaving)
        self.shortcut = _shortcut(entering, leaving, stride, kind)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)))
        return F.relu(self.bn2(self.conv2(y_BCHW)) + self.shortcut(x_BCHW))


class _PaddedShortcut(nn.Module):
    """Option A."""

    def __init__(self, missing: int, stride: int) -> None:
        super().__init__()
        self.before, self.behind = missing // 2, missing - missing // 2
        self.stride = stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        seen_BCHW = x_BCHW[:, :, :: self.stride, :: self.stride]
        return F.pad(seen_BCHW, (0, 0, 0, 0, self.before, self.behind))


def _shortcut(entering: int, leaving: int, stride: int, kind: str) -> nn.Module:
    if stride == 1 and entering == leaving:
        return nn.Identity()
    if kind == "pad":
        return _PaddedShortcut(leaving - entering, stride)
    return nn.Sequential(nn.Conv2d(entering, leaving, 1, stride, bias=False), nn.BatchNorm2d(leaving))


def _stage(entering: int, leaving: int, depth: int, *, stride: int, kind: str) -> nn.Sequential:
    widths = (entering, *[leaving] * depth)
    return nn.Sequential(*(_Block(a, b, stride if n == 0 else 1, kind) for n, (a, b) in enumerate(pairwise(widths))))


def _conv3x3(entering: int, leaving: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(entering, leaving, 3, stride, padding=1, bias=False)


def register() -> None:
    """Make transformers' Auto classes know folders of these models; again is harmless."""
    from transformers import AutoConfig, AutoModelForImageClassification

    AutoConfig.register(SmallResNetConfig.model_type, SmallResNetConfig, exist_ok=True)
    AutoModelForImageClassification.register(SmallResNetConfig, SmallResNet, exist_ok=True)
