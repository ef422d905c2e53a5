"""Parameters that a forward pass never reads: the tower for images of a text model, a mask token, a pooler.

No gradient ever reaches them. They are found before the first step, in the graph of one pass, and left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import torch
from torch import nn

from palimpsest.data.encode.batch import Batch
from palimpsest.errors import ModelError
from palimpsest.models.modes import in_eval_mode
from palimpsest.models.scope import trainable

_NUMBER = re.compile(r"\d+")


def leave_out_unread(model: nn.Module, batches: Iterable[Batch]) -> list[str]:
    """Freeze the trainable parameters that no pass over these batches reads; their names.

    One whose like of another number was read (the 3rd of 8 experts) may be read by other examples, and stays.

    Args:
        model: with its scope applied, on its device.
        batches: a few examples, on any device.

    Raises:
        ModelError: what may move is read nowhere.
    """
    moving = trainable(model)
    read = _read_by(model, batches)
    names = [name for name, parameter in moving.items() if id(parameter) in read]
    if moving and not names:
        raise ModelError(
            f"the forward pass reads none of the {len(moving)} parameters that may move, e.g. {next(iter(moving))}; "
            "give a scope that holds some that it reads (scope.names)"
        )
    alike = {_NUMBER.sub("#", name) for name in names}
    unread = [name for name in moving if _NUMBER.sub("#", name) not in alike]
    for name in unread:
        moving[name].requires_grad_(False)
    return unread


def _read_by(model: nn.Module, batches: Iterable[Batch]) -> set[int]:
    """Identities of the parameters in the graphs of the predictions; nothing is computed backward."""
    device = next(model.parameters()).device
    found: set[int] = set()
    with in_eval_mode(model), torch.enable_grad():
        for batch in batches:
            logits_SV = batch.to(device).predict(model).logits_SV
            found |= _leaves(logits_SV.grad_fn)
    return found


def _leaves(root: torch.autograd.graph.Node | None) -> set[int]:
    found: set[int] = set()
    seen, waiting = {root}, [root]
    while waiting:
        node = waiting.pop()
        if node is None:
            continue
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        new = {parent for parent, _ in node.next_functions} - seen
        seen |= new
        waiting += new
    return found
