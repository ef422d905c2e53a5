"""iCaRL: learn beside a memory, held by the model before; the class whose exemplars lie nearest on average is said.

Source: Rebuffi, Kolesnikov, Sperl & Lampert 2017, "iCaRL: Incremental Classifier and Representation Learning",
arXiv:1611.07725; known from notes on the paper and on PILOT's version, whose loss this is.

    L = Σ_set w_set · ( − mean log p(class) + lambda_kd · mean KL( p_before^(1/T) ‖ p^(1/T) over the old classes ) )
    y_c(x) = scale · cos( f(x), mu_c ),   mu_c = Σ_{i exemplar of c} f(x_i)/‖f(x_i)‖ / n_c

Sets: learn (w = 1) and replay (memory_weight). f is what enters the model's own head, which is trained and then
answers no more (``models/parts/class_means.py``). Exemplars are the replay rows, and of each class to learn
``per_class`` herded rows (``models/herding.py``). All weights move, so that means are made anew of the exemplars at the
end of every run: a class that is known needs rows in ``--replay``.

To unlearn, the rows to forget are given again. Those that are exemplars are taken off the sums
(``companions/class_statistics.py``): the means have the bits of the same exemplars without them, and a class without
exemplars is not said, nor taught on, any more. What remains: the backbone saw the rows, whoever is an exemplar. Where
they are to go from it, too, unlearn with another method (scrub, ug_clu, salun; scope.kind = all).

Departs from the paper: cross-entropy and softened divergence in place of sigmoids, as PILOT has it; what is rehearsed
is what is given as ``--replay``, and herding decides the means alone; means are not brought to length 1, which the
cosine does; features are rounded to multiples of 2⁻¹⁶; it deletes.
Official code: github.com/srebuffi/iCaRL; not read.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from palimpsest.companions.class_counting import Counting, keep_record, record_after, start_of_counting
from palimpsest.companions.class_statistics import ClassRecord
from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Stage, Term, Terms
from palimpsest.data.encode.batch import Batch, predict_together
from palimpsest.errors import DataError, PlanError
from palimpsest.in_words import so_many
from palimpsest.models.class_features import SeenRows, content_digest_of, seen_rows
from palimpsest.models.divergence import kl_divergence
from palimpsest.models.herding import herded
from palimpsest.models.parts import named_buffers_of
from palimpsest.models.parts.backbone_growth import classes_of_sets
from palimpsest.models.parts.class_head import fitted_head, new_head
from palimpsest.models.parts.class_means import ClassMeans


class ICaRLConfig(Config):
    """Options of iCaRL."""

    per_class: int = Field(default=20, ge=1)
    """Exemplars of a class that is learned; 2000 of all classes together in the paper."""
    lambda_kd: float = Field(default=1.0, ge=0)
    """Factor of the distillation of the model before."""
    temperature: float = Field(default=2.0, gt=0)
    """T of the distillation; 2 in PILOT."""
    memory_weight: float = Field(default=1.0, ge=0)
    """Factor of the losses on the memory."""
    scale: float = Field(default=16.0, gt=0)
    """Factor of the cosines; it decides how sure the head is, not what it says."""
    rows_at_once: int = Field(default=1, ge=1)
    """Rows of a forward pass when exemplars are counted. 1: a deletion is exact to the bit; more is faster."""


def exemplars_of(seen: SeenRows, per_class: int) -> list[int]:
    """Places of the herded rows of every class, class by class.

    Args:
        seen: rows with their features.
        per_class: rows of a class, at most.
    """
    chosen: list[int] = []
    for label in sorted(set(seen.label_N.tolist())):
        own = (seen.label_N == label).nonzero()[:, 0]
        chosen += own[herded(seen.features_NM[own], per_class)].tolist()
    return chosen


def counted_rows(record: ClassRecord, seen: SeenRows, places: Sequence[int]) -> ClassRecord:
    """Statistics with those of some rows that are not in them yet."""
    new = [n for n in places if not record.knows(seen.ids[n], seen.contents[n])]
    ids, contents = (tuple(marks[n] for n in new) for marks in (seen.ids, seen.contents))
    return record.add(SeenRows(ids, contents, seen.label_N[new], seen.features_NM[new]))


def _of_length_one(entering: Tensor) -> Tensor:
    return F.normalize(entering, dim=-1)


class ICaRL(Method):
    """Train with a memory, then answer by the means of the exemplars."""

    Config = ICaRLConfig
    use_when = (
        "the backbone must adapt to new classes and some old rows were kept. "
        "Not without them (--replay): an old class is known by its exemplars."
    )
    approach = "continual"
    kinds = ("learn", "unlearn")
    needs = ()
    one_of = (("learn", "forget"),)
    uses = ("replay",)
    modalities = ("labels", "image")
    reference_sets = frozenset({"learn", "replay"})
    defaults = {"learning_rate": 1e-3, "batch_size": 32, "lr_scheduler_type": "cosine"}
    keeps = ("class_statistics",)
    edits = True
    adds_parts = True
    makes_head = True
    moves_all = True

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """A head of means, as wide as the model's own, silent until it is fitted; the one there is is gone on with."""
        head = new_head(model, ClassMeans, self.config)
        head.alpha = 0.0 if "learn" in sets else 1.0
        return [head]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Which classes are known: at these the model's own head is held, which is what is trained."""
        super().prepare(model, sets)
        self._given: Mapping[str, Any] = sets
        self._exemplars, head = 0, fitted_head(model, ClassMeans)
        if "learn" in sets:
            self._known = self._known_classes(model, head)
        return model

    def _known_classes(self, model: nn.Module, head: ClassMeans) -> list[int]:
        """Of the head that is there; of the memory where there is none yet."""
        replayed = classes_of_sets(self._given, ("replay",))
        if not head.continues:
            return list(replayed)
        known = head.present_C.nonzero()[:, 0].tolist()
        lost = [c for c in known if c not in {*replayed, *classes_of_sets(self._given, ("learn",))}]
        if lost:
            name = getattr(model.config, "id2label", {}).get(lost[0], lost[0])
            raise PlanError(
                f"icarl: {len(lost)} of {len(known)} known classes would be lost, first {name!r}: the backbone "
                "moves, and no row is there to make their means anew; give rows of them as --replay"
            )
        return known

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """Rows are taken off; a run that learns has the means of what it begins with."""
        head = fitted_head(model, ClassMeans)
        self._fit(head, self._counted(model) if "learn" in sets else self._without(model))
        return named_buffers_of(model, head)

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """Training, unless it unlearns."""
        drawn = tuple(name for name in ("learn", "replay") if name in sizes)
        return (Stage("learn", "learn", phases=(Phase("joint", drawn),)),) if "learn" in drawn else ()

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Both terms of every set."""
        terms: dict[str, Term] = {}
        for name, said in predict_together(model, batches).items():
            weight = 1.0 if name == "learn" else self.config.memory_weight
            terms[name] = Term(-said.logp_S.sum(), of=name, weight=weight)
            if self._known:
                before_SV = self.recall(model, batches[name]).logits_SV
                soft = [one[:, self._known].float() / self.config.temperature for one in (before_SV, said.logits_SV)]
                terms[f"{name}_kd"] = Term(kl_divergence(*soft).sum(), of=name, weight=weight * self.config.lambda_kd)
        return terms

    def finish(self, model: nn.Module) -> nn.Module:
        """Means of the exemplars as the trained model sees them."""
        if "learn" in self._given:
            head = fitted_head(model, ClassMeans)
            self._fit(head, self._counted(model))
            head.alpha = 1.0
        return model

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """How many rows the means are of."""
        return {"exemplars": float(self._exemplars)}

    def _fit(self, head: ClassMeans, record: ClassRecord) -> None:
        self._exemplars = len(record.rows)
        head.fit(record.mean_CD, record.present_C)
        keep_record(self.recording, record)

    def _counting(self, model: nn.Module) -> Counting:
        width, rows = fitted_head(model, ClassMeans).config.width, self.config.rows_at_once
        return Counting("icarl", width, rows=rows, space="of length 1", making=_of_length_one)

    def _counted(self, model: nn.Module) -> ClassRecord:
        """Of all exemplars, anew."""
        how = self._counting(model)
        record = start_of_counting(model, None, how)
        for name in ("replay", "learn"):
            if name in self._given:
                rows = self._given[name]
                seen = seen_rows(model, rows, rows.ids, rows=how.rows, making=how.making)
                every = range(len(seen.ids))
                record = counted_rows(
                    record, seen, every if name == "replay" else exemplars_of(seen, self.config.per_class)
                )
        return record

    def _without(self, model: nn.Module) -> ClassRecord:
        """Those that are kept, without the rows to forget."""
        how, rows, there = self._counting(model), self._given["forget"], self.companions.get("class_statistics")
        record = start_of_counting(model, there, how, forgets=True)
        own = [i for i in rows.ids if record.knows(i, content_digest_of(rows, i))]
        if not own:
            raise DataError(
                f"icarl: none of {so_many(len(rows), 'row')} to delete is an exemplar, so that no mean has them; the "
                "backbone that saw them is changed by other methods: scrub, ug_clu, salun"
            )
        return record_after(model, {"forget": rows.subset(own)}, there, how)


METHOD = ICaRL
