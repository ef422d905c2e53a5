"""Three classes of small pictures, each of its own colour, and a net of one hidden layer that tells them apart."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from palimpsest.data.encode.image import ImageSet
from palimpsest.data.encode.pixels import PixelFormat
from palimpsest.models.custom import CustomConfig, CustomForImageClassification

PIXELS = PixelFormat(4, 4, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


def blob_images(count: int, seed: int) -> ImageSet:
    """So many pictures, their classes in turn."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 120, (count, 4, 4, 3), generator=generator)
    label = torch.arange(count) % 3
    images[torch.arange(count), :, :, label] += 100
    return ImageSet(tuple(f"{seed}-{n}" for n in range(count)), images.to(torch.uint8), label, PIXELS)


class BlobNet(nn.Module):
    """Mean colour, 32 neurons, 3 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.relu, self.head = nn.Linear(3, 32), nn.ReLU(), nn.Linear(32, 3)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return self.head(self.relu(self.hidden(images_BCHW.mean((2, 3)))))

    @classmethod
    def learned(cls) -> CustomForImageClassification:
        """One that has learned the classes, as a run would have it."""
        torch.manual_seed(0)
        net, images = cls(), blob_images(60, seed=1)
        batch = images.batch(images.ids)
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(batch.images_BCHW), batch.label_B).backward()
            optimizer.step()
        facts = {"num_labels": 3, "image_size": [4, 4], "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
        return CustomForImageClassification(CustomConfig(head="head", **facts), net).eval()
