"""Tiny classifiers with and without batch normalisation, and rows for them."""

from __future__ import annotations

import torch
from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

from palimpsest.data.encode.batch import TokenSequence
from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.labelled import LabelSet
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.models.resnet import SmallResNet, resnet_config


def resnet(classes=4):
    torch.manual_seed(0)
    return SmallResNet(resnet_config("resnet20", classes, widths=(2, 3, 4), image_size=8)).eval()


def vit(classes=4):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    pixels = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    config = ViTConfig(image_size=8, patch_size=4, num_labels=classes, **sizes, **pixels)
    return ViTForImageClassification(config).eval()


def bert(classes=4):
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 8}
    return BertForSequenceClassification(BertConfig(vocab_size=20, num_labels=classes, **sizes)).eval()


def images(prefix, labels, seed=0):
    """An image per label, brighter by class."""
    generator = torch.Generator().manual_seed(seed)
    noise_NHWC = torch.randint(0, 60, (len(labels), 8, 8, 3), generator=generator)
    bright_N = torch.tensor(labels)
    pixels = (noise_NHWC + 40 * bright_N[:, None, None, None]).to(torch.uint8)
    ids = tuple(f"{prefix}{number}" for number in range(len(labels)))
    return ImageSet(ids, pixels, bright_N, PixelFormat(8, 8, (0.5,) * 3, (0.5,) * 3))


def texts(prefix, labels):
    """A text per label, of ragged lengths."""
    rows = [
        TokenSequence(f"{prefix}{n}", (2, *(5 + label for _ in range(1 + n % 3)), 3), (False,) * (3 + n % 3))
        for n, label in enumerate(labels)
    ]
    return LabelSet(tuple(rows), torch.tensor(labels))


def whole(examples):
    return examples.batch(examples.ids)
