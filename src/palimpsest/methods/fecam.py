"""FeCAM: every class has the mean and the covariance of its features; nothing is trained, and a deletion is exact.

Source: Goswami, Liu, Twardowski & van de Weijer 2023, "FeCAM: Exploiting the Heterogeneity of Class Distributions in
Exemplar-Free Continual Learning", NeurIPS, arXiv:2309.14062; known from notes on the paper and on PILOT's code.

    y_c(x) = − scale · (f̂ − mû_c)ᵀ R_c⁺ (f̂ − mû_c),   R_c = correlation( cov_c + shrinkage · v_c · I )

f is what enters the model's head, f̂ and mû_c have length 1, v_c is the mean variance of the class. Mean and covariance
are functions of sums that rows are added to and taken off (``companions/class_statistics.py``), so that a deletion, by
example or by class, has the bits of a head that never saw the rows. The rest is as in ``simple_cil``.

Departs from the paper: the shrinkage is a multiple of the mean variance of a class (PILOT adds 100, which on features
near 1 makes all classes alike); no power transform, no first adaptation of the backbone; it deletes.
Official code: github.com/dipamgoswami/FeCAM; not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from pydantic import Field
from torch import nn

from palimpsest.companions.class_counting import Counting, check_counting, keep_record, record_after
from palimpsest.contract import Config, ExampleSet, Method, Part
from palimpsest.models.parts import named_buffers_of
from palimpsest.models.parts.class_head import fitted_head, head_place, new_head
from palimpsest.models.parts.gaussian_head import GaussianHead


class FeCAMConfig(Config):
    """Options of FeCAM."""

    shrinkage: float = Field(default=1.0, gt=0)
    """What is added to the variances of a class, in multiples of their mean; more brings classes of few rows nearer to
    a plain distance."""
    scale: float = Field(default=16.0, gt=0)
    """Factor of the distances; it decides how sure the head is, not what it says."""
    rows_at_once: int = Field(default=1, ge=1)
    """Rows of a forward pass. 1: a deletion gives the bits of never seen; more is faster, and the same but for about
    1e-6."""


class FeCAM(Method):
    """Count first and second moments by class; the head is a distance in each class's own metric."""

    Config = FeCAMConfig
    use_when = (
        "as simple_cil, and classes are spread unlike each other. "
        "Not with a few rows a class, or features so wide that a matrix for each class is too much."
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
        """A Gaussian head, as wide as the model's own; the one that is there is gone on with."""
        return [new_head(model, GaussianHead, self.config)]

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """Count, and have the means and covariances of what is counted now."""
        head = fitted_head(model, GaussianHead)
        how = self._counting(head.config.width)
        record = record_after(model, sets, self.companions.get("class_statistics"), how)
        head.fit(record.mean_CD, record.covariance_CDD, record.present_C)
        keep_record(self.recording, record)
        return named_buffers_of(model, head)

    def _counting(self, width: int) -> Counting:
        return Counting("fecam", width=width, moments="class", rows=self.config.rows_at_once)


METHOD = FeCAM
