"""Neurons of the feed-forward networks taken out: what they say becomes zero, always from the weights as they were.

A neuron that says nothing is out for good, whatever excites it. How many of a ranking go is a number that is given, or
the largest that the damage on what must stay lets.

Shape legend: N rows to forget, M of what must stay, K neurons of all layers, one layer after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet
from palimpsest.models.mlp_weights import columns_of, last_layers, movable, weight_of
from palimpsest.rules.damage_budget import BudgetConfig, Damage, largest_count
from palimpsest.terms import Recall

PASSED_OVER = 16


class PruningConfig(BudgetConfig):
    """Options of an edit that ranks neurons and takes the first ones out."""

    contrast: float = Field(default=1.0, ge=0)
    """How much the share of retain rows that have a neuron, too, counts against it; 0 in the paper."""
    neurons: int | None = Field(default=None, ge=1)
    """How many go; None = as many as the budget lets, one that would break it passed over."""
    probe_rows: int = Field(default=64, ge=1)
    """Rows of retain that are looked at, for the contrast and for the damage."""


class PrunedNeurons:
    """The neurons of a model by number: those of the first layer that may move first."""

    def __init__(self, model: nn.Module, who: str) -> None:
        """All of them as they are.

        Args:
            model: with the scope applied.
            who: asks, for the errors.

        Raises:
            PlanError: none of their weights may move, or adapters lie on them.
        """
        layers = last_layers(model, who)
        may_move = movable({layer: weight_of(model.get_submodule(layer)) for layer in layers}, who)
        self.layers = tuple(may_move)
        self._start = {layer: weight.detach().clone() for layer, weight in may_move.items()}
        columns = {layer: isinstance(model.get_submodule(layer), nn.Linear) for layer in may_move}
        self._counts = {layer: weight.shape[1 if columns[layer] else 0] for layer, weight in may_move.items()}

    @property
    def names(self) -> list[str]:
        """Of the weights."""
        return [f"{layer}.weight" for layer in self.layers]

    @torch.no_grad()
    def put(self, model: nn.Module, gone: Sequence[int]) -> None:
        """Take these out, and no other."""
        first = 0
        for layer, start in self._start.items():
            module, count = model.get_submodule(layer), self._counts[layer]
            inside = [number - first for number in gone if first <= number < first + count]
            weight_of(module).copy_(start.masked_fill(columns_of(module, start, inside), 0))
            first += count

    def prune(
        self, model: nn.Module, ranking: Sequence[int], options: PruningConfig, recall: Recall, retain: ExampleSet
    ) -> list[int]:
        """Take out the first of a ranking: so many, or as many as the budget lets.

        Args:
            model: bears the neurons.
            ranking: their numbers.
            options: how many may go.
            recall: what the model before says.
            retain: what must stay.

        Returns:
            Which went, the first of the ranking first.
        """
        damage = Damage(recall, retain, options.probe_rows)
        within = options.neurons is None
        gone = self.prune_within(model, ranking, damage, options.budget) if within else list(ranking[: options.neurons])
        self.put(model, gone)
        return gone

    def prune_within(
        self, model: nn.Module, ranking: Sequence[int], damage: Callable[[nn.Module], float], budget: float
    ) -> list[int]:
        """Take out as much of a ranking as the budget lets; which these are.

        One that would break it is passed over, and those behind it have their turn, so often.
        """
        gone: list[int] = []
        rest = list(ranking)
        for _ in range(PASSED_OVER + 1):
            found = largest_count(partial(self._damage_with, model, damage, gone, rest), budget, len(rest))
            gone, rest = gone + rest[:found], rest[found + 1 :]
        self.put(model, gone)
        return gone

    def told(
        self,
        gone: Sequence[int],
        forget_NK: Float[Tensor, "N K"],
        chosen_NK: Bool[Tensor, "N K"],
        others_MK: Bool[Tensor, "M K"],
    ) -> dict[str, Any]:
        """What an edit says of itself (``Method.explanation``): where each neuron is, and how many rows lean on it.

        Args:
            gone: by number, the first of the ranking first.
            forget_NK: relevance for the forget rows.
            chosen_NK: which neurons each of these rows leans on.
            others_MK: the same of the retain rows that were looked at.
        """
        places = [(layer, neuron) for layer, count in self._counts.items() for neuron in range(count)]
        rows: list[dict[str, Any]] = []
        for rank, number in enumerate(gone, 1):
            layer, neuron = places[number]
            where = {"rank": rank, "neuron": neuron, "layer": layer, "edges": "columns"}
            seen = {"samples": int(chosen_NK[:, number].sum()), "of": len(chosen_NK)}
            seen |= {"others": int(others_MK[:, number].sum()), "of_others": len(others_MK)}
            rows.append({**where, **seen, "relevance": float(forget_NK[:, number].double().mean())})
        return {"set": "forget", "samples": len(forget_NK), "changed": self.names, "neurons": rows}

    def _damage_with(
        self, model: nn.Module, damage: Callable[[nn.Module], float], gone: list[int], rest: list[int], count: int
    ) -> float:
        self.put(model, gone + rest[:count])
        return damage(model)
