"""LAE: one adapter that goes on learning and its slow average; of each class the larger probability of the two counts.

Source: Gao et al. 2023, "A Unified Continual Learning Framework with General Parameter-Efficient Tuning",
arXiv:2303.10070 (Learning, Accumulation, Ensemble); known from notes on the paper, not from its text.

    L = − mean log softmax( scale · cos(f_on, w) )_y      over the classes of the run's learn set
    off ← decay · off + (1 − decay) · on                  after every step that moves the adapter
    p_c(x) ∝ max( softmax z(f_on)_c, softmax z(f_off)_c )

First the new rows of the head learn alone while the adapter rests, then both. Rows of earlier classes have no part in
the loss and stay to the bit. Adapter and average are the same two parts in every task.

It keeps nothing of the rows, and so deletes nothing by its own means: what one adapter learned of all tasks cannot be
taken apart. Unlearn a version of it with another method (scrub, ug_clu, salun), which moves the model below.

Classes of ``--replay`` that the head does not know yet are taught with the first task; others are left alone.

Departs from the paper: adapters alone, of its three kinds of parts; AdamW; decay 0.99 in place of 0.9999, which is of
runs a hundred times as long; both views read the same rows.
Official code: github.com/gqk/LAE; not read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from pydantic import Field
from torch import nn

from palimpsest.contract import Config, ExampleSet, Method, Part, Phase, Stage, Step, Terms
from palimpsest.data.encode.batch import Batch
from palimpsest.models.parts import parts_of_kind, taken_up
from palimpsest.models.parts.block_adapter import BlockAdapter, BlockAdapterConfig, adapter_places
from palimpsest.models.parts.class_head import fitted_head
from palimpsest.models.parts.larger_of_two import LargerOfTwo
from palimpsest.models.parts.task_teaching import sets_of_task, taught_sets, teach_task, unit_means
from palimpsest.models.parts.views_head import new_views_head
from palimpsest.terms import likelihood

ON = 1
"""View of the adapter that learns."""
OFF = 2
"""View of its average."""


class LAEConfig(Config):
    """Options of LAE."""

    rank: int = Field(default=5, ge=1)
    """Width of the adapter; 5 in the paper."""
    adapter_scale: float = Field(default=1.0, gt=0)
    """Factor of what it adds."""
    blocks: int = Field(default=5, ge=1)
    """Blocks that have one, from the first; 5 in the paper."""
    rests: float = Field(default=0.6, ge=0, lt=1)
    """Share of the run for which the adapter rests and the new rows learn alone; 3 of 5 passes in the paper."""
    decay: float = Field(default=0.99, ge=0, lt=1)
    """What the average keeps at every step; 0.9999 in the paper."""
    at: tuple[str, ...] = ()
    """Modules behind which adapters go; beside the feed-forward network of every block when empty."""
    scale: float = Field(default=16.0, gt=0)
    """Factor of the cosines."""


class LAE(Method):
    """One adapter for all tasks, and its average."""

    Config = LAEConfig
    use_when = (
        "many tasks come to a transformer and the model may not grow. "
        "Not where something must be deleted later: it learns all of it in one adapter."
    )
    approach = "continual"
    kinds = ("learn",)
    needs = ("learn",)
    uses = ("replay",)
    modalities = ("labels", "image")
    defaults = {"learning_rate": 1e-3, "batch_size": 32, "lr_scheduler_type": "cosine"}
    adds_parts = True
    tunes_alone = True
    makes_head = True
    own_schedule = True

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """Adapter, average and head, the earlier ones where there are any; rows of new classes at their means."""
        pair, taught = _pair_of(model), taught_sets(model, sets)
        head = new_views_head(model, LargerOfTwo, self.config, (ON, OFF), {})
        taught = tuple(dict.fromkeys(("learn", *taught)))
        for name in taught:
            means_CD = unit_means(model, sets[name], ON)
            new_C = means_CD.any(dim=-1) & ~head.present_C
            head.class_rows.data[new_C] = means_CD[new_C].to(head.class_rows)
        teach_task(head, sets, taught, ON)
        if pair:
            return [head, *taken_up(model, pair)]
        layers = adapter_places(model, self.config.at)[: self.config.blocks]
        sizes = {"layers": layers, "rank": self.config.rank, "scale": self.config.adapter_scale}
        adapter = BlockAdapter(BlockAdapterConfig(task=ON, **sizes))
        average = BlockAdapter(BlockAdapterConfig(task=OFF, moves=False, **sizes))
        for name, tensor in average.numbers().items():
            tensor.copy_(adapter.numbers()[name].detach())
        return [head, adapter, average]

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Know which classes are there afterwards."""
        head = fitted_head(model, LargerOfTwo)
        self._taught_C, self._taught = head.teaches_C, sets_of_task(head, sets)
        return super().prepare(model, sets)

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """The rows alone, then the adapter with them."""
        passes, rests = self.planned_epochs, self.config.rests
        rows = Stage("rows", "learn", passes * rests, self._phases("rows"), moves=(r"\.class_rows$",))
        both = Stage("both", "learn", passes * (1 - rests), self._phases("both"))
        return (rows, both) if rests else (both,)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Mean negative log-likelihood among the classes of the run."""
        return likelihood(model, batches)

    def update(self, model: nn.Module, phase: Phase, step: Step) -> None:
        """A step; where the adapter moved, the average follows."""
        step()
        if phase.name == "both":
            adapter, average = _pair_of(model)
            with torch.no_grad():
                for name, tensor in average.numbers().items():
                    tensor.lerp_(adapter.numbers()[name], 1 - self.config.decay)

    def finish(self, model: nn.Module) -> nn.Module:
        """Both views answer."""
        head = fitted_head(model, LargerOfTwo)
        head.teach(None)
        if self._taught_C is not None:
            head.present_C |= self._taught_C.to(head.present_C.device)
        return model

    def _phases(self, name: str) -> tuple[Phase, ...]:
        return (Phase(name, self._taught, moves_statistics=False),)


def _pair_of(model: nn.Module) -> tuple[BlockAdapter, ...]:
    """The adapter that learns and its average; nothing before the first run."""
    found = parts_of_kind(model, BlockAdapter)
    return tuple(sorted(found, key=lambda part: part.task))


METHOD = LAE
