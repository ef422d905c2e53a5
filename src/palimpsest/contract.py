"""What a method must provide, and what it is given. The loop, the CLI and the batteries know methods only through this.

A method declares the sets it draws from and returns named terms; the loop owns the optimizer, devices, batches,
accumulation and checkpoints. Terms carry *sums*: the loop divides by the count over the whole step, so a result does
not depend on how a step is cut into micro-batches or spread over processes (but where batch normalisation looks at one
micro-batch at a time).

One iteration of the loop:

    for phase in phases(step, planned):      which sets, how strongly, with which ids
        loss -> gradients                    summed over the micro-batches
        transform                            masks and projections, in place; the method's, then those of the rules
        clip
        update                               one optimizer step, or what the method makes of it, within the rules
    diagnostics                              into the log; state() into the checkpoint

A run is one stage of such iterations, or the stages that the method names, one after the other. A method that edits
does its work in ``edit``, once, before the first of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from palimpsest.companions.companion import Companion
from palimpsest.data.encode.batch import Batch, ExampleSet, Predictions
from palimpsest.method_card import Approach, Config, Kind, Modality
from palimpsest.models.parts.part import Part
from palimpsest.models.reference import DeepReference, Reference
from palimpsest.phases import Per, Phase, Stage, Term, Terms

if TYPE_CHECKING:
    from palimpsest.rules.rule import Rule


__all__ = [
    "Aim", "Config", "ExampleSet", "Method", "Part", "Per", "Phase", "Reference", "Sight", "Stage", "Step", "Term",
    "Terms",
]  # fmt: skip


@runtime_checkable
class Step(Protocol):
    """Calling it takes one step of the run's optimizer by the gradients at hand."""

    @property
    def terms(self) -> Mapping[str, float]:
        """The means of this step's terms, before their weights; of a phase without sets none."""

    def __call__(self) -> None:
        """One step, with the momentum, the moments and the weight decay of the run."""

    def own(self, model: nn.Module, memory: MutableMapping[str, Tensor]) -> None:
        """A step with a momentum of its own, leaving the optimizer's as it is (rules/own_step.py)."""


class Sight(Protocol):
    """What an aim read of a model."""

    @property
    def reached(self) -> bool:
        """Is what is to be forgotten at its level of never seen?"""

    @property
    def known(self) -> float:
        """Share of it that is right."""


@runtime_checkable
class Aim(Protocol):
    """Where an edit should end; calling it reads a model, which takes forward passes and no step."""

    @property
    def known(self) -> float:
        """The level, in the measure of what is read."""

    def __call__(self, model: nn.Module) -> Sight:
        """Read a model as it is now; the same rows each time."""


