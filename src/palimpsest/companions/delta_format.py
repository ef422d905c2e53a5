"""How one step's change of the weights is pruned and packed: the largest entries of each tensor, 3 to 4 bytes each.

    v^l = Prune_{p_l}(u^l):  the max(1, round(p_l · |l|)) entries of u^l of largest |u|, fewer where fewer moved

Source: layer-wise partial machine unlearning, Alg. 1; that Prune takes the largest entries is a reconstruction.

A tensor of which everything is kept is stored whole in fp32, so that what is subtracted is exact. Of the others the
positions are stored as gaps between neighbours, in the narrowest integers that hold them all, and the values as fp16
shares of the tensor's largest one: off by 2^-11 of an entry, beside the entries that pruning drops.

Shape legend: N entries of a tensor, K kept ones of all pruned tensors together, T pruned tensors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor

GAP_WIDTHS = (torch.uint8, torch.uint16, torch.int32, torch.int64)


class KeptTensor(NamedTuple):
    """One tensor of a layout.

    Attributes:
        name: of the parameter.
        shape: of it.
        share: of its entries that are kept, above 0; 1 keeps it whole.
    """

    name: str
    shape: tuple[int, ...]
    share: float

    @property
    def size(self) -> int:
        """Its entries."""
        return int(torch.Size(self.shape).numel())


KeptTensors = Sequence[KeptTensor]


def kept_positions(update: Float[Tensor, "..."], share: float) -> Int[Tensor, " k"]:
    """Positions of the entries of largest magnitude, in no order; some may be of entries that did not move.

    Args:
        update: of one tensor, any shape.
        share: of its entries, above 0 and at most 1; at least one entry is taken.

    >>> sorted(kept_positions(torch.tensor([0.1, -3.0, 0.0, 2.0]), 0.5).tolist())
    [1, 3]
    """
    size_N = update.flatten().abs()
    count = min(len(size_N), max(1, round(share * len(size_N))))
    if size_N.is_cpu:  # a third of the time of topk
        return torch.from_numpy(np.argpartition(size_N.numpy(), len(size_N) - count)[len(size_N) - count :])
    return size_N.topk(count, sorted=False).indices


def as_gaps(position_K: Int[Tensor, " K"]) -> Int[Tensor, " K"]:
    """Ascending positions as the number of entries skipped before each, in the narrowest integers.

    >>> as_gaps(torch.tensor([1, 2, 9])).tolist()
    [1, 0, 6]
    """
    gap_K = torch.diff(position_K, prepend=position_K.new_tensor([-1])) - 1
    most = int(gap_K.max()) if len(gap_K) else 0
    return gap_K.to(next(width for width in GAP_WIDTHS if most <= torch.iinfo(width).max))


def from_gaps(gap_K: Int[Tensor, " K"]) -> Int[Tensor, " K"]:
    """Inverse of ``as_gaps``, as int64."""
    return (gap_K.to(torch.int64) + 1).cumsum(0) - 1


def packed(updates: Mapping[str, Float[Tensor, "..."]], layout: KeptTensors) -> dict[str, Tensor]:
    """One step's updates, pruned: "whole" (fp32), and "gap" (K,), "value" (K,) fp16 and "scale" (T,) of the others.

    Args:
        updates: name -> change of the parameter, in any float dtype.
        layout: every name of it, in the order of storage.
    """
    pruned = [place for place in layout if place.share < 1]
    whole = [updates[place.name].detach().float().cpu().flatten() for place in layout if place.share >= 1]
    positions, values, scales, start = [], [], [], 0
    for place in pruned:
        kept_K, value_K = _kept(updates[place.name].detach().float().flatten(), place.share)
        scales.append(np.abs(value_K).max())
        positions.append(kept_K + start)
        values.append(value_K / scales[-1] if scales[-1] else value_K)
        start += place.size
    found = {"whole": torch.cat(whole)} if whole else {}
    if pruned:
        position_K, shares_K = np.concatenate(positions), np.concatenate(values).astype(np.float16)
        ranked = np.argsort(position_K)
        order = torch.from_numpy(ranked[shares_K[ranked] != 0])  # not what stood still, or is too small for fp16
        gaps = as_gaps(torch.from_numpy(position_K)[order])
        found |= {"gap": gaps, "value": torch.from_numpy(shares_K)[order], "scale": torch.tensor(np.array(scales))}
    return found


def _kept(update_N: Float[Tensor, "N"], share: float) -> tuple[Int64[np.ndarray, "k"], Float32[np.ndarray, "k"]]:
    """Positions that are kept and the entries there; NumPy, whose calls cost little beside a small tensor."""
    kept = kept_positions(update_N, share)
    if update_N.is_cpu:
        position_k = kept.numpy()
        return position_k, update_N.numpy()[position_k]
    return kept.cpu().numpy(), update_N[kept].cpu().numpy()


def add_packed(totals: Mapping[str, Float[Tensor, "..."]], tensors: Mapping[str, Tensor], layout: KeptTensors) -> None:
    """Add what was packed to sums, in place.

    Args:
        totals: name -> fp32 tensor on the CPU, of the shape of the parameter.
        tensors: of ``packed``.
        layout: that they were packed by.
    """
    done = 0
    for place in (place for place in layout if place.share >= 1):
        totals[place.name].view(-1).add_(tensors["whole"][done : done + place.size])
        done += place.size
    pruned = [place for place in layout if place.share < 1]
    if not pruned:
        return
    position_K, value_K = from_gaps(tensors["gap"]), tensors["value"].float()
    start = 0
    for place, scale in zip(pruned, tensors["scale"], strict=True):
        first, last = torch.searchsorted(position_K, torch.tensor([start, start + place.size])).tolist()
        own = slice(first, last)
        totals[place.name].view(-1).index_add_(0, position_K[own] - start, value_K[own] * scale)
        start += place.size
