"""The black boxes and the tasks of ``bar.py``: tumours for a network of digits, digits for the published CIFAR ResNet.

``bar``'s defaults were chosen while looking at the first; nothing was ever chosen on the second.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from palimpsest.models.load import load
from palimpsest.models.resnet import SmallResNet, SmallResNetConfig

GREY = 128


class Task(NamedTuple):
    """What a black box is to learn.

    Attributes:
        side: of the frame that the black box takes, pixels.
        black_box: makes or finds it, given a folder of its own and where the data are; gives the model's place and
            how good it is at its own task, in words.
        rows: pictures (N, h, w, C) uint8 and labels, to learn from and held out.
    """

    side: int
    black_box: Callable[[Path, Path], tuple[str, str]]
    rows: Callable[[], tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]

    def files(self, folder: Path, *, framed: bool) -> tuple[str, str]:
        """The rows as files; ``framed`` in the frame that a black box adds by itself."""
        learn, rest, label, wanted = self.rows()
        paths = []
        for name, shown, classes in (("learn", learn, label), ("holdout", rest, wanted)):
            edge = (self.side - shown.shape[1]) // 2 if framed else 0
            images = np.pad(shown, ((0, 0), (edge, edge), (edge, edge), (0, 0)), constant_values=GREY)
            paths.append(folder / f"{name}-{'framed' if framed else 'patch'}.npz")
            np.savez(paths[-1], x=images, y=classes)
        return str(paths[0]), str(paths[1])


def digits_network(folder: Path, _: Path) -> tuple[str, str]:
    """A small ResNet for the 8x8 digits of scikit-learn, doubled to 16x16, trained here."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    large = np.kron(digits.images / 8 - 1, np.ones((2, 2))).astype(np.float32)[:, None]
    parts = train_test_split(large, digits.target, test_size=0.25, random_state=0, stratify=digits.target)
    learn, rest, label, wanted = map(torch.from_numpy, parts)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shape: dict[str, Any] = {"widths": (8, 16, 32), "depths": (1, 1, 1), "num_channels": 1, "image_size": 16}
    net = SmallResNet(SmallResNetConfig(**shape, image_mean=[0.5], image_std=[0.5], num_labels=10))
    optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for _ in range(12):
        net.train()
        for rows in torch.randperm(len(learn)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(pixel_values=learn[rows]).logits, label[rows]).backward()
            optimizer.step()
    net.eval().save_pretrained(folder)
    with torch.no_grad():
        right = float((net(pixel_values=rest).logits.argmax(1) == wanted).float().mean())
    return str(folder), f"digits network: {right:.3f} on digits that it never saw"


def tumours() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rows of scikit-learn's breast-cancer table, 30 numbers in a 6x6 patch."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    table = load_breast_cancer()
    learn, rest, label, wanted = train_test_split(
        table.data, table.target, test_size=0.3, random_state=0, stratify=table.target
    )
    low, high = learn.min(0), learn.max(0)

    def patches(rows: np.ndarray) -> np.ndarray:
        patch = np.full((len(rows), 36), GREY, dtype=np.uint8)
        patch[:, : rows.shape[1]] = np.round(np.clip((rows - low) / (high - low), 0, 1) * 255)
        return patch.reshape(-1, 6, 6, 1)

    return patches(learn), patches(rest), label, wanted


def cifar_network(folder: Path, data: Path) -> tuple[str, str]:
    """The published CIFAR-10 ResNet-20, saved as a folder."""
    load(f"resnet20@{data / 'cifar10-resnets'}").model.save_pretrained(folder)
    return str(folder), "the published CIFAR-10 ResNet-20"


def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The 8x8 digits of scikit-learn, doubled to 16x16 and grey in three channels: 600 to learn from, 400 held out."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    table = load_digits()
    large = np.kron(np.round(table.images * 255 / 16).astype(np.uint8), np.ones((1, 2, 2), np.uint8))
    shown = np.repeat(large[..., None], 3, axis=-1)
    parts = train_test_split(shown, table.target, train_size=600, test_size=400, random_state=0, stratify=table.target)
    return parts[0], parts[1], parts[2], parts[3]


TASKS = {"tumours": Task(16, digits_network, tumours), "digits": Task(32, cifar_network, digits)}
