"""LRA-NPP: a class is forgotten by cutting the neurons that speak for it, found on samples the model never learned.

Source: LRA-NPP 2024, zero-shot class unlearning by relevance analysis and neuron-path perturbation, steps 1 to 4.

    R_n(x) = ã_n w̃_cn s(x)      epsilon rule at the head's input: one logit c that starts with its own value z_c,
                                 s = z_c / ( z̃_c + eps sign z̃_c ),  w̃ = w (epsilon) or w + γ max(w, 0) (gamma)
    T_x    = the k_a neurons of largest R(x);   rank n by |{x : n ∈ T_x}|
    W[c, n] ← 0  for n in P, the first k_p of the ranking (cut = head);   columns: W[:, n] ← 0;
                 path: also the row n, and its bias, of the layer that makes the neuron

No step is taken: the samples are looked at once. Those are the set ``unseen`` where it is given, else the forget set,
whose rows need not have been learned. A class is what is right at their scored positions; of texts each token that
no retain row has is one (the rows of the vocabulary that say a phrase).

Disconnected is not erased: features that told the class still do (the linear probe in the report). In a residual net a
neuron that enters the head goes on having what the skip brings it, so ``path`` cuts the last branch alone.

Departs from the paper: relevance starts from the class that must go, not from the one predicted (``source``); k_p is
found, as few as the class needs to be gone and none that costs the others (``models/neuron_path.py``), where the paper
has a number for each network; the gamma rule is that of Montavon et al. 2019.
Official code: github.com/ChangWenhan/LRA-NPP-Unlearning, no licence: not copied; known from notes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Method
from palimpsest.data.draws import shuffled
from palimpsest.errors import NothingToEdit
from palimpsest.in_words import so_many
from palimpsest.models.class_samples import Entered, entered, labels_to_go, samples_of, targets_of, thinned
from palimpsest.models.head_edit import HeadPlace, Noise, check_may_move, disturb, head_of, layer_before
from palimpsest.models.neuron_cut import Cut, cut_entries, least_cut
from palimpsest.models.neuron_path import LinearHead, ranked_for, ranked_rows
from palimpsest.models.relevance import logit_relevance

WHO = "lra_npp"


class LRANPPConfig(Config):
    """Options of LRA-NPP; none needs to be given."""

    cut: Literal["auto", "head", "columns", "path"] = "auto"
    """Edges to the class alone (head), to all classes (columns), or also what makes the neurons (path: rows, biases).
    auto = head where that is enough for the samples, else columns, as with few classes that oppose each other."""
    rule: Literal["epsilon", "gamma"] = "epsilon"
    """Of relevance."""
    relevance: Literal["signed", "absolute"] = "signed"
    """Is a neuron that speaks against the class of no relevance, or of as much?"""
    source: Literal["forgotten", "predicted"] = "forgotten"
    """Where relevance starts: the class that must go, or what is said of the sample (the reference code)."""
    ranking: Literal["relevance", "random"] = "relevance"
    """Random = the control: as many neurons, drawn at random."""
    noise: Noise = "none"
    """Controls: noise of size 1 is added to what would be set to 0."""
    bias: Literal["kept", "lowest"] = "kept"
    """Of the class in the head: as it is (the paper), or as low as that of any class, so that it leaves no floor."""
    k_a: float = Field(default=0.1, gt=0, le=1)
    """Share of the neurons that a sample counts as those it leans on; 0.04 to 0.1 in the paper, 0.52 of ViT."""
    k_p: float | None = Field(default=None, gt=0, le=1)
    """Share that goes; None = as few as the class needs to be gone. 0.1 to 0.2 in the paper, 0.65 of ViT."""
    cost: float = Field(default=0.02, ge=0, le=1)
    """Share of retain rows that may be called something else for it, where k_p is found."""
    epsilon: float = Field(default=0.1, gt=0)
    """Of the rule."""
    gamma: float = Field(default=0.1, ge=0)
    """Of the gamma rule."""
    probe_rows: int = Field(default=512, ge=1)
    """Rows of retain that are looked at."""
    seed: int = Field(default=0, ge=0)
    """Of the controls."""


def relevance_for(looked: Entered, head: LinearHead, options: LRANPPConfig) -> Float[Tensor, "N K"]:
    """Of each neuron for each sample."""
    starts_N = head(looked.a_SK).argmax(1) if options.source == "predicted" else looked.target_S
    gamma = options.gamma if options.rule == "gamma" else 0.0
    how = {"epsilon": options.epsilon, "gamma": gamma}
    relevance_NK = logit_relevance(looked.a_SK, head.weight_CK[starts_N], head.bias_C[starts_N], **how)
    return relevance_NK.abs() if options.relevance == "absolute" else relevance_NK


def cut_of(
    looked: Entered, kept: Entered | None, head: LinearHead, relevance_NK: Float[Tensor, "N K"], options: LRANPPConfig
) -> Cut:
    """What goes of a class: a given share, or as few as it needs to be gone.

    Args:
        looked: the samples of the class.
        kept: of what must stay; None = it is not looked at.
        head: as it is, its bias as it will be.
        relevance_NK: for the samples.
        options: of the method.
    """
    ranking, width = ranked_for(relevance_NK, neurons_in(options.k_a, head)), head.weight_CK.shape[1]
    edges = ("head", "columns") if options.cut == "auto" else (options.cut,)
    if options.k_p is not None:
        found = Cut(ranking[: neurons_in(options.k_p, head)], edges[0])
    else:
        found = least_cut(ranking, edges, (looked, kept), head, options.cost)
    if options.ranking == "random":
        drawn = torch.randperm(width, generator=torch.Generator().manual_seed(options.seed))
        return found._replace(neurons=drawn[: len(found.neurons)].tolist())
    return found


def neurons_in(share: float, head: LinearHead) -> int:
    """So many are a share of those that enter a head; at least one."""
    return max(1, round(share * head.weight_CK.shape[1]))


def _why_nothing(looked: Entered, head: LinearHead, source: str, cost: float) -> str:
    """No edge is to be cut: the class is not said, or every edge is needed by others."""
    count = so_many(len(looked.target_S), "sample")
    if not bool((head(looked.a_SK).argmax(1) == looked.target_S).any()):
        return (
            f"{WHO}: the model calls none of {count} of the {source} set by its class, so that there is nothing to "
            "cut; accepted: a class that the model knows"
        )
    return (
        f"{WHO}: each edge by which {count} of the {source} set are called so is needed by more than {cost:.0%} of the "
        "retain rows; accepted: a higher lra_npp.cost, or a share to cut, lra_npp.k_p"
    )


class LRANPP(Method):
    """Cut the edges by which a class is said, once."""

    Config = LRANPPConfig
    use_when = (
        "a class must go at once, from samples the model never saw. "
        "Not where it must be erased: its features stay, and a probe finds them."
    )
    approach = "editing"
    needs = ("forget",)
    uses = ("retain", "unseen")
    looks_only = True
    edits = True

    def check(self, model: nn.Module) -> None:
        """There is a head to cut."""
        head_of(model, WHO)

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """The head may move."""
        check_may_move(model, [f"{head_of(model, WHO).name}.weight"], WHO)
        self._found: dict[str, float] = {}
        self._why: dict[str, Any] = {}
        return super().prepare(model, sets)

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> list[str]:
        """Relevance, ranking, path, and the cut of every class that must go."""
        options, head = self.config, head_of(model, WHO)
        labels = labels_to_go(*(targets_of(sets[name]) if name in sets else () for name in ("forget", "retain")))
        source = "unseen" if "unseen" in sets else "forget"
        looked = entered(model, head.module, sets[source], sets[source].ids)
        kept = self._kept(model, head, sets)
        numbers = head.numbers
        if options.bias == "lowest":
            numbers.bias_C[labels] = numbers.bias_C.min()
        cuts: dict[int, Cut] = {}
        rows: list[dict[str, Any]] = []
        for label, of_class in samples_of(looked, labels, source).items():
            found_NK = relevance_for(of_class, numbers, options)
            cuts[label] = cut_of(of_class, kept, numbers, found_NK, options)
            rows += ranked_rows(label, *cuts[label], found_NK, top=neurons_in(options.k_a, numbers))
        if not rows and options.bias == "kept":
            raise NothingToEdit(_why_nothing(looked, numbers, source, options.cost))
        names = self._cut(model, head, cuts, sets[source])
        self._found = {"neurons": float(len(rows)), "of": float(head.module.in_features), "classes": float(len(cuts))}
        facts = {"samples": len(sets[source]), "without_samples": len(labels) - len(cuts)}
        self._why = {"set": source, **facts, "changed": names, "neurons": rows}
        return names

    def _kept(self, model: nn.Module, head: HeadPlace, sets: Mapping[str, ExampleSet]) -> Entered | None:
        """What enters the head for some of what must stay; nothing where how many go is given."""
        if "retain" not in sets or self.config.k_p is not None:
            return None
        ids = shuffled(sets["retain"].ids, 0, "lra_npp", 0)[: self.config.probe_rows]
        return thinned(entered(model, head.module, sets["retain"], ids))

    def _cut(self, model: nn.Module, head: HeadPlace, cuts: Mapping[int, Cut], examples: ExampleSet) -> list[str]:
        """Set to 0, or disturb, what the options say; the names of what changed."""
        options, generator = self.config, torch.Generator().manual_seed(self.config.seed)
        makers = [layer_before(model, head, examples, WHO)] if options.cut == "path" else []
        tensors = dict(model.named_parameters(remove_duplicate=False))
        places = [f"{head.name}.weight", *(f"{m}.{kind}" for m in makers for kind in ("weight", "bias"))]
        names = [name for name in places if name in tensors]
        check_may_move(model, names, WHO)
        for name in names:
            where = cut_entries(cuts, tensors[name].shape, of_head=name == names[0])
            disturb(tensors[name], where, options.noise, generator)
        if options.bias == "lowest" and head.module.bias is not None:
            check_may_move(model, [f"{head.name}.bias"], WHO)
            with torch.no_grad():
                head.module.bias[list(cuts)] = head.module.bias.min()
            names.append(f"{head.name}.bias")
        return names

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """How many neurons went, of how many, for how many classes."""
        return self._found

    def explanation(self) -> Mapping[str, Any]:
        """Which neurons went, and why."""
        return self._why


METHOD = LRANPP
