"""Black-box adversarial reprogramming (BAR): a model that can only be asked learns another task by a frame around it.

Source: Tsai, Chen, Ho 2020, "Transfer Learning without Knowing: Reprogramming Black-box Machine Learning Models with
Scarce Data and Limited Resources", ICML 2020; known from notes on the paper, not from its text.

    X~ = image in a frame tanh(W);   h_j = mean of the probabilities of the labels of class j
    L  = − mean_i w_{y_i} (1 − h_{y_i})^gamma log h_{y_i},        w_j ∝ 1/n_j
    W  ← W − η g,   g = mean_{j=1..q} d (L(W + beta u_j) − L(W))/beta · u_j         estimator = zeroth_order
                    g = ∂L/∂W                                                       estimator = exact (white box)

An image of a step costs q + 1 queries. The frame is found in the learn set: what is the same in all images is not the
image. The mapping alone, before any step, is in the notes of the result: it can be most of what there is to gain.

Departs from the paper: W holds the frame alone (``models/parts/program.py``), labels are typical beside the other
classes (``models/parts/label_map.py``), the weights w_j have mean 1 over the learn set, a cosine instead of an
exponential decay of the rate. Where there is no frame the program is added to the whole image.
Official code: github.com/yunyuntsai/Black-box-Adversarial-Reprogramming, no licence; by the notes its released script
takes the exact gradient and mixes the labels of its classes.

Shape legend: B images, N examples, J classes of the task, P programs, D numbers of the program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import ExampleSet, Method, Part, Phase, Term, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.errors import PlanError
from palimpsest.models.modes import in_eval_mode
from palimpsest.models.parts import new_parts_of
from palimpsest.models.parts.label_map import LabelMap, LabelMapConfig, check_room, frequent_groups, random_groups
from palimpsest.models.parts.program import Program
from palimpsest.models.programming import mapped_accuracy, program_for, said_of
from palimpsest.models.zeroth_order import EstimatorConfig, check_estimator, estimated_loss


class BARConfig(EstimatorConfig):
    """Options of BAR; 25 to 55 directions in the paper."""

    gamma: float = Field(default=2.0, ge=0)
    """Of the focal loss; 2 in the paper, 0 gives the cross-entropy."""
    mapping: Literal["frequency", "random"] = "frequency"
    """Which labels stand for a class: "frequency" asks once for every example, "random" asks nothing."""
    labels: int | None = Field(default=None, ge=1)
    """m, labels that stand for one class; None = 10 as in the paper, or as many as there are."""
    frame: bool = True
    """False adds the program to the whole image."""


def focal_loss(
    logp_BJ: Float[Tensor, "B J"], label_B: Int[Tensor, "B"], weight_J: Float[Tensor, "J"], gamma: float
) -> Float[Tensor, "B"]:
    """− w_y (1 − h_y)^gamma log h_y of each example, nats.

    By hand, h_y = 1/2: 2 · (1/2)² · ln 2 = 0.3466.

    >>> focal_loss(torch.tensor([[0.5, 0.1]]).log(), torch.tensor([0]), torch.tensor([2.0, 1.0]), 2.0)
    tensor([0.3466])
    """
    logp_B = logp_BJ.gather(1, label_B[:, None]).squeeze(1)
    return -weight_J[label_B] * (1 - logp_B.exp()).clamp_min(0) ** gamma * logp_B


def inverse_frequency(label_N: Int[Tensor, "N"], classes: int) -> Float[Tensor, "J"]:
    """w_j = N / (J n_j): 1/n_j, with mean 1 over the examples.

    >>> inverse_frequency(torch.tensor([0, 0, 0, 1]), 2)
    tensor([0.6667, 2.0000])
    """
    count_J = torch.bincount(label_N, minlength=classes).clamp_min(1)
    return len(label_N) / (classes * count_J.float())


class BAR(Method):
    """Learn a frame and a map of labels; the model stays as it is."""

    Config = BARConfig
    use_when = "an image classifier is behind an API, for a task of few images. Not where you can train weights."
    approach = "modules"
    kinds = ("learn",)
    needs = ("learn",)
    modalities = ("image",)
    only_asks = True
    adds_parts = True
    own_schedule = True
    defaults = {
        "optimizer": "sgd",
        "learning_rate": 0.3,
        "momentum": 0.0,
        "lr_scheduler_type": "cosine",
        "max_grad_norm": 0.0,
        "batch_size": 20,
        "num_train_epochs": 15.0,
    }

    @classmethod
    def queries(cls, config: BARConfig, steps: int, rows: int, examples: int) -> int:
        """Q + 1 for each image of a step, and once every example for the map."""
        mapping = examples if config.mapping == "frequency" else 0
        return steps * rows * (config.q + 1) + mapping

    def check(self, model: nn.Module) -> None:
        """Refuse the exact gradient of what can only be asked."""
        check_estimator("bar", self.config, model)

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A program of zeros, and the map."""
        learn: Any = sets["learn"]
        program = program_for(learn, framed=self.config.frame, seed=seed)
        classes = int(getattr(model.config, "num_labels", 0))
        wanted = int(learn.label_N.max()) + 1
        each = self.config.labels or max(1, min(10, classes // max(1, wanted)))
        _check_classes(learn.label_N, wanted, check_room(classes, wanted, each))
        if self.config.mapping == "random":
            groups = random_groups(classes, wanted, each, seed)
        else:
            probs_NK = said_of(model, program, learn).softmax(-1)
            groups = frequent_groups(probs_NK, learn.label_N.cpu(), wanted, each)
        return [program, LabelMap(LabelMapConfig(classes=classes, groups=groups))]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Know how frequent the classes are, and how far the map alone goes."""
        learn: Any = sets["learn"]
        self._program, self._map = _own_parts(model)
        self._weight_J = inverse_frequency(learn.label_N.cpu(), len(self._map.config.groups))
        self._step = 0
        self._alone = mapped_accuracy(model, self._program, learn) if self.config.mapping == "frequency" else None
        return super().prepare(model, sets)

    def notes(self) -> Sequence[str]:
        """The baseline that is always beside it."""
        if self._alone is None:
            return ()
        return (f"The mapping of labels alone, without a program, has accuracy {self._alone:.4f} on the learn set.",)

    def phases(self, step: int, planned: int) -> Sequence[Phase]:
        """One, whose directions belong to its step."""
        self._step = step
        return super().phases(step, planned)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """The focal loss, with its gradient or an estimate of it."""
        with in_eval_mode(model):
            if self.config.estimator == "exact":
                total = self._losses(model, batches["learn"], batches["learn"].label_B).sum()  # type: ignore[attr-defined]
            else:
                total = self._estimated(model, batches["learn"])
        return {"learn": Term(total, of="learn", per="example")}

    def _losses(self, model: nn.Module, batch: Any, label_B: Tensor) -> Tensor:
        logp_BK = batch.predict(model).logits_SV
        logp_BJ = logp_BK[:, : len(self._weight_J)]
        return focal_loss(logp_BJ, label_B, self._weight_J.to(logp_BJ.device), self.config.gamma)

    def _estimated(self, model: nn.Module, batch: Any) -> Tensor:
        tries = self.config.q + 1
        many = replace(
            batch,
            ids=batch.ids * tries,
            images_BCHW=batch.images_BCHW.repeat(tries, 1, 1, 1),
            label_B=batch.label_B.repeat(tries),
        )

        def values_at(tried_1PD: Tensor) -> Tensor:
            with self._program.trying(tried_1PD[0]):
                return self._losses(model, many, many.label_B).reshape(tries, -1).double().sum(1)[None]

        key = (self._program.config.seed, self._step)
        return estimated_loss(self._program.program_D, values_at, self.config, [key])


def _check_classes(label_N: Tensor, wanted: int, problems: Sequence[str]) -> None:
    """Refuse a task that the labels of the model cannot stand for."""
    missing = sorted(set(range(wanted)) - set(label_N.tolist()))
    if missing or wanted < 2:
        problems = [
            f"the learn set has no example of class {missing[0] if missing else 1}; accepted: classes 0 to J - 1"
        ]
    if problems:
        raise PlanError(f"method 'bar': {problems[0]}")


def _own_parts(model: nn.Module) -> tuple[Program, LabelMap]:
    """The two that this run made."""
    made = new_parts_of(model)
    program = next(part for part in made if isinstance(part, Program))
    return program, next(part for part in made if isinstance(part, LabelMap))


METHOD = BAR
