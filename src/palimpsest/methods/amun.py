"""AMUN: fine-tuning on the nearest adversarial example of each forget image, under the wrong label it has there.

Source: Ebrahimpour-Boroojeny, Sundaram, Chandrasekaran 2025, "AMUN: Adversarial Machine UNlearning", arXiv:2503.00917,
its abstract, and the description of its released code; not its whole text.

    δ_i = of the smallest radius at which steps within the L2 ball make the model err on x_i;   y'_i = its answer there
    L   = − mean log p(y'_i | x_i + δ_i) − retain_weight · mean log p(retain tokens)
          − forget_weight · mean log p(y_i | x_i)

(x_i + δ_i, y'_i) is what the model says already, so that fitting it changes little elsewhere: only the neighbourhood of
x_i is told otherwise, and the model's confidence at x_i falls to what it has at images that it never saw.

Departs from the paper: its main setting keeps the forget images under their own labels beside the adversarial ones (its
code's "amun", against "advonly"); here forget_weight is 0 unless it is given, since a controlled run is to bring their
accuracy down to unseen images', and they would hold it up. δ is found with 10 steps a radius
(``models/nearest_wrong.py``), 50 there, and is not clipped to the range of a pixel.
Official code: github.com/Ali-E/AMUN, no licence seen: its description was read, nothing copied or run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pydantic import Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from palimpsest.contract import Config, ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.entries import predict_at
from palimpsest.models.nearest_wrong import Moved, nearest_moved, wrong_labels_of
from palimpsest.terms import likelihood


class AMUNConfig(Config):
    """Options of AMUN."""

    retain_weight: float = Field(default=1.0, ge=0)
    """Factor of the loss on the retain set."""
    forget_weight: float = Field(default=0.0, ge=0)
    """Factor of the loss on the forget images themselves, with their own labels; 1 in the paper."""


class AMUN(Method):
    """Descend on adversarial examples with their wrong labels, and on retain."""

    Config = AMUNConfig
    use_when = (
        "a random part of the images must look like images never seen. "
        "Not where time counts: to find the examples takes longer than to learn them."
    )
    approach = "relabelling"
    needs = ("forget", "retain")
    modalities = ("labels", "image")
    defaults = {"learning_rate": 1e-5}

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Find the adversarial examples, at the weights that the run starts from."""
        self._moved: Mapping[str, Moved] = nearest_moved(model, sets["forget"])
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token means of all sides."""
        batch = batches["forget"]
        terms = {"adversarial": Term(self._adversarial(model, batch), of="forget")}
        weights = {"retain": self.config.retain_weight, "forget": self.config.forget_weight}
        return terms | likelihood(model, batches, {name: w for name, w in weights.items() if w or name == "retain"})

    def _adversarial(self, model: nn.Module, batch: Batch) -> Tensor:
        """−log p of the wrong labels at the moved examples, summed."""
        change = pad_sequence([self._moved[i].change for i in batch.ids], batch_first=True)
        said = batch.seen(predict_at(model, batch.bare, change))
        wrong_S = wrong_labels_of({i: self._moved[i].labels_S for i in batch.ids}, batch)
        return -replace(said, target_S=batch.shown(wrong_S)).logp_S.sum()


METHOD = AMUN
