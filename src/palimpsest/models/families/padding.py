"""What fills up a batch of texts, and whether a model minds it.

Shape legend: B rows, T tokens, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from palimpsest.errors import ModelError
from palimpsest.models.causal import TOKENS, probe_rows
from palimpsest.models.modes import asked
from palimpsest.models.text_config import first_inside, most_tokens, vocabulary_of

if TYPE_CHECKING:
    from palimpsest.models.loaded import Loaded

_SHARE = 1e-4  # of the largest logit: other sums are rounded otherwise, and a class read elsewhere differs by far more


def pad_id_of(model: Any) -> int:
    """The token that a model itself takes for padding, else one of its vocabulary."""
    return first_inside([getattr(model.config, "pad_token_id", None), 0], vocabulary_of(model)) or 0


def probe_inputs(model: Any) -> dict[str, Tensor]:
    """Three short rows of ordinary words, whole."""
    length = min(TOKENS, most_tokens(model) or TOKENS)
    rows_BT = probe_rows(vocabulary_of(model) or 2, length, 0)
    return {"input_ids": rows_BT, "attention_mask": torch.ones_like(rows_BT)}


def check_padding(loaded: Loaded) -> None:
    """Refuse a classifier that says something else of a text beside a longer one: its padding would decide.

    Raises:
        ModelError: it does, or takes no batch of texts.
    """
    model = loaded.model
    inputs = probe_inputs(model)
    ids_BT, mask_BT = inputs["input_ids"], inputs["attention_mask"].clone()
    padded_BT = ids_BT.clone()
    padded_BT[0, -2:], mask_BT[0, -2:] = pad_id_of(model), 0
    alone = {"input_ids": ids_BT[:1, :-2], "attention_mask": mask_BT[:1, :-2]}
    one_BK, all_BK = _said(loaded, alone), _said(loaded, {"input_ids": padded_BT, "attention_mask": mask_BT})
    if (one_BK[0] - all_BK[0]).abs().max() > _SHARE * all_BK.abs().max().clamp(min=_SHARE):
        raise ModelError(
            f"model {loaded.source}: says something else of a text that is padded, so what it says would depend on the "
            "others of a batch; accepted: a classifier whose attention leaves padding out"
        )


def _said(loaded: Loaded, inputs: dict[str, Tensor]) -> Tensor:
    where = next(loaded.model.parameters()).device
    try:
        with asked(loaded.model), torch.random.fork_rng():
            logits: Tensor = loaded.model(**{name: tensor.to(where) for name, tensor in inputs.items()}).logits
    except Exception as error:  # whatever a class of the library raises for inputs that are not all it wants
        first = " ".join(str(error).split())[:200]
        raise ModelError(
            f"model {loaded.source}: a {type(loaded.model).__name__} does not take a batch of texts "
            f"({type(error).__name__}: {first}); accepted: one that does, with a pad_token_id in its config.json"
        ) from error
    return logits
