"""Two models of one shape, one of them in memory, the other read tensor by tensor: made so from wherever they lie.

after, a plain folder with tensors of the same names      read as it lies
after, a LoRA adapter of the model before, which only adds   its deltas, scaled
after, anything else                                       loaded alone, written out in pieces, read from there

Parts that both have alike stay. Of the others those of the model after come, each times alpha, and those of the model
before go, each times 1 - alpha: between two models that were given different layers both act, and at either end none
but its own.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import torch

from palimpsest.errors import ModelError
from palimpsest.models.adapter_base import adapter_in
from palimpsest.models.adapter_deltas import adapter_tensors, only_adds
from palimpsest.models.deciding import SAID_IN_PASSING
from palimpsest.models.load import Loaded, device, load
from palimpsest.models.mixing import mix_, mixed, not_alike, places_in
from palimpsest.models.parts import attach, detach, parts_of
from palimpsest.models.parts.part import Part
from palimpsest.models.parts.parts_folder import bears_parts
from palimpsest.models.parts.with_parts import read_parts
from palimpsest.models.plain import plain_weights, read_json_object
from palimpsest.models.proportions import tensor_shapes
from palimpsest.models.stored import StoredTensors, Tensors, holds, plain_folder, stored_files, write_out

_MAY_DIFFER = SAID_IN_PASSING | {"architectures", "dtype", "tie_word_embeddings", "torch_dtype", "use_cache"}
_OF_GENERATION = "_token_id"


class ScaledPart(NamedTuple):
    """A part that only one of the two models has, on the model in memory.

    Attributes:
        part: itself.
        learned: the alpha that it has in its own model.
        comes: it is of the model after; else of the model before.
    """

    part: Part
    learned: float
    comes: bool

    def alpha_at(self, alpha: float) -> float:
        """Its own alpha, so far on the way."""
        return self.learned * (alpha if self.comes else 1 - alpha)

    def is_off(self, alpha: float) -> bool:
        """Is it none of the model that lies there?"""
        return alpha == (0 if self.comes else 1)


@dataclass(frozen=True)
class EditedTensor:
    """A tensor of a part that both models have, in which they differ.

    Attributes:
        tensor: in the model in memory.
        before: its values there.
        after: those of the other model.
    """

    tensor: torch.Tensor
    before: torch.Tensor
    after: torch.Tensor

    def go_to(self, alpha: float) -> None:
        """So far to the model after; at 0 to the bit as before."""
        self.tensor.copy_(self.before)
        mix_(self.tensor, self.after, alpha)


@dataclass(frozen=True)
class Mixture:
    """What lies between two models.

    Attributes:
        before: in memory, on its device.
        after: tensors of the other.
        own: tensors of the model before, as they are stored.
        parts: of one of the two alone.
        edited: of parts that both have: tensors that a later edit changed, as they were and as they are.
    """

    before: Loaded
    after: Tensors
    own: Tensors
    parts: tuple[ScaledPart, ...] = ()
    edited: tuple[EditedTensor, ...] = ()

    @contextmanager
    def at(self, alpha: float) -> Iterator[Any]:
        """The module in memory, moved so far to the model after; as ``mixed``."""
        self._scale(alpha)
        try:
            with mixed(self.before, self.after, alpha, own=self.own) as model:
                yield model
        finally:
            self._scale(0.0)

    def _scale(self, alpha: float) -> None:
        for one in self.parts:
            one.part.alpha = one.alpha_at(alpha)
        for edited in self.edited:
            edited.go_to(alpha)

    @contextmanager
    def to_save(self, alpha: float) -> Iterator[Any]:
        """As ``at``, without the parts that are off there: the last thing that is asked of a mixture."""
        with self.at(alpha) as model:
            detach(model, [one.part for one in self.parts if one.is_off(alpha)])
            yield model


def mixture_of(
    before: str | Path, after: str | Path, place: Path, revision: str | None = None, *, tokenizer_needed: bool = True
) -> Mixture:
    """Load the model before, and have the model after at hand beside it.

    Args:
        before: folder, Hub name or plain weights.
        after: the same.
        place: a folder for tensors that have to be written out; made where it is needed.
        revision: commit of a Hub name.
        tokenizer_needed: refuse a causal LM without a tokenizer.

    Raises:
        ModelError: one of them cannot be loaded, or they are not of one shape.
    """
    check_alike(before, after)
    adds, lies_alike = only_adds(after, before, revision), same_names_on_disk(before, after)
    pieces = None if adds or lies_alike else _written_out(after, place / "after", revision)
    loaded = load(before, revision=revision, tokenizer_needed=tokenizer_needed)
    loaded.model.to(device())
    own: Tensors = StoredTensors(stored_files(before))
    if not holds(loaded.model, own):  # names or values that loading changes
        own = write_out(loaded.model, place / "before")
        if lies_alike:
            pieces = _written_out(after, place / "after", revision)
    if adds:
        theirs: Tensors = adapter_tensors(Path(after).expanduser(), loaded.model, own)
    else:
        theirs = StoredTensors(stored_files(after)) if pieces is None else pieces
    places_in(loaded.model, theirs, str(before))
    parts, edited = _scaled_parts(loaded, after)
    return Mixture(loaded, theirs, own, parts, edited)


def _scaled_parts(before: Loaded, after: str | Path) -> tuple[tuple[ScaledPart, ...], tuple[EditedTensor, ...]]:
    """Put the parts that only the model after has on the model before; they do nothing until they are asked to.

    Returns:
        The parts of one of the two alone, and what was edited in those of both.
    """
    folder, earlier = Path(after).expanduser(), parts_of(before.model)
    found = read_parts(folder) if folder.is_dir() and bears_parts(folder) else ()
    alike = takewhile(lambda two: _is_same(*two), zip(earlier, found, strict=False))
    shared = sum(1 for _ in alike)
    going = [ScaledPart(part, part.alpha, comes=False) for part in earlier[shared:]]
    both = zip(earlier[:shared], found[:shared], strict=True)
    return (*going, *_added(before, found[shared:])), tuple(one for two in both for one in _edited_in(*two))


def _added(before: Loaded, found: Sequence[Part]) -> tuple[ScaledPart, ...]:
    """Parts put on a model, where they do nothing yet."""
    coming = tuple(ScaledPart(part, part.alpha, comes=True) for part in found)
    where = next(before.model.parameters()).device
    for part in found:
        part.alpha = 0.0
        part.to(where)
    if found:
        attach(before.model, list(found))
    return coming


def _is_same(one: Part, other: Part) -> bool:
    """But for what its kind lets an edit change."""
    left, right = one.state_dict(), other.state_dict()
    alike = (one.kind, one.alpha, one.config, left.keys()) == (other.kind, other.alpha, other.config, right.keys())
    return alike and all(torch.equal(left[name].cpu(), right[name].cpu()) for name in left if name not in one.mixes)


def _edited_in(one: Part, other: Part) -> list[EditedTensor]:
    left, right = one.state_dict(keep_vars=True), other.state_dict()
    names = [name for name in one.mixes if not torch.equal(left[name].cpu(), right[name].cpu())]
    return [EditedTensor(left[name], left[name].detach().clone(), right[name]) for name in names]


def _written_out(source: str | Path, place: Path, revision: str | None) -> StoredTensors:
    """A model's tensors in files; it is in memory meanwhile, and then no longer."""
    loaded = load(source, revision=revision, tokenizer_needed=False)
    pieces = write_out(loaded.model, place)
    del loaded
    gc.collect()
    return pieces


