"""Does the saved folder answer as the model that was trained?

What saving or loading drops (a layer that a method added, a hook that does part of the work, an adapter of another
base) shows in no later number: all of them are taken of the folder, which then simply is another model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from palimpsest.contract import ExampleSet
from palimpsest.errors import ModelError, SavedError
from palimpsest.models.load import Loaded, device, load
from palimpsest.models.modes import asked

EXAMPLES = 2  # of each set
_POSITIONS = 16  # of each example, the last ones: they have seen the most; a whole text times a vocabulary is too much
TOLERANCE = 1e-5  # of the largest logit: the same weights in the same sums give the same bits on one device
MERGED_TOLERANCE = 1e-4  # (W + BA)x for Wx + B(Ax): other sums, and fp32 rounds each by 6e-8, layer upon layer
WHAT_TO_DO = "let the method fold what it added into the model's own layers (`finish`), or run without it"

Answers = Mapping[str, Float[Tensor, "S V"]]


def answers(model: Any, sets: Mapping[str, ExampleSet]) -> Answers:
    """Logits of a few examples of every set, one example at a time.

    Args:
        model: on its device; in eval mode for this.
        sets: encoded.

    Returns:
        "set: id" -> logits at its last scored positions, fp32, on the CPU.
    """
    found = {}
    where = next(model.parameters()).device
    exact = torch.backends.cudnn.flags(enabled=torch.backends.cudnn.enabled, allow_tf32=False)
    with asked(model), exact:
        for name, examples in sets.items():
            for example_id in examples.ids[:EXAMPLES]:
                logits_SV = examples.plain().batch([example_id]).to(where).predict(model).logits_SV
                found[f"{name}: {example_id!r}"] = logits_SV[-_POSITIONS:].float().cpu()
    return found


def apart(one_SV: Float[Tensor, "S V"], other_SV: Float[Tensor, "S V"]) -> float:
    """Largest difference of two models' logits, as a share of the largest logit; 0 where both are the same non-number.

    >>> round(apart(torch.tensor([[4.0, 1.0]]), torch.tensor([[4.0, 2.0]])), 4)
    0.25
    """
    if one_SV.shape != other_SV.shape:
        return torch.inf
    same = (one_SV == other_SV) | (one_SV.isnan() & other_SV.isnan())
    largest = torch.cat([one_SV, other_SV]).nan_to_num(0, 0, 0).abs().max().clamp_min(torch.finfo(torch.float32).tiny)
    share = ((one_SV - other_SV).abs() / largest).nan_to_num(torch.inf, posinf=torch.inf)
    return float(share.masked_fill(same, 0).max())


def load_saved(
    folder: Path, trained: Answers, sets: Mapping[str, ExampleSet], *, tolerance: float, tokenizer_needed: bool = True
) -> Loaded:
    """Load what was just saved, and compare its answers with those of the model that was trained.

    Args:
        folder: that was saved.
        trained: ``answers`` of the model as it was trained.
        sets: the same ones.
        tolerance: accepted difference, as a share of the largest logit.
        tokenizer_needed: refuse a model of texts without a tokenizer.

    Returns:
        The model of the folder, on the device.

    Raises:
        SavedError: it does not load, or answers differently.
    """
    try:
        saved = load(folder, tokenizer_needed=tokenizer_needed)
    except ModelError as error:
        raise SavedError(f"what was trained cannot be loaded again from the folder it was saved in: {error}") from error
    saved.model.to(device())
    found = answers(saved.model, sets)
    shares = {name: apart(trained[name], found[name]) for name in trained}
    worst = max(shares, key=shares.__getitem__)
    if shares[worst] > tolerance:
        raise SavedError(
            f"{folder} does not answer as the model that was trained: on {worst} a logit is off by "
            f"{shares[worst]:.1g} of the largest one (accepted: {tolerance:g}); something that was trained is not in "
            f"the folder; {WHAT_TO_DO}"
        )
    return saved
