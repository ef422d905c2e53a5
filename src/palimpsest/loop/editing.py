"""The edit of a method: its whole work, once, held against what it says that it changes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from accelerate.utils import set_seed
from torch import nn

from palimpsest.contract import ExampleSet, Method
from palimpsest.errors import FrozenError, NothingToEdit
from palimpsest.files import write_atomic
from palimpsest.in_words import so_many
from palimpsest.models.passes import held_by, passes_through
from palimpsest.models.scope import state_digests

EDIT_FILE = "edit.json"


@dataclass(frozen=True)
class Edit:
    """What an edit did.

    Attributes:
        declared: tensors that it named, and those that share their memory.
        changed: tensors whose bits are others now; fewer than declared is no error, an expert may have met no example.
        tokens: positions that went forward meanwhile.
        found: numbers that the method found, for the log.
    """

    declared: int
    changed: int
    tokens: int
    found: Mapping[str, float] = field(default_factory=dict)


def has_edit(method: Method) -> bool:
    """Does it define ``edit``? One without, from before there was such a hook, edits in ``prepare``."""
    return type(method).edit is not Method.edit


def explain_edit(method: Method, folder: Path) -> None:
    """Write beside the model what its edit did and why, where the method says."""
    why = method.explanation()
    if why:
        write_atomic(folder / EDIT_FILE, json.dumps(why, indent=1) + "\n")


def make_edit(method: Method, model: nn.Module, sets: Mapping[str, ExampleSet], *, seed: int) -> Edit:
    """Let a method edit a model, and see what came of it.

    Args:
        method: prepared, with an ``edit``.
        model: on its device, with the scope applied; in eval mode afterwards.
        sets: that the method draws from.
        seed: of the run.

    Raises:
        NothingToEdit: nothing changed.
        FrozenError: something that may not, or that was not declared, did.
    """
    set_seed(seed)
    before = state_digests(model)
    model.eval()
    with passes_through(model, *held_by(method, method.reference)) as passes:
        named = method.edit(model, sets)
    after = state_digests(model)
    changed = {name for name in after if after[name] != before.get(name)}
    declared = _with_aliases(model, named, type(method).__name__)
    _check(model, changed, declared, type(method).__name__)
    return Edit(len(declared), len(changed), passes.tokens, dict(method.diagnostics(0.0)))


def _with_aliases(model: nn.Module, named: Collection[str], who: str) -> set[str]:
    """The names, and those of tensors at the same place: tied weights move together."""
    tensors = model.state_dict()
    strange = [name for name in named if name not in tensors]
    if strange:
        raise FrozenError(
            f"the edit of {who} says that it changed {strange[0]!r}, which the model does not have; "
            "`edit` returns names as in state_dict"
        )
    places = {tensors[name].data_ptr() for name in named}
    return {name for name, tensor in tensors.items() if tensor.data_ptr() in places}


def _check(model: nn.Module, changed: Collection[str], declared: Collection[str], who: str) -> None:
    if not changed:
        raise NothingToEdit(
            f"the edit of {who} changed nothing: every weight is as it was before; give it more to do (its options, "
            "its examples) or a scope that holds what it edits"
        )
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad and name in changed]
    if frozen:
        raise FrozenError(f"the edit of {who} moved {so_many(len(frozen), 'frozen tensor')}, e.g. {frozen[0]}")
    silent = sorted(set(changed) - set(declared))
    if silent:
        raise FrozenError(
            f"the edit of {who} changed {so_many(len(silent), 'tensor')} that it did not name, e.g. {silent[0]}; "
            "`edit` returns the names of all that it changes"
        )
