"""SimpleCIL: the head is the mean feature of every class, on a backbone that stays as it is; classes come and go.

Source: Zhou, Ye, Zhan & Liu 2023, "Revisiting Class-Incremental Learning with Pre-Trained Models: Generalizability and
Adaptivity are All You Need", arXiv:2303.07338, its baseline; known from notes on the paper, not from its text.

    y_c(x) = scale · cos( f(x), mu_c ),   mu_c = Σ_{i of class c} f(x_i) / n_c

f is what enters the model's head. Nothing is trained: rows are counted (``companions/class_statistics.py``), and the
head (``models/parts/class_means.py``) is a function of the counts. To unlearn, the rows to forget are given again and
taken off: by example or, with all rows of a class, by class. What comes out has the bits of a head that never saw
them. A backbone that was trained on a row still knows it: exact is the deletion from what was learned in this way.

What is learned first must be every class that is to be known: classes that the old head knew and no row was counted of
are not there any more; give rows of them as ``--replay``.

Departs from the paper: features are rounded to multiples of 2⁻¹⁶, so that sums are exact; the logits have a factor, so
that probabilities mean something; it deletes.
Official code: github.com/zhoudw-zdw/RevisitingCIL; not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import Field
from torch import nn

from palimpsest.companions.class_counting import Counting, check_counting, keep_record, record_after
from palimpsest.contract import Config, ExampleSet, Method, Part
from palimpsest.models.parts import named_buffers_of
from palimpsest.models.parts.class_head import fitted_head, head_place, new_head
from palimpsest.models.parts.class_means import ClassMeans


class SimpleCILConfig(Config):
    """Options of SimpleCIL."""

    scale: float = Field(default=16.0, gt=0)
    """Factor of the cosines; it decides how sure the head is, not what it says."""
    rows_at_once: int = Field(default=1, ge=1)
    """Rows of a forward pass. 1: a deletion gives the bits of never seen; more is faster, and the same but for about
    1e-6."""


class SimpleCIL(Method):
    """Count features by class; the head is their means."""

    Config = SimpleCILConfig
    use_when = (
        "classes come and go on frozen features, and deletion must be exact. "
        "Not where the backbone itself learned the rows, or must adapt to new classes."
    )
    approach = "continual"
    kinds = ("learn", "unlearn", "update")
    needs = ()
    one_of = (("learn", "forget"),)
    uses = ("replay",)
    modalities = ("labels", "image")
    keeps = ("class_statistics",)
    edits = True
    adds_parts = True
    makes_head = True

    def check(self, model: nn.Module) -> None:
        """The statistics beside the model are of its backbone, and of the same features."""
        width = head_place(model)[1].in_features
        check_counting(model, self.companions.get("class_statistics"), self._counting(width))

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A head of means, as wide as the model's own; the one that is there is gone on with."""
        return [new_head(model, ClassMeans, self.config)]

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """Count, and have the means of what is counted now."""
        head = fitted_head(model, ClassMeans)
        how = self._counting(head.config.width)
        record = record_after(model, sets, self.companions.get("class_statistics"), how)
        head.fit(record.mean_CD, record.present_C)
        keep_record(self.recording, record)
        return named_buffers_of(model, head)

    def _counting(self, width: int) -> Counting:
        return Counting("simple_cil", width=width, rows=self.config.rows_at_once)


METHOD = SimpleCIL
