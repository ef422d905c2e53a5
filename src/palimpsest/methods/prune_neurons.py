"""Pruned neurons: those that most rows to forget lean on, by relevance, are taken out.

Source: the ranking of LRA-NPP 2024 (zero-shot class unlearning by relevance analysis and neuron-path perturbation) on
the neurons of a language model's feed-forward networks; ``models/relevance.py`` is what both share.

    R_k(x) = Σ_t a_tk ∂ v_t / ∂a_tk,   v_t the logit of label token t;   T_x = the top neurons by R(x)
    rank k by  |{x ∈ D_f : k ∈ T_x}| / |D_f| − contrast · |{x ∈ D_r : k ∈ T_x}| / |D_r|
    W[:, k] ← 0 for the first ones, as many as leave  mean KL( p_W₀ ‖ p_W ) ≤ B  on retain

Activation times gradient is what the epsilon rule comes down to where all above is taken as linear. A neuron is a
coordinate of what enters a network's last matrix W; disconnected is not erased: what led to it stays.

On a small model it does not work by default: what forget leans on all lean on (``llama-stories260k``, 860 neurons: at
the default budget forget ES 0.95 and retain 0.92; at five times the budget 0.44 and 0.60).

Departs from the paper: the logits of a row's label tokens stand for that of a class; what retain rows lean on as well
is taken off the ranking; how many go is found by the damage they do, where the paper has a number for each network.
Official code: none for language models; github.com/ChangWenhan/LRA-NPP-Unlearning has no licence: not copied.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from torch import nn

from palimpsest.contract import ExampleSet, Method
from palimpsest.models.neuron_relevance import activation_times_gradient
from palimpsest.models.relevance import leaned_on, top_of_each
from palimpsest.rules.damage_budget import probe_of
from palimpsest.rules.pruned_neurons import PrunedNeurons, PruningConfig


class PruneNeuronsConfig(PruningConfig):
    """Options of pruned neurons."""

    top: float = Field(default=0.1, gt=0, le=1)
    """Share of all neurons that count as those a row leans on; about 0.1 to 0.5 of a layer in the paper's networks."""


class PruneNeurons(Method):
    """Zero what the neurons say that forget leans on."""

    Config = PruneNeuronsConfig
    use_when = (
        "you want a list of neurons, and an edit anyone can read. "
        "Not where all else must stay: few neurons serve some rows alone."
    )
    approach = "editing"
    needs = ("forget", "retain")
    reference_sets = frozenset({"retain"})
    modalities = ("text",)
    edits = True
    edits_matrices = True

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """There are neurons that may go."""
        PrunedNeurons(model, "prune_neurons")
        self._found: dict[str, float] = {}
        self._why: dict[str, Any] = {}
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Relevance, ranking, and as many as may go."""
        options, pruned = self.config, PrunedNeurons(model, "prune_neurons")
        probe = probe_of(sets["retain"], options.probe_rows)
        forget_NK = activation_times_gradient(model, pruned.layers, sets["forget"], sets["forget"].ids)
        retain_MK = activation_times_gradient(model, pruned.layers, sets["retain"], probe)
        top = max(1, round(options.top * forget_NK.shape[1]))
        ranking = leaned_on(forget_NK, retain_MK, top=top, contrast=options.contrast)
        gone = pruned.prune(model, ranking, options, self.recall, sets["retain"])
        self._found = {"neurons": float(len(gone)), "ranked": float(len(ranking))}
        self._why = pruned.told(gone, forget_NK, top_of_each(forget_NK, top), top_of_each(retain_MK, top))
        return pruned.names

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """How many neurons went, and how many were ranked."""
        return self._found

    def explanation(self) -> Mapping[str, Any]:
        """Which neurons went, and why."""
        return self._why


METHOD = PruneNeurons
