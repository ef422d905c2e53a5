"""A part: a module beside a model's own, attached at named places, saved in a folder of its own.

A model with parts stays the class it is, with the parameter names it has: a part acts by hooks. What it does is scaled
by ``alpha`` (1 as learned, 0 off) and can be taken away again; one that says how is folded into the plain weights.

On disk: ``part.json`` (kind, options, alpha, who made it) and ``part.safetensors`` (its state dict).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from palimpsest.errors import ModelError
from palimpsest.method_card import Config
from palimpsest.models.places import module_at


class PartConfig(Config):
    """Options of a part: all that its modules are built from, and where they sit."""

    at: str = Field(min_length=1)
    """Name of the module of the model whose output it changes, e.g. model.layers.3.mlp."""


class Part(nn.Module):
    """One kind of part. Subclass it in ``models/parts/<kind>.py`` and set ``PART``.

    Most kinds give ``forward``: what is added to the output of the module at ``config.at`` (at alpha = 1). One that
    replaces an output gives ``acting``; one that sits elsewhere (at the input, at the logits, in several places) gives
    ``places`` or ``attach``, and hands every hook that it registers to ``holds``.

    ``__init__`` takes the options alone and builds every tensor from them: that is how a folder is read. Draw what is
    random there, from torch's own generator, which the engine seeds.

    Class attributes:
        Config: its options; a ``PartConfig`` where it has one place.
        kind: its name, that of its file.
        folds_when_saved: a version that is saved tries to fold it first; False keeps it beside the weights.
        mixes: names of its tensors that an edit may change later; between two versions that differ in them they are
            mixed like weights (``models/mixture.py``).
        hides: it keeps what the weights still know from being said, so that whoever takes it off has that again.
        of_images: it acts on the images that a whole model is given, or on the classes that it says.
        keeps: what it holds of the rows that were forgotten, in words; "" where that is nothing, or nobody says.

    Attributes:
        config: its options.
        alpha: factor of what it does: 1 as learned, 0 off.
        made_by: who made it, e.g. {"method": "eul", "run": first half of a plan's digest}; decides no answer.
        is_new: made by the run at hand, so that it moves and its being off is the model before.
        continues: made by an earlier run and trained on by this one, so that it stays where nothing moved.
    """

    Config: ClassVar[type[Config]] = PartConfig
    kind: ClassVar[str] = ""
    folds_when_saved: bool = True
    mixes: ClassVar[tuple[str, ...]] = ()
    hides: ClassVar[bool] = False
    of_images: ClassVar[bool] = False
    keeps: ClassVar[str] = ""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.alpha = 1.0
        self.made_by: Mapping[str, str] = {}
        self.is_new = False
        self.continues = False
        self.times_off = 0  # `off` may be nested
        self._handles: list[Any] = []

    @classmethod
    def example(cls, at: str, width: int) -> Any:
        """Options of a small one, with which the battery of tests/contract/test_parts.py tries every kind.

        Args:
            at: name of a linear layer.
            width: numbers that leave it, and enter it.
        """
        return cls.Config.model_validate({"at": at, "width": width})

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the modules of the model at which it acts."""
        return (self.config.at,)

    @property
    def positions_taken(self) -> int:
        """Of the positions that the model has for a text: so many fewer are left."""
        return 0

    @property
    def is_off(self) -> bool:
        """Does it leave the model alone for now?"""
        return self.times_off > 0 or self.alpha == 0

    def attach(self, model: nn.Module) -> None:
        """Act on a model from now on, on its device and in its dtype; ``attach`` of the package calls this.

        Raises:
            ModelError: the model has no module of that name.
        """
        for place in self.places:
            module = module_at(model, place, f"part {self.kind!r}")
            like = next(module.parameters(), next(model.parameters()))
            self.to(device=like.device, dtype=like.dtype)
            self.holds(module.register_forward_hook(self._after))

    def holds(self, handle: Any) -> None:
        """Remember a hook, which ``detach`` removes."""
        self._handles.append(handle)

    def detach(self) -> None:
        """Act on no model any more."""
        while self._handles:
            self._handles.pop().remove()

    def acting(self, said: Tensor) -> Tensor:
        """What the output of a module becomes; default: ``forward`` is added, times alpha.

        Args:
            said: (..., D), what the module answered.
        """
        change: Tensor = self(said)
        return said + (change if self.alpha == 1 else self.alpha * change)

    def undo(self, request: int) -> None:
        """Take back what a request changed in it, by the number of the request; default: no request changes it.

        Raises:
            ModelError: it cannot, or there is no such request.
        """
        where = ", ".join(self.places)
        raise ModelError(f"part {self.kind!r} at {where}: no request in it can be undone; accepted: remove the part")

    def fold(self, model: nn.Module) -> bool:
        """Make the plain weights do what this part does, only where that is exact, times alpha.

        Args:
            model: without any hook of this part, and without one that acts between its place and the weights.

        Returns:
            Whether it was done; False leaves every weight as it is.
        """
        return False

    def _after(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """A forward hook: the output, or the first of several, as the part makes it."""
        if self.is_off:
            return None
        if isinstance(output, Tensor):
            return self.acting(output)
        if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
            return (self.acting(output[0]), *output[1:])
        raise ModelError(
            f"part {self.kind!r} at {', '.join(self.places)}: that module answers with a {type(output).__name__}; "
            "accepted: a module that answers with a tensor, or a tuple that begins with one"
        )
