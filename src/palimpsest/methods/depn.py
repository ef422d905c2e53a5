"""DEPN: find the privacy neurons by integrated gradients, and take them out.

Source: Wu et al. 2023, "DEPN: Detecting and Editing Privacy Neurons in Pretrained Language Models", EMNLP,
arXiv:2310.20138; its attribution, its ranking by rows and its edit. Stated from memory and from notes.

    Att_k(x) = Σ_t a_tk ∫₀¹ ∂F(α a) / ∂a_tk dα,   F = Σ_t p( y_t | x_<t )         m steps, a layer at a time
    S_x = { k : Att_k(x) ≥ share · max_j Att_j(x) },   rank k by  |{x ∈ D_f : k ∈ S_x}| / |D_f| − contrast · same on D_r
    W[:, k] ← 0 for the first ones, as many as leave  mean KL( p_W₀ ‖ p_W ) ≤ B  on retain

A neuron is a coordinate of what enters a feed-forward network's last matrix W.

On a small model it hardly works by default: few neurons serve one person alone (``llama-stories260k``: 10 neurons of
860 may go, forget ES 1.00 to 0.85 at retain 0.95).

Departs from the paper: F is the sum of the label tokens' probabilities, where the paper has their product (of a long
text that is 0 in fp32); the same ranking on retain is taken off, for what every row needs is no privacy neuron; how
many go is found by the damage they do. ``contrast = 0`` and ``neurons`` have the paper's.
Official code: github.com/flamewei123/DEPN (no licence that we know of); not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Method
from palimpsest.models.neuron_relevance import integrated_gradients
from palimpsest.models.relevance import above_share, ranked_by_count
from palimpsest.rules.damage_budget import probe_of
from palimpsest.rules.pruned_neurons import PrunedNeurons, PruningConfig


class DEPNConfig(PruningConfig):
    """Options of DEPN."""

    steps: int = Field(default=16, ge=1)
    """m: of the integral; the error falls with their square."""
    share: float = Field(default=0.1, gt=0, le=1)
    """Of a row's largest attribution: what a neuron needs to be one of the row's."""


def privacy_neurons(forget_NK: Tensor, retain_MK: Tensor, *, share: float, contrast: float) -> list[int]:
    """The ranking: neurons of many forget rows and of few retain rows first.

    >>> import torch
    >>> forget, retain = torch.tensor([[1.0, 0.5, 0.0], [1.0, 0.0, 0.3]]), torch.tensor([[1.0, 0.0, 0.0]])
    >>> privacy_neurons(forget, retain, share=0.2, contrast=0.0)
    [0, 1, 2]
    >>> privacy_neurons(forget, retain, share=0.2, contrast=1.0)
    [1, 2]
    """
    chosen, against = above_share(forget_NK, share), above_share(retain_MK, share)
    return ranked_by_count(chosen, forget_NK, against, contrast=contrast)


class DEPN(Method):
    """Zero what the privacy neurons say."""

    Config = DEPNConfig
    use_when = (
        "you want to see which neurons hold a secret. "
        "Not where much must go or all else stay: few neurons serve one person alone."
    )
    approach = "editing"
    needs = ("forget", "retain")
    reference_sets = frozenset({"retain"})
    modalities = ("text",)
    edits = True
    edits_matrices = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """There are neurons that may go."""
        PrunedNeurons(model, "depn")
        self._found: dict[str, float] = {}
        self._why: dict[str, Any] = {}
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Attribute, rank, take out."""
        options, pruned = self.config, PrunedNeurons(model, "depn")
        probe = probe_of(sets["retain"], options.probe_rows)
        ids = {"forget": sets["forget"].ids, "retain": probe}
        found = {
            name: integrated_gradients(model, pruned.layers, sets[name], of, steps=options.steps)
            for name, of in ids.items()
        }
        ranking = privacy_neurons(*found.values(), share=options.share, contrast=options.contrast)
        chosen, others = (above_share(one, options.share) for one in found.values())
        gone = pruned.prune(model, ranking, options, self.recall, sets["retain"])
        self._found = {"neurons": float(len(gone)), "ranked": float(len(ranking))}
        self._why = pruned.told(gone, found["forget"], chosen, others)
        return pruned.names

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """How many neurons went, and how many were ranked."""
        return self._found

    def explanation(self) -> Mapping[str, Any]:
        """Which neurons went, and why."""
        return self._why


METHOD = DEPN
