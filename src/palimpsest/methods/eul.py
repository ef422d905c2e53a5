"""EUL: small unlearning layers beside a frozen model, fused over requests.

Source: Chen & Yang 2023, "Unlearn What You Want to Forget: Efficient Unlearning for LLMs", EMNLP, sections on the
unlearning layers, the selective teacher-student objective and fusing (equations not numbered in our copy).

    L = − mean KL( F ‖ F_f ) at forget + alpha · mean KL( F ‖ F_f ) at retain
        − lambda · mean log p_f(retain tokens) + gamma · mean log p_f(forget tokens)

F is the model, F_f the model with the layers; F is F_f with them switched off, no copy. Epochs over retain and over
forget take turns, and the last one is over retain. It runs so at its own rate; with control.kind = auto the run looks
for the rate, and takes steps of all three in turn.

Requests in a row: "stack" adds layers behind those of earlier requests, "one" trains on the layers of the earlier one,
and with ``fuse`` each request learns layers of its own with the earlier ones switched off, and then one set of layers
takes the place of all of them: the closed form of ``models/regmean.py`` over Gram matrices, without the data. The Gram
matrices of what was forgotten are taken at the end of each run and kept beside the model (``companions/grams.py``).

A model with an encoder and a decoder has layers in both. The head of a classifier writes no words, so the
language-model term is absent there: forgetting is the divergence alone.

Departs from the paper: a decoder's own loss takes the place of the masked-word loss, of T5 that of its completions.
The divergence is clamped at 4 nats and the language-model loss at 12, position by position, so that what is forgotten
pulls no more. Layers begin as small noise (at zero the divergence has no gradient). Means are over label tokens.
Official code: none for unlearning (the repository has a vendored adapter library).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.grams import record_grams
from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Stage, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.errors import PlanError
from palimpsest.models.divergence import kl_divergence
from palimpsest.models.families import of_model
from palimpsest.models.parts import taken_up
from palimpsest.models.parts.unlearning_layer import Grams, UnlearningLayer, UnlearningLayerConfig, widths_at
from palimpsest.models.parts.unlearning_levels import (
    LayerLevel,
    earlier_levels,
    fused_levels,
    gram_matrices,
    layers_of,
    moments_at,
    put_in_place,
    state_digest,
)
from palimpsest.models.places import ffn_outputs

RETAIN = Phase("retain", ("retain",))
FORGET = Phase("forget", ("forget",))
SETTLE = Phase("settle", ("retain",))


class EULConfig(Config):
    """Options of EUL."""

    form: Literal["linear", "bottleneck", "lora"] = "linear"
    """Of a layer: "linear" and "lora" fold into the model's weights, so that the result is a plain model; "bottleneck"
    has fewer numbers on a wide model and stays beside it."""
    rank: int = Field(default=16, ge=1)
    """Width of a bottleneck, or rank of a low-rank map."""
    noise: float = Field(default=0.005, gt=0)
    """Standard deviation of the last map of a layer at the start; zero would never start."""
    at: tuple[str, ...] = ()
    """Modules after which layers go; all feed-forward networks when empty."""
    alpha: float = Field(default=0.8, ge=0)
    """Factor of the divergence at retain; the paper's value is 0.8."""
    lambda_task: float = Field(default=1.0, ge=0)
    """lambda, factor of the retain set's own loss; the paper's value is 1."""
    gamma: float = Field(default=0.2, ge=0)
    """Factor of the negated language-model loss at forget, which a classifier has not; the paper's value is 0.2."""
    kl_weight: float = Field(default=1.0, ge=0)
    """Factor of the divergence at forget; 1 in the paper, 0 is its ablation."""
    most_kl: float = Field(default=4.0, gt=0)
    """Nats at which the divergence of a forget position is clamped."""
    most_lm: float = Field(default=12.0, gt=0)
    """Nats at which the language-model loss of a forget position is clamped."""
    forget_batch: int = Field(default=8, ge=1)
    """Examples of a forget step; a retain step has the run's batch size."""
    rounds: int = Field(default=4, ge=1)
    """At a fixed rate: how often passes over retain and over forget follow each other; 1 or 2 in the paper."""
    retain_epochs: float = Field(default=0.25, gt=0)
    """At a fixed rate: passes over retain in each round; 1 in the paper."""
    forget_epochs: float = Field(default=1.0, gt=0)
    """At a fixed rate: passes over forget in each round; 1 in the paper, too."""
    last_epochs: float = Field(default=1.2, gt=0)
    """At a fixed rate: passes over retain at the end, at a rate that goes to zero; 1 in the paper."""
    sequence: Literal["stack", "one"] = "stack"
    """After earlier requests: "stack" further layers on theirs, or train on the "one" set of layers that there is."""
    fuse: bool = False
    """After earlier requests: make one set of layers of theirs and the new ones, from Gram matrices that are kept
    beside the model of every request with this option; nothing is folded."""
    ridge: float = Field(default=1e-3, gt=0)
    """Of the fusion, as a share of the mean diagonal of the summed Gram matrix."""


def clamped_sum(values_S: Float[Tensor, "S"], most: float) -> Float[Tensor, ""]:
    """Σ min(v, most): a position beyond ``most`` counts, and pulls no more.

    >>> clamped_sum(torch.tensor([1.0, 9.0]), 4.0).item()
    5.0
    """
    return values_S.clamp(max=most).sum()


