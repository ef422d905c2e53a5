"""Does a model see later tokens? One forward pass over three short rows tells.

``AutoModelForCausalLM`` also loads encoders such as BERT, and classes whose masks were lost. Each of their positions
has its own label in view, so what they "remember" is what they are shown.

Shape legend: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from palimpsest.errors import ModelError
from palimpsest.models.modes import asked
from palimpsest.models.text_config import most_tokens, vocabulary_of

TOKENS = 6
TRIES = 2  # rounding may send a token to another expert, once; a model that sees later tokens does so every time
_SHARE = 1e-5  # of the largest logit, or four roundings of its dtype: rows of one pass are computed alike


def check_causal(model: Any, source: object) -> None:
    """Refuse a model whose logits depend on later tokens, or on nothing that a second pass would repeat.

    Args:
        model: a causal LM, on any device; every layer's mode is as before afterwards.
        source: what to call it.

    Raises:
        ModelError: it does, or it takes no plain text.
    """
    vocabulary = vocabulary_of(model)
    if vocabulary is None or vocabulary < 2:
        return
    length = min(TOKENS, most_tokens(model) or TOKENS)
    for attempt in range(TRIES):
        same, later = _gaps(_answers(model, probe_rows(vocabulary, length, attempt), source))
        if same and later:
            return
    if not same:
        raise ModelError(
            f"model {source}: answers one text otherwise each time, in eval mode too; accepted: a causal LM whose "
            "answers repeat"
        )
    raise ModelError(
        f"model {source}: what it says of a token depends on later tokens, so nothing of what it remembers could be "
        "told from what it is shown; accepted: a causal LM (of an encoder class, one saved with is_decoder = true)"
    )


def probe_rows(vocabulary: int, length: int, attempt: int) -> Int[Tensor, "B T"]:
    """Three rows of ordinary words: two alike, and one that ends otherwise.

    >>> probe_rows(100, 3, 0).tolist()
    [[50, 53, 56], [50, 53, 56], [50, 53, 57]]
    """
    first = vocabulary // 2 + 7 * attempt
    rows_BT = torch.tensor([[(first + 3 * t) % vocabulary for t in range(length)]] * 3)
    rows_BT[2, -1] = (rows_BT[2, -1] + 1) % vocabulary
    return rows_BT


def _answers(model: Any, rows_BT: Int[Tensor, "B T"], source: object) -> Float[Tensor, "B T V"]:
    rows_BT = rows_BT.to(next(model.parameters()).device)
    try:
        with asked(model), torch.random.fork_rng():
            output = model(input_ids=rows_BT, attention_mask=torch.ones_like(rows_BT), use_cache=False)
            logits_BTV: Tensor = output.logits
    except Exception as error:  # whatever a class of the library raises for inputs that are not all it wants
        first = " ".join(str(error).split())[:200]
        raise ModelError(
            f"model {source}: a {type(model).__name__} does not take a plain text ({type(error).__name__}: {first}); "
            "accepted: a causal LM"
        ) from error
    return logits_BTV


def _gaps(logits_BTV: Float[Tensor, "B T V"]) -> tuple[bool, bool]:
    """Do the two rows that are alike agree, and the third with them before its last token? Of no number: yes."""
    share = max(_SHARE, 4 * torch.finfo(logits_BTV.dtype).eps)
    allowed = share * logits_BTV.abs().amax()
    same = (logits_BTV[0] - logits_BTV[1]).abs().amax() > allowed
    later = (logits_BTV[0] - logits_BTV[2])[:-1].abs().amax() > allowed
    return not bool(same), not bool(later)