class Method:
    """One published way to learn, unlearn or both. Subclass it in ``methods/<name>.py`` and set ``METHOD``.

    Class attributes:
        Config: its options (``Config`` in ``method_card.py``, which reads what a method is in its file without running
            it, so write these attributes as plain values).
        use_when: one sentence for who chooses: what it is good for, and what it is not.
        approach: how it works, in one word of ``method_card.Approach``; the map of methods is grouped by it.
        kinds: what it does: "learn", "unlearn", "update" (both in one run).
        needs: sets it cannot work without.
        one_of: groups of sets, of each of which at least one must be given.
        uses: further sets it draws from when they are given.
        instead: set of ``uses`` -> the derived set that a run makes where the user gave none and the model allows it.
        reference_sets: sets on which it may ask the reference model; empty when it needs none.
        paired: set -> anchor set whose examples it pairs by id, e.g. {"analogous": "forget"}.
        modalities: kinds of models that it is for (decision 0017), of those that its derived sets can be made for.
        by_id: sets that it draws from only to know whose turn it is; its loss does not look at their rows.
        defaults: training options that differ from the general defaults, e.g. {"learning_rate": 1e-5}.
        options_for_images: options whose default is another where a controlled run changes an image classifier.
        starts_from: "model" (the model given) or "base" (the model before it learned anything, as retraining does).
        isolates: what is learned for a time is learned in a copy of the model and forgotten with it, by its owner.
        cycle_option: the option that says how many iterations belong together; "" where each stands by itself.
        reads: kinds of history beside the model that it cannot work without (``companions/``).
        keeps: kinds that a run of it goes on writing, whether the plan asks for them or not.
        looks_only: it looks at its forget rows and takes no step on them, so they need not have been learned.
        edits: its work is ``edit``; it takes no steps but those of the ``stages`` it names.
        goes_to_level: its edit is told where to end (``aim``), where the rows of the run show it.
        edits_matrices: what it edits are the model's own matrices, which an adapter's run leaves alone.
        yardstick: it is there to be compared with: a control, or the gold standard.
        adds_parts: its ``parts`` adds modules to the model, and nothing else moves (but see ``moves_all``).
        sharded: each row is learned by one of several adapters, slice by slice; ``engine/sharded`` cuts the rows, takes
            the method over each slice and makes the ensemble, and unlearns by learning what comes after a row anew.
        moves_all: beside the parts that it adds all weights move, too, unless the plan says otherwise.
        makes_head: among its parts is a class head, which takes the place of one that is there.
        tunes_alone: it tunes parts that answer for the model together with no tuned parts of another such method.
        needs_part: kind of part that the model must bear already; "" = none.
        only_asks: it can do without gradients through the model, and so with one that can only be asked.
        reads_prefixes: prompt and answer must be one row of tokens: not for an encoder with a decoder.
        repairs_itself: its own phases bring back what must stay, so that a controlled run adds repair only when needed.
        own_schedule: it runs at its own rate and length unless told to find them (control.kind = auto).
        cools: a controlled run anneals repair before it believes what it reads; False reads first, anneals at need.
        lowest_rate: at which a controlled run begins to look for its rate; higher where parameters begin near zero.
    """

    Config: ClassVar[type[BaseModel]] = Config
    use_when: ClassVar[str] = ""
    approach: ClassVar[Approach] = "ascent"
    kinds: ClassVar[tuple[Kind, ...]] = ("unlearn",)
    needs: ClassVar[tuple[str, ...]] = ("forget",)
    one_of: ClassVar[tuple[tuple[str, ...], ...]] = ()
    uses: ClassVar[tuple[str, ...]] = ()
    instead: ClassVar[Mapping[str, str]] = {}
    reference_sets: ClassVar[frozenset[str]] = frozenset()
    paired: ClassVar[Mapping[str, str]] = {}
    modalities: ClassVar[tuple[Modality, ...]] = ("text", "labels", "image")
    by_id: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[Mapping[str, Any]] = {}
    options_for_images: ClassVar[Mapping[str, Any]] = {}
    starts_from: ClassVar[Literal["model", "base"]] = "model"
    isolates: ClassVar[bool] = False
    repairs_itself: ClassVar[bool] = False
    own_schedule: ClassVar[bool] = False
    cools: ClassVar[bool] = True
    lowest_rate: ClassVar[float] = 1e-6
    cycle_option: ClassVar[str] = ""
    reads: ClassVar[tuple[str, ...]] = ()
    keeps: ClassVar[tuple[str, ...]] = ()
    looks_only: ClassVar[bool] = False
    edits: ClassVar[bool] = False
    goes_to_level: ClassVar[bool] = False
    edits_matrices: ClassVar[bool] = False
    yardstick: ClassVar[bool] = False
    adds_parts: ClassVar[bool] = False
    sharded: ClassVar[bool] = False
    moves_all: ClassVar[bool] = False
    makes_head: ClassVar[bool] = False
    tunes_alone: ClassVar[bool] = False
    needs_part: ClassVar[str] = ""
    reads_prefixes: ClassVar[bool] = False
    only_asks: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Whether a method adds parts is asked of its file, where nothing can be run."""
        if cls.parts is not Method.parts and not cls.adds_parts:
            raise TypeError(f"{cls.__name__} defines parts; set adds_parts = True beside them")

    def __init__(self, config: Any, reference: Reference | None = None) -> None:
        self.config = config
        self.reference = reference
        self.planned_epochs = 10.0  # passes over an anchor that the run plans; the loop sets it before ``stages``
        self.companions: Mapping[str, Companion] = {}  # of the version it starts from: ``reads``, ``keeps`` if any
        self.subjects: Mapping[str, str] = {}  # id -> subject, of the run's rows that have one
        self.aim: Aim | None = None  # of one that ``goes_to_level``; None where nothing shows the level, or what stays
        self.recording: Path | None = None  # folder in that of the run, for what ``finish`` gives to ``keeps``

    @property
    def cycle(self) -> int:
        """Iterations that belong together, after which the weights are what they should be."""
        return int(getattr(self.config, self.cycle_option)) if self.cycle_option else 1

    @classmethod
    def asks_reference_on(cls, config: Any) -> frozenset[str]:
        """Sets on which a run with these options asks the reference; default: all of ``reference_sets``."""
        return cls.reference_sets

    @classmethod
    def asks_outputs_of(cls, config: Any, model: nn.Module) -> tuple[str, ...]:
        """Modules of a model, by name, whose outputs the reference remembers for ``recall_at``; default: none."""
        return ()

    @classmethod
    def draws_from(cls, given: Collection[str]) -> tuple[str, ...]:
        """The given sets that it draws from; the first one is the anchor, whose passes are the epochs."""
        groups = [name for group in cls.one_of for name in group]
        named = (*cls.needs, *groups, *cls.uses, *cls.instead.values())
        return tuple(dict.fromkeys(name for name in named if name in given))

    @classmethod
    def leaves_parts(cls, config: Any) -> bool:
        """Does a run with these options leave parts beside the model? Default: if it adds any."""
        return cls.adds_parts

    def check(self, model: nn.Module) -> None:
        """Refuse options that this model cannot be run with, before anything is measured; ``companions`` are there."""

    def check_rows(self, sets: Mapping[str, ExampleSet]) -> None:
        """Refuse rows that it can do nothing with, before anything is measured; default: none.

        Args:
            sets: the given ones, and of those that a run makes the ones made of rows alone.
        """

    @classmethod
    def queries(cls, config: Any, steps: int, rows: int, examples: int) -> int:
        """Questions to an endpoint of so many steps of so many rows, and of all examples once; default: none."""
        return 0

    def notes(self) -> Sequence[str]:
        """What a reader of the result should know of the run, told once it is prepared; default: nothing."""
        return ()

    def parts(self, model: nn.Module, sets: Mapping[str, ExampleSet], seed: int) -> Sequence[Part]:
        """Modules to add to the model (models/parts/), each at a named place; default: none.

        Asked at the start of a run and before a resume, at the weights that it starts from, before scope and reference;
        torch's generator is seeded, so that they are a function of plan and seed. They alone move (scope.kind = parts);
        the reference is the model without them. Later hooks find them by ``models.parts.new_parts_of(model)``.

        Args:
            model: with the parts of earlier requests.
            sets: those that the method draws from.
            seed: of the run.
        """
        return ()

    def prepare(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> nn.Module:
        """Wrap, freeze or build masks before the first step; default: nothing. Runs again before a resume."""
        self.sets = self.draws_from(sets)
        return model

    def rules(self) -> Sequence[Rule]:
        """Rules around its steps (``rules/rule.py``), built anew at each call; default: none.

        They follow from the options alone, before ``prepare``. Those of the run come after them, and hold for the steps
        of repair, too.
        """
        return ()

    def edit(self, model: nn.Module, sets: Mapping[str, ExampleSet]) -> Collection[str]:
        """The whole work of a method with ``edits``, called once, after ``prepare`` and before any stage.

        The model is in eval mode, the random state a function of the run's seed. A process that dies before the first
        checkpoint does it again: the same model and sets must give the same bits.

        Returns:
            Names, as in ``state_dict``, of the tensors that may be others now. One that changed and is not among them
            is an error, as is an edit that changed nothing at all.
        """
        return ()

    def explanation(self) -> Mapping[str, Any]:
        """What its edit did and why, as JSON, for ``edit.json`` and the report; asked after it."""
        return {}

    def edit_ended(self) -> tuple[str, str | None]:
        """How its edit ended, and why short of what it went for, or None; asked after it, of one without steps."""
        return "edited without steps", None

    def stages(self, sizes: Mapping[str, int]) -> Sequence[Stage]:
        """The parts of a run; default: one, and none after an edit. Asked after ``prepare``.

        One that edits is asked before, too, for a request that only unlearns: are there steps at all?

        Args:
            sizes: set -> number of its examples; ``self.planned_epochs`` is what the run plans.
        """
        return () if self.edits else (Stage(),)

    def phases(self, step: int, planned: int) -> Sequence[Phase]:
        """Phases of iteration ``step`` of ``planned``; default: one joint phase over all sets. Empty: no steps."""
        return (Phase("joint", self.sets),)

    def loss(self, model: nn.Module, batches: Mapping[str, Batch], phase: Phase) -> Terms:
        """Terms of one micro-batch: gather tensors, call the pure functions."""
        raise TypeError(f"{type(self).__name__} defines no loss")

    def transform(self, model: nn.Module, phase: Phase) -> None:
        """Change the accumulated gradients in place, before clipping; default: leave them."""

    def update(self, model: nn.Module, phase: Phase, step: Step) -> None:
        """Move the weights by the clipped gradients; default: one optimizer step. Strict masks, slow weights."""
        step()

    def diagnostics(self, learning_rate: float) -> Mapping[str, float]:
        """Numbers about the iteration that just ended at this learning rate, for the log; default: none."""
        return {}

    def state(self) -> Mapping[str, Tensor]:
        """What ``prepare`` cannot rebuild and a resumed run needs, for the checkpoint; default: nothing."""
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Inverse of ``state``; called after ``prepare``."""

    def settle(self, model: nn.Module) -> None:
        """Bring the weights to what would be saved now, before a check and at the end; default: they are."""

    def why_not_kept(self) -> str | None:
        """Why what the steps made is not worth keeping, or None; default: None. Asked once, after the last step.

        Given a reason, the run ends with the model as it was before, without the method's parts, and tells the reason.
        """
        return None

    def finish(self, model: nn.Module) -> nn.Module:
        """Unwrap what ``prepare`` wrapped; default: nothing."""
        return model

    def recall(self, model: nn.Module, batch: Batch) -> Predictions:
        """The reference model's predictions, shown as the batch shows the model's own; for use inside ``loss``.

        Where the run has controls the model that learns decides what is shown: ask it first.
        """
        if self.reference is None:
            raise TypeError(f"{type(self).__name__} asked for a reference it did not declare in reference_sets")
        with torch.no_grad():
            return batch.seen(self.reference.predict(model, batch.bare), picks=False)

    def recall_at(self, model: nn.Module, batch: Batch, place: str) -> Tensor:
        """What a module of the reference model gives, (S, D), shown as the batch shows the model's own."""
        if not isinstance(self.reference, DeepReference):
            raise TypeError(f"{type(self).__name__} asked for outputs that it did not declare in asks_outputs_of")
        with torch.no_grad():
            return batch.shown(self.reference.outputs(model, batch.bare, place))
