"""Exact nearest neighbours by Euclidean distance, deletable by id.

Shape legend: N vectors in the index, B queries, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from palimpsest.errors import DataError, MissingExtra

Backend = Literal["auto", "faiss", "torch"]

_SPARE = 16  # candidates fetched beyond k, so that most ties are settled in one search
_ROUNDING = 1e-5  # of |x|^2 + |y|^2 - 2xy in fp32, relative to |x|^2 + |y|^2


class NeighbourIndex:
    """Vectors under ids. FAISS or torch only propose candidates; their distances are recomputed in fp64.

    So both give the same neighbours in the same order: by distance, then by position in the data.
    """

    def __init__(self, ids: Sequence[str], vectors_ND: Float[Tensor, "N D"], *, backend: Backend = "auto") -> None:
        """Index vectors.

        Args:
            ids: N of them, unique.
            vectors_ND: finite, any float dtype.
            backend: "faiss", "torch", or "auto" for FAISS where it is installed.

        Raises:
            DataError: ids and vectors do not match, an id repeats, or a vector is not finite.
            MissingExtra: "faiss" was asked for and is not installed.
        """
        _check(ids, vectors_ND)
        self._ids = list(ids)
        self._backend = backend
        self._keep_vectors(vectors_ND.clone())

    @property
    def backend(self) -> str:
        """What proposes the candidates: "faiss" or "torch"."""
        return "torch" if self._faiss is None else "faiss"

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids that can be found, in the order of the data."""
        return tuple(self._ids)

    def __len__(self) -> int:
        return len(self._ids)

    def remove(self, ids: Collection[str]) -> None:
        """Delete vectors from the index itself, not only from its results.

        Raises:
            DataError: an id is not in the index; nothing was removed.
        """
        unwanted = frozenset(ids)
        strangers = sorted(unwanted.difference(self._ids))
        if strangers:
            raise DataError(f"{len(strangers)} ids are not in the index (first: {strangers[0]!r}); nothing was removed")
        keep = torch.tensor([i not in unwanted for i in self._ids], dtype=torch.bool)
        self._ids = [i for i in self._ids if i not in unwanted]
        self._keep_vectors(self._vectors_ND[keep])

    def _keep_vectors(self, vectors_ND: Float[Tensor, "N D"]) -> None:
        self._vectors_ND = vectors_ND.detach().float().cpu().contiguous()
        self._squares_N = self._vectors_ND.square().sum(dim=1)
        # Built anew, because FAISS's own removal only shortens its array and leaves the numbers behind its end.
        self._faiss = (
            _faiss_index(self._vectors_ND, required=self._backend == "faiss") if self._backend != "torch" else None
        )

    def search(self, vectors_BD: Float[Tensor, "B D"], k: int) -> list[list[tuple[str, float]]]:
        """The k nearest of each query, or all if there are fewer.

        Args:
            vectors_BD: queries.
            k: neighbours per query, >= 1.

        Returns:
            For each query (id, Euclidean distance), nearest first; equal distances in the order of the data.
        """
        queries_BD = vectors_BD.detach().float().cpu().contiguous()
        if queries_BD.shape[1:] != self._vectors_ND.shape[1:] or not queries_BD.isfinite().all():
            raise DataError(f"queries of shape {tuple(queries_BD.shape)}; accepted: finite (B, {self._width})")
        if k < 1:
            raise DataError(f"k is {k}; accepted: 1 or more")
        return [self._nearest(query_D, min(k, len(self))) for query_D in queries_BD]

    @property
    def _width(self) -> int:
        return int(self._vectors_ND.shape[1])

    def _nearest(self, query_D: Float[Tensor, "D"], k: int) -> list[tuple[str, float]]:
        fetched = k + _SPARE
        while True:
            positions, worst = self._candidates(query_D, min(fetched, len(self)))
            found = self._exact(query_D, positions)[:k]
            # What was not fetched is farther than `worst`, up to rounding; only then are the k and their ties settled.
            scale = float(query_D.square().sum() + self._squares_N.max()) if found else 0.0
            if len(positions) == len(self) or worst - _ROUNDING * scale > found[-1][1] ** 2:
                return [(self._ids[position], distance) for position, distance in found]
            fetched *= 4

    def _exact(self, query_D: Float[Tensor, "D"], positions: Sequence[int]) -> list[tuple[int, float]]:
        difference_ND = self._vectors_ND[list(positions)].double() - query_D.double()
        distances = difference_ND.square().sum(dim=1).sqrt().tolist()
        return sorted(zip(positions, distances, strict=True), key=lambda pair: (pair[1], pair[0]))

    def _candidates(self, query_D: Float[Tensor, "D"], count: int) -> tuple[list[int], float]:
        """Positions of about the nearest, and the squared distance of the last of them."""
        if count == 0:
            return [], 0.0
        if self._faiss is not None:
            squared, positions = self._faiss.search(query_D[None].numpy(), count)
            return positions[0].tolist(), float(squared[0, -1])
        squared_N = self._squares_N - 2 * (self._vectors_ND @ query_D) + query_D.square().sum()
        nearest = squared_N.topk(count, largest=False)
        return nearest.indices.tolist(), float(nearest.values[-1])


def _check(ids: Sequence[str], vectors_ND: Tensor) -> None:
    if vectors_ND.ndim != 2 or len(vectors_ND) != len(ids):
        raise DataError(f"{len(ids)} ids and vectors of shape {tuple(vectors_ND.shape)}; accepted: one row per id")
    if len(set(ids)) != len(ids):
        twice = next(i for i in ids if list(ids).count(i) > 1)
        raise DataError(f"id {twice!r} occurs twice; accepted: ids that occur once")
    bad = (~vectors_ND.isfinite().all(dim=1)).nonzero()[:, 0].tolist()
    if bad:
        raise DataError(f"{len(bad)} vectors are not finite (first: {ids[bad[0]]!r}); use another encoder or model")


def _faiss_index(vectors_ND: Float[Tensor, "N D"], *, required: bool) -> Any | None:
    try:
        import faiss
    except ImportError as error:
        if required:
            raise MissingExtra("faiss-cpu", "pairing", "the FAISS neighbour index") from error
        return None
    index = faiss.IndexFlatL2(int(vectors_ND.shape[1]))
    index.add(vectors_ND.numpy())
    return index
