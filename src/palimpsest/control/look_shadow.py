"""The shadow of a classifier of images: the class of those images that stay which look most like one.

    class = what most of the ``NEIGHBOURS`` nearest are of, by the Euclidean distance of pixels seen from afar

It knows little, and that little only of what stays: enough to see that a class is not what such images have.

Source: nearest neighbours, Cover & Hart 1967, "Nearest Neighbor Pattern Classification".
Shape legend: N images, M of those that stay, H height, W width, C channels, D numbers of an image from afar,
K neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

NEIGHBOURS = 5
SIDE = 16  # pixels, of an image from afar
MOST_THAT_STAY = 4096  # images that stay; the search costs this many distances an image
_AT_ONCE = 512


class LookShadow:
    """Images that stay, as seen from afar.

    Args:
        staying: sets of images with their classes.
    """

    def __init__(self, staying: Sequence[Any]) -> None:
        self._far_MD = torch.cat([_from_afar(one.images_NHWC) for one in staying]) if staying else torch.zeros(0, 1)
        self._label_M = torch.cat([one.label_N for one in staying]) if staying else torch.zeros(0, dtype=torch.long)

    @property
    def classes(self) -> frozenset[int]:
        """That it knows."""
        return frozenset(self._label_M.tolist())

    def tells(self, images: Any) -> dict[str, bool]:
        """Is the class of each image that of most that look like it? A draw counts for it."""
        votes_NC = self._votes(_from_afar(images.images_NHWC), 1 + int(max(self._label_M.max(), images.label_N.max())))
        own_N = votes_NC.gather(1, images.label_N[:, None])[:, 0]
        return dict(zip(images.ids, (own_N == votes_NC.amax(1)).tolist(), strict=True))

    def _votes(self, far_ND: Float[Tensor, "N D"], classes: int) -> Float[Tensor, "N C"]:
        found = []
        for part in torch.split(far_ND, _AT_ONCE):
            near_NK = torch.cdist(part, self._far_MD).topk(min(NEIGHBOURS, len(self._far_MD)), largest=False).indices
            found.append(torch.nn.functional.one_hot(self._label_M[near_NK], classes).sum(1))
        return torch.cat(found).float()


def _from_afar(images_NHWC: UInt8[Tensor, "N H W C"]) -> Float[Tensor, "N D"]:
    """At most SIDE pixels to a side, between 0 and 1."""
    side = (min(SIDE, images_NHWC.shape[1]), min(SIDE, images_NHWC.shape[2]))
    parts = [
        torch.nn.functional.adaptive_avg_pool2d(part.permute(0, 3, 1, 2).float() / 255, side).flatten(1)
        for part in torch.split(images_NHWC.cpu(), _AT_ONCE)
    ]
    return torch.cat(parts)