def same_names_on_disk(one: str | Path, other: str | Path) -> bool:
    """Do two plain folders hold tensors of the same names? Then what reads the one as it is reads the other so."""
    left = stored_files(one)
    return bool(left) and left.keys() == stored_files(other).keys()


def check_alike(before: str | Path, after: str | Path) -> None:
    """Refuse two models that are not of one shape, as far as their folders tell; loads nothing.

    Raises:
        ModelError: names the first difference.
    """
    problem = _other_config(_config_of(before), _config_of(after)) or _other_shape(before, after)
    if problem:
        raise ModelError(not_alike(str(before), problem))


def _config_of(source: str | Path) -> Mapping[str, Any]:
    folder = plain_folder(source)
    plain = not folder.is_dir() or adapter_in(folder) or plain_weights(source) is not None
    return {} if plain else read_json_object(folder / "config.json")


def _other_config(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """What two configurations that both say it say otherwise; empty where nothing is."""
    names = sorted((one.keys() & other.keys()) - _MAY_DIFFER)
    names.sort(key=lambda name: name != "model_type")  # what they are is said before their sizes
    told = (name for name in names if one[name] != other[name] and not name.endswith(_OF_GENERATION))
    name = next(told, None)
    return "" if name is None else f"{name} is {_short(one[name])} in one and {_short(other[name])} in the other"


def _short(value: object) -> str:
    return repr(value)[:40]


def _other_shape(one: str | Path, other: str | Path) -> str:
    left, right = (_shapes(source) for source in (one, other))
    wrong = next((name for name in sorted(left.keys() & right.keys()) if left[name] != right[name]), None)
    return "" if wrong is None else f"{wrong} is {tuple(left[wrong])} in one and {tuple(right[wrong])} in the other"


def _shapes(source: str | Path) -> dict[str, list[int]]:
    return {n: shape for file in {*stored_files(source).values()} for n, shape in tensor_shapes(file).items()}