class EUL(Method):
    """Layers that disobey the model on forget and obey it on retain."""

    Config = EULConfig
    use_when = (
        "texts must go request by request, each at a tenth of retraining. "
        "Not where the answers to other subjects may not shift at all."
    )
    approach = "modules"
    modalities = ("text", "labels")
    needs = ("forget", "retain")
    reference_sets = frozenset({"forget", "retain"})
    defaults = {"learning_rate": 2e-3, "batch_size": 16}
    adds_parts = True
    keeps = ("grams",)
    own_schedule = True
    repairs_itself = True
    cools = False
    lowest_rate = 1e-4
    _writes = True

    @classmethod
    def leaves_parts(cls, config: Any) -> bool:
        """Layers that fold into the weights are no parts any more."""
        return bool(config.form == "bottleneck" or config.fuse or config.sequence == "one")

    def check(self, model: nn.Module) -> None:
        """There are such places; the layers of earlier requests can be fused with new ones."""
        if self.config.fuse and self.config.sequence == "one":
            raise PlanError("eul.fuse makes one set of layers by itself; leave out sequence = one, or fuse")
        places = [self._layer_at(model, place).at for place in ffn_outputs(model, self.config.at)]
        if self.config.fuse:
            for level in earlier_levels(model, places):
                moments_at(self.companions.get("grams"), level)

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A layer after every feed-forward network, or the layers that are there."""
        if self.config.sequence == "one" and (earlier := layers_of(model)):
            return taken_up(model, earlier)
        places = ffn_outputs(model, self.config.at)
        return [UnlearningLayer(self._layer_at(model, place)) for place in places]

    def _layer_at(self, model: nn.Module, place: str) -> UnlearningLayerConfig:
        inner, width_in, width_out = widths_at(model, place)
        lora = self.config.form == "lora"
        return UnlearningLayerConfig(
            at=inner if lora else place,
            form=self.config.form,
            width_in=width_in if lora else width_out,
            width_out=width_out,
            rank=self.config.rank,
            noise=self.config.noise,
            folds=not self.config.fuse and self.config.sequence == "stack",
        )

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """To be fused, layers are learned with the earlier ones switched off."""
        self._forget = sets["forget"]
        self._writes = not of_model(model).has_classes
        self._start = {id(layer): state_digest(layer) for layer in layers_of(model)}
        if self.config.fuse:
            places = [layer.config.at for layer in layers_of(model) if layer.is_new]
            self._earlier = earlier_levels(model, places)
            self._moments = [moments_at(self.companions.get("grams"), level) for level in self._earlier]
            for layer in (layer for level in self._earlier for layer in level):
                layer.times_off = 1
        return super().prepare(model, sets)

    def finish(self, model: nn.Module) -> nn.Module:
        """Take the Gram matrices of what was forgotten, and fuse; layers that did not move are left alone."""
        if not self.config.fuse:
            return model
        new = [layer for layer in layers_of(model) if layer.is_new]
        moved = any(state_digest(layer) != self._start.get(id(layer)) for layer in new)
        grams = gram_matrices(model, new, self._forget) if moved else {}
        for layer in layers_of(model):
            layer.times_off = 0
        if moved:
            self._keep(self._fused(model, new, grams), grams)
        return model

    def _fused(self, model: nn.Module, new: LayerLevel, grams: Mapping[str, Grams]) -> LayerLevel:
        """The layers that the request is in now: its own, or one set with those of all earlier ones."""
        if not self._earlier:
            return new
        return put_in_place(model, fused_levels([*self._earlier, new], [*self._moments, grams], self.config.ridge))

    def _keep(self, layers: LayerLevel, grams: Mapping[str, Grams]) -> None:
        if self.recording is not None:
            within = {layer.config.at: state_digest(layer) for layer in layers}
            record_grams(self.recording, grams, self._forget.ids, within, fused=bool(self._earlier))

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """Passes over retain and over forget in turn, and a last one over retain; one optimizer for all.

        Under control a step of each of the three is taken in turn: two over retain for one over forget.
        """
        options = self.config
        few = {"batch_size": options.forget_batch}
        retain = Stage("retain", "retain", options.retain_epochs, (RETAIN,), fresh=False)
        forget = Stage("forget", "forget", options.forget_epochs, (FORGET,), training=few, fresh=False)
        last = {"lr_scheduler_type": "linear", "warmup_steps": 0}
        settle = Stage("settle", "retain", options.last_epochs, (SETTLE,), training=last, fresh=False)
        return (*(stage for _ in range(options.rounds) for stage in (retain, forget)), settle)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of the phase's two terms."""
        name = phase.sets[0]
        said = batches[name].predict(model)
        divergence_S = kl_divergence(self.recall(model, batches[name]).logits_SV, said.logits_SV)
        options = self.config
        if name == "retain":
            return {
                "kl_retain": Term(divergence_S.sum(), of="retain", weight=options.alpha),
                "task": Term(-said.logp_S.sum(), of="retain", weight=options.lambda_task),
            }
        kl = Term(clamped_sum(divergence_S, options.most_kl), of="forget", weight=-options.kl_weight)
        if not self._writes:
            return {"kl_forget": kl}
        lm = Term(clamped_sum(-said.logp_S, options.most_lm), of="forget", weight=-options.gamma)
        return {"kl_forget": kl, "lm": lm}


METHOD = EUL
