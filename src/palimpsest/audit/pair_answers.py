"""What a model with an encoder and a decoder says to the prompts of examples.

Shape legend: T tokens of a prompt, U tokens written so far, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from palimpsest.audit.wording import MORE, NOTHING_SAID, Wording
from palimpsest.data.encode.pairs import PairSet
from palimpsest.errors import DivergedError
from palimpsest.models.loaded import Loaded
from palimpsest.models.modes import asked

SHOWN_TOKENS = 64
"""Most tokens of an answer that are shown."""


def pairs_said(
    loaded: Loaded, examples: PairSet, ids: Sequence[str], told: Callable[[int, int], None]
) -> dict[str, str]:
    """Greedy answers, word for word; as many tokens as the example's own, fewer where the model ends.

    Args:
        loaded: used on the device it is on.
        examples: the set, encoded for this model.
        ids: which of them.
        told: called with (examples done, all examples).

    Raises:
        DivergedError: the model's logits are not finite numbers.
    """
    wording, found = Wording(loaded.tokenizer), {}
    where = next(loaded.model.parameters()).device
    with asked(loaded.model):
        for number, example_id in enumerate(ids, 1):
            batch = examples.batch([example_id]).to(where)
            inputs = batch.inputs()
            prompt = {name: inputs[name] for name in ("input_ids", "attention_mask")}
            length = min(SHOWN_TOKENS, batch.num_scored)
            tokens, ended = _greedy(loaded, prompt, examples.start_id, length, example_id)
            text = wording.text(tokens).strip()
            goes_on = "" if ended or tokens == batch.target_S.tolist() else MORE
            found[example_id] = f"{text}{goes_on}" if text else NOTHING_SAID
            told(number, len(ids))
    return found


def _greedy(
    loaded: Loaded, prompt: dict[str, Tensor], start_id: int, length: int, example_id: str
) -> tuple[list[int], bool]:
    """Tokens without the one that ends them, and whether one did; the prompt is encoded once."""
    model: Any = loaded.model
    encoded = model.get_encoder()(**prompt)
    written_1U = prompt["input_ids"].new_full((1, 1), start_id)
    for _ in range(length):
        logits_V = model(
            encoder_outputs=encoded,
            attention_mask=prompt["attention_mask"],
            decoder_input_ids=written_1U,
            use_cache=False,
        ).logits[0, -1]
        if not bool(logits_V.max().isfinite()):
            raise DivergedError(
                f"the model's logits on example {example_id!r} are not finite numbers; it has no answer"
            )
        token = logits_V.argmax().reshape(1, 1)
        if int(token) in loaded.eos_ids:
            return written_1U[0, 1:].tolist(), True
        written_1U = torch.cat([written_1U, token], 1)
    return written_1U[0, 1:].tolist(), False
