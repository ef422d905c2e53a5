"""Boundary shrink: each forget example is taught the nearest class it does not belong to.

Source: Chen, Gao, Liu, Peng, Wang 2023, "Boundary Unlearning: Rapid Forgetting of Deep Networks via Shifting the
Decision Boundary", CVPR 2023, its section on boundary shrink; known to us from notes and from public
re-implementations.

    x' = x + ε · sign( ∇_x NLL(x, y) ),   y' = argmax_{c ≠ y} p(c | x')       once, under the model before
    L  = − mean log p(y' of the forget examples)

So the forgotten region goes to the classes on its border, each example to the one that is closest, where
``random_label`` gives it to any. At x itself, not at x'. Of a text each label token has a nearest wrong token, x its
embeddings.

Departs from the paper: ε is the smallest radius at which the model errs (``models/nearest_wrong.py``), where the paper
has one for all. Of single images whose class stays the nearest wrong class is a neighbour all the same. What must stay
is the controlled run's to repair; the paper looks at no retain set.
Official code: named in the paper, not seen by us; OPTML-Group/Unlearn-Saliency (MIT) has one step of 0.1 in pixel
units.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Method, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.nearest_wrong import labels_of, nearest_labels


class BoundaryShrink(Method):
    """Descend on the nearest wrong label of every forget example."""

    use_when = (
        "a class of images must go to the classes beside it. "
        "Not where the answers should look unlearned: it teaches wrong ones, which an attack can see."
    )
    approach = "relabelling"
    needs = ("forget",)
    defaults = {"learning_rate": 1e-5}

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Find the nearest wrong labels, at the weights that the run starts from."""
        self._nearest: Mapping[str, Tensor] = nearest_labels(model, sets["forget"])
        return super().prepare(model, sets)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Token mean."""
        batch = batches["forget"]
        said = batch.predict(model)
        shrunk = replace(said, target_S=batch.shown(labels_of(self._nearest, batch)))
        return {"nearest": Term(-shrunk.logp_S.sum(), of="forget")}


METHOD = BoundaryShrink
