"""What a family of models must provide. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from palimpsest.errors import DataError
from palimpsest.method_card import Modality
from palimpsest.models.families.yardsticks import Judging
from palimpsest.records import Example

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor, nn

    from palimpsest.data.encode.augment import Augmentation
    from palimpsest.data.encode.batch import Batch
    from palimpsest.data.read.layout import Layout
    from palimpsest.method_card import MethodCard
    from palimpsest.models.loaded import How, Loaded


class Family:
    """One kind of model. Subclass it in ``models/families/<name>.py`` and put an instance into its ``FAMILIES``.

    Class attributes:
        name: of the family.
        takes: the kind of examples, by which methods, metrics and records tell models apart (``method_card.Modality``).
        noun: what messages call such a model, with its article.
        wants: the rows that it takes, for messages.
        metrics: of a run, unless the plan names others; None = the plan's own default.
        alone: metrics of a set without a run (``palimpsest measure``).
        serves: names of ``metrics.metric.Ask`` that it can answer.
        reads_prefixes: is each of its tokens predicted from those before it alone, in one row? Then facts come from the
            teacher-forced pass with its cache, and its texts can be continued and refined.
        joins: are a prompt and its completion one text, with a separator between them?
        level: what tells a row that was never seen: an n-gram "shadow" of texts, or the "classes" that stay.
        judging: the default gates, and by what a set counts as known.
        method: of ``unlearn`` where none is named.
        alternatives: methods that an advice names.
        adapts_head: does a LoRA adapter take its head and its convolutions along, since a class is forgotten there?
        step_rows: examples of a step, and of a step of repair, in a run that finds its own rate; None = as usual.
        things: what one of its examples is called.
        judged_per: what the terms of a bottleneck are means over: "token", as its loss is, or "example".
        says: is what it says to a prompt shown? Not where each token of it would be one more question.
        has_gradient: can what it answers be followed back to its weights and inputs? Else a method must only ask it.
    """

    name: ClassVar[str]
    takes: ClassVar[Modality]
    noun: ClassVar[str]
    wants: ClassVar[str]
    metrics: ClassVar[tuple[str, ...] | None] = None
    alone: ClassVar[tuple[str, ...]]
    serves: ClassVar[frozenset[str]] = frozenset({"TEACHER", "LIKELIHOOD", "MOMENTS", "BESIDE"})
    reads_prefixes: ClassVar[bool] = False
    joins: ClassVar[bool] = True
    level: ClassVar[Literal["shadow", "classes"]]
    judging: ClassVar[Judging]
    method: ClassVar[str]
    alternatives: ClassVar[tuple[str, ...]]
    adapts_head: ClassVar[bool] = False
    step_rows: ClassVar[int | None] = None
    things: ClassVar[str] = "row"
    judged_per: ClassVar[Literal["token", "example"]] = "example"
    has_gradient: ClassVar[bool] = True
    says: ClassVar[bool] = True

    @property
    def has_classes(self) -> bool:
        """Is one class of each example scored, and not tokens?"""
        return self.level == "classes"

    @property
    def adapter_task(self) -> str | None:
        """What PEFT calls its task; None where an adapter needs no more than the model."""
        return None

    def options_of(self, method: MethodCard) -> Mapping[str, Any]:
        """Options of a method that have another default for such a model in a run that finds its own rate."""
        return {}

    def recognises(self, config: Mapping[str, Any]) -> bool:
        """Is a config.json that of one of its models?"""
        raise NotImplementedError

    def has_made(self, model: Any) -> bool:
        """Is a model in memory one of its own?"""
        raise NotImplementedError

    def check_config(self, config: Mapping[str, Any], source: str | Path) -> None:
        """Refuse a model that it recognises and cannot load, before any weight is read; default: none."""

    def load(self, place: str | Path, config: Mapping[str, Any], how: How) -> Loaded:
        """A plain model in eval mode, without its tokenizer."""
        raise NotImplementedError

    def check_loaded(self, loaded: Loaded) -> None:
        """Refuse a model that answers otherwise than its family must; default: none."""

    def num_outputs(self, model: Any) -> int:
        """Words or classes it chooses from."""
        return int(model.config.num_labels)

    def layout(self, layout: Layout) -> Layout:
        """How its rows are read, of what was said of their columns."""
        return layout

    def fits(self, example: Example) -> bool:
        """Can such a model take this kind of example?"""
        raise NotImplementedError

    def refuse_strangers(self, examples: Sequence[Example], model: object) -> None:
        """Refuse examples of another kind.

        Raises:
            DataError: names the first.
        """
        stranger = next((e for e in examples if not self.fits(e)), None)
        if stranger is not None:
            raise DataError(
                f"{stranger.name} is {_kind_of(stranger)} and model {model} {self.noun}; accepted: {self.wants}, or "
                f"{_taker_of(stranger)} as the model"
            )

    def encode(
        self, examples: Sequence[Example], loaded: Loaded, *, max_length: int | None, truncate: bool, separator: str
    ) -> Any:
        """One set as such a model takes it.

        Args:
            examples: of the kind that fits.
            loaded: the model.
            max_length: longest sequence, tokens; None = what the model can take.
            truncate: cut longer ones instead of refusing them.
            separator: between prompt and completion of one text.

        Raises:
            DataError: an example that is nothing for this model.
        """
        raise NotImplementedError

    def together(self, sets: Mapping[str, Any], loaded: Loaded, augment: Augmentation | None) -> dict[str, Any]:
        """All encoded sets of a run, held against each other; default: no text is to be forgotten and to be kept.

        Raises:
            DataError: one is.
        """
        from palimpsest.data.encode.same_tokens import check_tokens_apart

        special = frozenset(getattr(loaded.tokenizer, "all_special_ids", ()))
        check_tokens_apart(sets, special, getattr(loaded.tokenizer, "unk_token_id", None))
        return dict(sets)

    def head(self, model: Any) -> nn.Module | None:
        """The last linear layer, which its outputs leave; None where there is none."""
        raise NotImplementedError

    def features(self, model: Any, batch: Batch) -> Tensor:
        """What enters the head at the scored positions, (S, D), of one forward pass."""
        from palimpsest.models.families.heads import entering

        return batch.gather(entering(self.head(model), model, batch))

    def bottlenecks(self, model: Any) -> tuple[str, ...]:
        """Modules, one after the other, through each of which goes all that is known of a row; where a part can sit."""
        from palimpsest.models.activations import block_names

        return block_names(model)

    def tokens_at(self, place: str, batch: Batch, said: Tensor) -> Tensor:
        """Which positions of what a module said, (B, T, D), are of the rows and no padding, (B, T)."""
        import torch

        mask = batch.inputs().get(self.mask_at(place))
        return torch.ones(said.shape[:2], dtype=torch.bool, device=said.device) if mask is None else mask.bool()

    def mask_at(self, place: str) -> str:
        """Name of the input that tells a module's tokens from padding."""
        return "attention_mask"

    def judged_at(self, place: str, batch: Batch, values: Tensor) -> tuple[Tensor, Tensor]:
        """Of values that a bottleneck gives, (B, T, ...), those by which it is judged, (P, ...), and their shares (P,).

        Default: all tokens of the rows, each row as much as any other.
        """
        is_token_BT = self.tokens_at(place, batch, values)
        share_BT = is_token_BT / is_token_BT.sum(1, keepdim=True)
        return values[is_token_BT], share_BT[is_token_BT].to(values.dtype)

    def probe(self, loaded: Loaded) -> dict[str, Tensor]:
        """A few made-up inputs, the same for every model of its kind, to compare two of them by their logits."""
        raise NotImplementedError


def all_but_last(names: tuple[str, ...]) -> tuple[str, ...]:
    """Of the blocks of a classifier: behind the last one the head may look at one token, and the others are lost.

    >>> all_but_last(("layer.0", "layer.1")), all_but_last(("layer.0",))
    (('layer.0',), ('layer.0',))
    """
    return names[:-1] or names


def class_name_of(model: Any) -> str:
    """Name of a model's class, of one under an adapter that of its base."""
    base = getattr(model, "get_base_model", None)
    return type(model if base is None else base()).__name__


def _kind_of(example: Example) -> str:
    """What an example is, for a message."""
    kinds = {"Image": "an image", "Labelled": "a text with a label"}
    return kinds.get(type(example.content).__name__, "text")


def _taker_of(example: Example) -> str:
    """A kind of model that takes an example, for a message."""
    from palimpsest.models.families import all_families

    return next(family.noun for family in all_families() if family.fits(example))
