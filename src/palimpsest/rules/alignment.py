"""Classifier alignment: after the backbone has moved, the head alone learns features drawn from all classes known.

Source: Zhang et al. 2023, "SLCA: Slow Learner with Classifier Alignment", arXiv:2303.05118; the numbers are those of
a summary of LAMDA-PILOT. The equations are in ``models/class_gaussians.py``.

    L = mean over draws (f, c) of − log softmax(z'(f))_c      z' = evened logits of the classes with a Gaussian

A stage of its own over the learn set, whose rows only say whose turn it is: each stands for so many draws, a
function of seed, step and id, so that a step is the same however it is cut and whenever it is resumed. The classes
that a run learns are estimated when the stage begins, from the backbone that does not move any more.

Departs from the paper: classes take turns among the draws of a pass, so that each has as many as any other but for
one; there the draws of a pass are shuffled.

Shape legend: N rows, B rows of a batch, K draws, C classes, D width of what enters the head.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from palimpsest.contract import Config, ExampleSet, Phase, Stage, Term
from palimpsest.data.draws import random_words
from palimpsest.data.encode.any_set import labels_of
from palimpsest.data.encode.batch import Batch
from palimpsest.models.class_gaussians import GaussianDraws, Gaussians, estimated, evened_logits
from palimpsest.models.head_inputs import current_loss, head_in, head_inputs

ALIGN = "align"  # name of the stage and of its phases


class AlignmentConfig(Config):
    """Options of the alignment."""

    align_epochs: float = Field(default=3.0, ge=0)
    """Passes over as many draws as ``samples`` of each class; the paper's code has 3. 0 leaves the alignment out."""
    samples: int = Field(default=256, ge=1)
    """Draws of a step, and of each class in a pass; the paper's code has 256."""
    temperature: float = Field(default=0.1, gt=0)
    """Of the evened logits; the paper's value is 0.1."""
    ridge: float = Field(default=1e-4, ge=0)
    """Added to the diagonal of every covariance; the paper's code has 1e-4."""
    shrink: float = Field(default=0.1, ge=0, le=1)
    """Share by which the means of early tasks are drawn towards 0; 0.1 in the paper's code."""


class Alignment:
    """The alignment of one run.

    Attributes:
        classes: rows of the head that the run learns, in rising order.
        task: number of the run's own task.
    """

    def __init__(self, options: AlignmentConfig, learn: ExampleSet, known: Gaussians, seed: int) -> None:
        """An alignment that has drawn nothing yet.

        Args:
            options: of the method.
            learn: what the run learns.
            known: classes of earlier runs.
            seed: of the run.
        """
        self._options, self._learn, self._known, self._seed = options, learn, known, seed
        self._label_N = labels_of(learn)
        self._place = {example_id: place for place, example_id in enumerate(learn.ids)}
        self.classes: tuple[int, ...] = tuple(torch.unique(self._label_N).tolist())
        self.task = 1 + max((one.task for one in known.values()), default=-1)
        self._draws: GaussianDraws | None = None

    @property
    def old(self) -> tuple[int, ...]:
        """Classes of earlier runs that this one does not learn again."""
        return tuple(sorted(set(self._known) - set(self.classes)))

    @property
    def rows(self) -> Mapping[int, Sequence[str]]:
        """Class -> ids of its rows."""
        found: dict[int, list[str]] = {label: [] for label in self.classes}
        for example_id, label in zip(self._learn.ids, self._label_N.tolist(), strict=True):
            found[label].append(example_id)
        return found

    def learned(self, model: nn.Module) -> Gaussians:
        """The classes of the run, as the model sees them now."""
        return estimated(head_inputs(model, self._learn), self._label_N, self.task)

    def anew(self) -> None:
        """The backbone has moved, or may have: estimate before the next draw."""
        self._draws = None

    def stages(self, pattern: str) -> tuple[Stage, ...]:
        """The stage of the alignment; none without earlier classes.

        Args:
            pattern: found in the names of the head's weights.
        """
        options, num_rows = self._options, len(self._learn)
        if not self.old or not options.align_epochs:
            return ()
        wanted = options.samples * (len(self.old) + len(self.classes))
        each = self._each
        how = {"batch_size": math.ceil(options.samples / each), "lr_scheduler_type": "cosine"}
        passes = options.align_epochs * wanted / (each * num_rows)
        return (Stage(ALIGN, "learn", passes, training=how, moves=(pattern,)),)

    @property
    def _each(self) -> int:
        """Draws that a row of the learn set stands for."""
        wanted = self._options.samples * (len(self.old) + len(self.classes))
        return math.ceil(wanted / len(self._learn))

    def phases(self, step: int) -> tuple[Phase, ...]:
        """Of a step of the stage, whose number the draws depend on."""
        return (Phase(ALIGN, ("learn",), scale=step),)

    def terms(self, model: Any, batches: Mapping[str, Batch], phase: Phase) -> dict[str, Term]:
        """Of the classes at hand, or in the stage of the alignment of what is drawn from all."""
        if phase.name == ALIGN:
            return {ALIGN: self.loss(model, batches["learn"], phase)}
        said = batches["learn"].predict(model)
        return {"learn": Term(current_loss(said.logits_SV, said.target_S, self.classes), of="learn")}

    def loss(self, model: Any, batch: Batch, phase: Phase) -> Term:
        """Mean over the draws that the rows of a batch stand for."""
        if self._draws is None:
            head = next(head_in(model, ALIGN).module.parameters())
            known = {**self._known, **self.learned(model)}
            self._draws = GaussianDraws(known, ridge=self._options.ridge, shrink=self._options.shrink, like=head)
        which_K, noise_KD = self._drawn(batch.ids, int(phase.scale), self._draws.width)
        features_KD = self._draws(which_K, noise_KD)
        return Term(self._nll(model, features_KD, which_K) / self._each, of="learn", per="example")

    def _drawn(self, ids: Sequence[str], step: int, width: int) -> tuple[Int[Tensor, "K"], Float[Tensor, "K D"]]:
        """Whose turn it is, and the noise: classes in turn over all rows of the set."""
        each, num_classes = self._each, len(self.old) + len(self.classes)
        which = [(self._place[i] * each + number + step) % num_classes for i in ids for number in range(each)]
        noise = [noise_of(self._seed, i, step, each, width) for i in ids]
        return torch.tensor(which), torch.cat(noise)

    def _nll(self, model: Any, features_KD: Tensor, which_K: Tensor) -> Tensor:
        """−Σ log p of the classes drawn, among all that there are Gaussians of."""
        if self._draws is None:
            raise TypeError("nothing was drawn")
        logits_KV = head_in(model, ALIGN).module(features_KD).float()
        logits_KC = logits_KV[:, torch.tensor(self._draws.classes, device=logits_KV.device)]
        evened_KC = evened_logits(logits_KC, self._draws.task_C, self._options.temperature)
        return F.cross_entropy(evened_KC, which_K.to(evened_KC.device), reduction="sum")


def noise_of(seed: int, example_id: str, step: int, count: int, width: int) -> Float[Tensor, "K D"]:
    """Standard normal numbers, a function of the arguments alone; drawn on the CPU.

    >>> bool((noise_of(0, "a", 3, 2, 4) == noise_of(0, "a", 3, 2, 4)).all())
    True
    """
    word = random_words(seed, f"align/{example_id}", step, 1)[0]
    return torch.randn(count, width, generator=torch.Generator().manual_seed(word >> 1), device="cpu")
